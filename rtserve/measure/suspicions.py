"""Which detectors are asked about two sides of a comparison, and about the windows they are scored on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from rtserve.measure import detectors
from rtserve.measure.side_standing import side_standing, with_seeds
from rtserve.measure.sides import Claim, Side
from rtserve.measure.signature import Signature
from rtserve.measure.standing import together
from rtserve.measure.statistics import Difference
from rtserve.signals.windows import Stated, load_windows

__all__ = ["alike", "leaks", "suspicions"]

_NOTHING = Stated()


def alike(first: Sequence[Claim], second: Sequence[Claim]) -> list[tuple[Claim, Claim]]:
    """Return pairs of claims that a hurried reader would subtract: same last word of the name, or both a loss.

    Two signed claims of different metrics are a pair only where neither has its own counterpart on the other side.
    """
    pairs = [(a, b) for a, b in product(first, second) if _word(a) == _word(b)]
    matched = {id(claim) for pair in pairs for claim in pair}

    def tempting(a: Claim, b: Claim) -> bool:
        signed = a.signature is not None and b.signature is not None
        return detectors.is_loss(a) and detectors.is_loss(b) and not (signed and matched & {id(a), id(b)})

    return pairs + [(a, b) for a, b in product(first, second) if _word(a) != _word(b) and tempting(a, b)]


def _word(claim: Claim) -> str:
    return claim.signature.metric if claim.signature else claim.name.rpartition(".")[2].lower()


def leaks(data: str | Path, train: str | Path | None, stated: Stated = _NOTHING) -> list[str]:
    """Return warnings about subjects and windows that are where they were trained on; `stated` is what `data` lacks."""
    test = load_windows(data, stated=stated)
    found = [detectors.subjects_across_splits(test)]
    if train is not None:
        known = load_windows(train)
        known = known if known.unit else load_windows(train, stated=Stated(unit=stated.unit or test.unit))
        found += [detectors.shared_windows(known, test), detectors.shared_subjects(known, test)]
    return [warning for warning in found if warning]


def suspicions(
    stated: Sequence[Side], scored: Sequence[Side], differences: Sequence[tuple[Signature, Difference]]
) -> list[str]:
    """Return every warning about two sides as stated and, where they were scored again, as scored; none twice."""
    found = [*_about_identity(stated), *_about_numbers(stated, scored, stated_count=not differences)]
    raws = [side.raw for side in scored]
    if raws[0] and raws[1]:
        found.append(detectors.identical_predictions(raws[0].predictions, raws[1].predictions, names=("A", "B")))
    tested = {raw.data for raw in raws if raw}
    for name, side in zip("AB", stated, strict=True):
        if side.trained_on and any(data.startswith(side.trained_on) for data in tested):
            found.append(f"{name} was trained on a part of exactly these windows (data {side.trained_on[:12]})")
    return list(dict.fromkeys(warning for warning in found if warning))


def _about_identity(stated: Sequence[Side]) -> list[str | None]:
    first, second = stated
    found: list[str | None] = []
    if first.architecture and second.architecture and first.architecture != second.architecture:
        found.append(f"the architectures differ: {first.architecture} against {second.architecture}")
    if first.parameters and second.parameters and first.parameters != second.parameters:
        found.append(f"the parameter counts differ: {first.parameters:,} against {second.parameters:,}")
    if first.digest and first.digest == second.digest:
        found.append(f"A and B are the same bytes (sha256 {first.digest[:12]})")
    if first.cost and second.cost:
        found.append(detectors.faster_with_more_work(first.cost, second.cost))
    return found


def _about_numbers(stated: Sequence[Side], scored: Sequence[Side], *, stated_count: bool) -> list[str | None]:
    found: list[str | None] = []
    for a, b in alike(stated[0].claims, stated[1].claims):
        found += [detectors.half_or_double(a, b), detectors.equal_to_six_digits(a, b)]
    if stated_count:
        found += [detectors.predicts_the_mean(claim) for side in stated for claim in side.claims if side.raw is None]
    for name, before, side in zip("AB", stated, scored, strict=True):
        found += [f"{name}: {note}" for note in _mean_notes(before, side)]
    return found


def _mean_notes(stated: Side, scored: Side) -> list[str]:
    """Return a warning for all that was scored on predictions at hand and is no better than the constant.

    A side that was scored again is its one prediction; a run as it is stored is each of its seeds, and their mean.
    """
    sides = [scored] if scored is not stated else with_seeds(stated)
    found = together([side_standing(one) for one in sides], "predictions of one side")
    return [
        f"{one.name}: {where.sentence()}" if len(sides) > 1 else where.sentence()
        for one, where in zip(sides, found, strict=True)
        if where is not None and where.side <= 0
    ]
