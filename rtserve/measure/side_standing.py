"""Where the predictions that a side stores stand against the constant: its own, and each seed's of a run."""

from __future__ import annotations

from collections.abc import Sequence

from rtserve.errors import InputError
from rtserve.measure.cases import Cases
from rtserve.measure.metrics import metric_of
from rtserve.measure.sides import Side, read_side
from rtserve.measure.signature import Signature
from rtserve.measure.standing import Standing, standing

__all__ = ["side_standing", "standing_in", "with_seeds"]


def with_seeds(side: Side) -> list[Side]:
    """Return a run's seeds before the run itself, whose predictions are the mean of theirs; any other side alone."""
    folders = sorted(side.path.glob("seed*/best.pth")) if side.kind == "run" else []
    return [*(read_side(file.parent) for file in folders), side] if len(folders) > 1 else [side]


def side_standing(side: Side) -> Standing | None:
    """Return where a side's own predictions stand, or None where it stores none or states no score they belong to."""
    if side.raw is None:
        return None
    return standing_in(side.raw.cases(), [claim.signature for claim in side.claims if claim.signature])


def standing_in(cases: Cases, signatures: Sequence[Signature]) -> Standing | None:
    """Return where cases stand by the first of the metrics in which a constant has a score; None where none is one."""
    for signature in signatures:
        metric = metric_of(signature)
        try:
            bound = metric.on(cases.columns) if metric is not None else None
            found = None if bound is None else standing(bound, cases.y, cases.read(bound), cases.units)
        except InputError:
            continue
        if found is not None:
            return found
    return None
