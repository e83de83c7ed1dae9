"""Where the predictions that a side stores stand against the constant: its own, and each seed's of a run."""

from __future__ import annotations

from collections.abc import Sequence

from rtserve.errors import InputError
from rtserve.measure.cases import Cases
from rtserve.measure.metrics import metric_of
from rtserve.measure.sides import Claim, Side, read_side
from rtserve.measure.signature import Signature
from rtserve.measure.standing import Standing, standing

__all__ = ["headline", "side_standing", "standing_in", "with_seeds"]


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
