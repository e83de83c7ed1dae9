"""Where the predictions that a side stores stand against the constant: its own, and each seed's of a run."""

from __future__ import annotations

from rtserve.measure.metrics import METRICS
from rtserve.measure.sides import Side, read_side
from rtserve.measure.signature import Signature
from rtserve.measure.standing import Standing, standing
from rtserve.measure.statistics import Units

__all__ = ["side_standing", "with_seeds"]


def with_seeds(side: Side) -> list[Side]:
    """Return a run's seeds before the run itself, whose predictions are the mean of theirs; any other side alone."""
    folders = sorted(side.path.glob("seed*/best.pth")) if side.kind == "run" else []
    return [*(read_side(file.parent) for file in folders), side] if len(folders) > 1 else [side]


def side_standing(side: Side) -> Standing | None:
    """Return where a side's own predictions stand, or None where it stores none or states no score they belong to."""
    if side.raw is None:
        return None
    name = next((_name(c.signature) for c in side.claims if c.signature and _name(c.signature)), "")
    if not name:
        return None
    units = Units.of(side.raw.subject, len(side.raw.targets))
    return standing(METRICS[name], side.raw.targets, side.raw.predictions, units)


def _name(signature: Signature) -> str:
    """Return the metric's name in METRICS where the constant has a score of its own in it."""
    if signature.metric == "nrmse" and ("norm", "std") in signature.options:
        return "nrmse"
    return "balanced_accuracy" if signature.metric == "balanced_accuracy" else ""
