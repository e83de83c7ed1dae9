"""Heavy tails: errors whose squares have no variance, and a few noisy people who have most of the windows.

Two things make an interval too short that no resampling of the people at hand can mend by itself. Where the tail index
of the errors is under twice their power in the metric, the metric's variance does not exist (Student's t with three
degrees of freedom has an index of 3, and a squared error needs more than 4): the interval is marked. Where the people
with large errors have as many windows as others or more, the upper tail of the population is hardly in the sample: the
upper end is then that of a lognormal population as well (Cox's interval, Zhou and Gao 1997), for the ratio of two sums.
"""

from __future__ import annotations

import numpy as np

from rtserve.measure.resampling import Units

__all__ = ["HEAVY", "heavy", "lognormal_upper", "tail_index"]

HEAVY = "heavy tails: too short"
MIN_TAIL = 15
MIN_WINDOWS = 500
"""With fewer the tail is a dozen errors: its index is not known."""
MAX_SHARE = 0.15
"""Of one window in the sum whose limit the variance is: it sinks to nothing where that limit exists."""
TAIL = 0.025
_MIN_OF_UNIT = 5
_RELATED = -0.5
"""Rank correlation of a person's error with its weight, in standard errors, from which the lognormal end counts: it is
left out where people with larger errors plainly have fewer windows, and what is rare then weighs little."""
_PRIOR_WINDOWS = 0.25

Array = np.ndarray


def tail_index(errors: Array, units: Units) -> float | None:
    """Return Hill's index (1975) of the largest errors, each in units of its person's median error.

    None where there are under `MIN_WINDOWS` errors. A Gaussian gives about 6, Student's t its degrees of freedom.

    Parameters
    ----------
    errors : ndarray, (n_windows,)
        Predictions less targets.
    units : Units
        Whose they are.
    """
    size = np.abs(np.asarray(errors, np.float64))
    if units.over == "subjects":
        size = _scaled(size, units)
    size = np.sort(size[size > 0])[::-1]
    if len(size) < MIN_WINDOWS:
        return None
    count = max(MIN_TAIL, int(TAIL * len(size)))
    spread = float(np.mean(np.log(size[:count] / size[count])))
    return 1.0 / spread if spread > 0 else float("inf")


def _scaled(size: Array, units: Units) -> Array:
    """Return the sizes over the median of their own unit; units of too few windows are left out."""
    order = np.argsort(units.index, kind="stable")
    parts = np.split(size[order], np.cumsum(np.bincount(units.index, minlength=units.count))[:-1])
    kept = [part / np.median(part) for part in parts if len(part) >= _MIN_OF_UNIT and np.median(part) > 0]
    return np.concatenate(kept) if kept else np.empty(0)


def heavy(errors: Array, units: Units, order: int) -> bool:
    """Whether the errors to the power `order` have no variance, as far as their tail shows; 0 asks nothing.

    Two signs must agree: the tail index of the errors is under ``2 * order``, and one window has more than `MAX_SHARE`
    of the sum of errors to that power (the max-to-sum ratio, which goes to 0 where the moment exists). Response times
    have a long left tail that ends at 0 s: they have the first sign at times, the second never.
    """
    if not order:
        return False
    powers = np.abs(np.asarray(errors, np.float64)) ** (2 * order)
    total = float(powers.sum())
    if len(powers) < MIN_WINDOWS or not total > 0 or powers.max() / total <= MAX_SHARE:
        return False
    index = tail_index(errors, units)
    return index is not None and index < 2 * order


def lognormal_upper(above: Array, below: Array, windows: int, level: float) -> float | None:
    """Return the upper end for ``sum(above) / sum(below)`` in a lognormal population of units.

    None where errors are smaller in the units of more weight, or a unit has none.

    Parameters
    ----------
    above, below : ndarray, (n_units,)
        Sums of each unit.
    windows : int
        How many windows they are of: a quarter of one is added to each unit, so that a unit of one window does not
        pass for one without error.
    level : float
        Coverage of the two-sided interval.
    """
    from scipy import stats

    count = len(above)
    if count < 3 or not (above > 0).all() or not (below > 0).all():
        return None
    varied = np.ptp(below) > 0 and np.ptp(above / below) > 0
    related = stats.spearmanr(above / below, below).statistic if varied else 0.0
    if not related * np.sqrt(count - 1) > _RELATED:
        return None
    little = _PRIOR_WINDOWS * below.sum() / windows
    a, b = np.log(above + little * above.sum() / below.sum()), np.log(below + little)
    c = np.cov(a, b)
    half = c[0, 0] - c[1, 1]
    spread = half**2 + 2 * max(c[0, 0] * c[1, 1] - c[0, 1] ** 2, 0.0)
    error = np.sqrt((c[0, 0] + c[1, 1] - 2 * c[0, 1]) / count + spread / (2 * (count - 1)))
    return float(np.exp(np.mean(a - b) + half / 2 + stats.t.ppf((1 + level) / 2, count - 1) * error))
