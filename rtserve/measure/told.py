"""What a choice is worth on people who had no say in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rtserve.measure.candidates import Candidate
from rtserve.measure.chooser import Chooser
from rtserve.measure.signature import Interval, Signature
from rtserve.measure.statistics import RESAMPLES, Difference, Units, difference, interval
from rtserve.measure.untouched import Untouched

__all__ = ["Told", "tell"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """The worth of a choice.

    Parameters
    ----------
    gain : Difference
        The choice against the best single member, chosen on the same windows. Without an interval and a p where no
        people were untouched.
    value : float
        The choice's metric.
    interval : Interval or None
        Of that.
    signature : Signature
        Of that.
    notes : tuple of str
        What a reader must know before believing them.
    """

    gain: Difference
    value: float
    interval: Interval | None
    signature: Signature
    notes: tuple[str, ...] = ()


def tell(
    chooser: Chooser,
    best: Candidate,
    single: Candidate,
    parts: Untouched,
    *,
    split: str = "all",
    resamples: int = RESAMPLES,
) -> Told:
    """Return the worth of a choice on the untouched windows, or by nested cross-validation where there are none.

    Parameters
    ----------
    chooser : Chooser
        That chose.
    best, single : Candidate
        The choice and the best single member on the windows chosen on.
    parts : Untouched
        Chosen on and told on.
    split : str
        What the signature calls the windows that are told on.
    resamples : int
        Of the bootstrap.
    """
    if not len(parts.told_on):
        return _nested(chooser, resamples, split=split)
    index, seed = parts.told_on, chooser.seed
    pool, metric = chooser.pool, chooser.pool.on(chooser.metric, index)
    y, p, alone = (np.asarray(a, np.float64)[index] for a in (pool.windows.y, pool.predict(best), pool.predict(single)))
    return Told(
        gain=difference(metric, y, alone, p, parts.units, resamples=resamples, seed=seed),
        value=metric(y, p),
        interval=interval(metric, y, p, parts.units, resamples=resamples, seed=seed),
        signature=metric.signature(n=len(y), data=pool.windows.take(index).digest, split=split),
        notes=parts.units.caveats(),
    )


def _nested(chooser: Chooser, resamples: int, *, split: str) -> Told:
    """Return the estimate of nested cross-validation, which has no interval."""
    pool = chooser.pool
    metric = pool.on(chooser.metric, np.arange(len(pool.windows)))
    y = pool.windows.y.astype(np.float64)
    chosen, alone = chooser.held_out()
    units = Units.of(pool.windows.subject, len(pool.windows))
    found = difference(metric, y, alone, chosen, units, resamples=min(resamples, 2), seed=chooser.seed)
    note = (
        "no one was set aside: the gain is of folds that share the people they choose on, so it has no interval and no"
        " verdict"
    )
    return Told(
        gain=replace(found, interval=None, p=float("nan"), swaps=None),
        value=metric(y, chosen),
        interval=None,
        signature=metric.signature(n=len(y), data=pool.windows.digest, split=split),
        notes=(note, *units.caveats()),
    )
