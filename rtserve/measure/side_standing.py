"""Where what a side stores stands against the constant: its predictions, each seed's of a run, a verdict with its p."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rtserve.errors import InputError
from rtserve.measure.cases import Cases
from rtserve.measure.metrics import metric_of
from rtserve.measure.sides import Claim, Side, read_side
from rtserve.measure.signature import Interval, Score, Signature
from rtserve.measure.standing import GUESSED, Standing, standing, standing_of

__all__ = ["headline", "side_standing", "standing_in", "stored_standing", "with_seeds"]


def with_seeds(side: Side) -> list[Side]:
    """Return a run's seeds before the run itself, whose predictions are the mean of theirs; any other side alone."""
    folders = sorted(side.path.glob("seed*/best.pth")) if side.kind == "run" else []
    return [*(read_side(file.parent) for file in folders), side] if len(folders) > 1 else [side]


def side_standing(side: Side) -> Standing | None:
    """Return where a side's own predictions stand, or None where it stores none or states no score they belong to.

    It is told by the number that a table of attempts shows, `headline`.
    """
    if side.raw is None:
        return None
    first = headline(side.claims)
    claims = [first, *side.claims] if first else list(side.claims)
    return standing_in(side.raw.cases(), [claim.signature for claim in claims if claim.signature])


def headline(claims: Sequence[Claim]) -> Claim | None:
    """Return the number to show: a signed NRMSE, else a signed one, else any."""
    signed = [c for c in claims if c.signature]
    nrmse = [c for c in signed if c.signature and c.signature.metric == "nrmse"]
    return next(iter([*nrmse, *signed, *claims]), None)


def standing_in(cases: Cases, signatures: Sequence[Signature]) -> Standing | None:
    """Return where cases stand by the first of the metrics that can be computed of them; None where none can."""
    for signature in signatures:
        metric = metric_of(signature)
        if metric is None:
            continue
        try:
            bound = metric.on(cases.columns)
            return standing(bound, cases.y, cases.read(bound), cases.units)
        except InputError:
            continue
    return None


def stored_standing(document: Mapping[str, Any]) -> Standing | None:
    """Return what an evaluation stored of its first score's standing, with its p; older ones stored the interval alone.

    None where it does not say enough: older ones have the constant's score alone.
    """
    score = Score.from_dict(document["scores"][0])
    told, constant = (document.get("against_constant") or [None])[0], document["baseline"][0]
    metric, plain = metric_of(score.signature), standing_of(score)
    known = constant["value"] if constant and metric and metric.name not in GUESSED else None
    against = (told or {}).get("against", known)
    if not told or against is None or metric is None:
        return replace(plain, p=told.get("p")) if plain and told else plain
    ratio = told.get("ratio")
    return Standing(
        metric=told["metric"],
        value=score.value,
        constant=against,
        interval=score.interval,
        higher_is_better=metric.higher_is_better,
        p=told.get("p"),
        ratio=Interval.from_dict(ratio) if ratio else None,
        unrelated=bool(told.get("unrelated", metric.unrelated is not None)),
    )
