"""What a paired test of these people would have found: the smallest difference seen four times of five.

Simulated under the rule that the verdict uses: people are drawn from those at hand, each with the influence that they
have on the difference, shifted to a true difference; the test swaps the two predictions of whole people and asks
Student's interval as well. The size is where 80 % of the simulated studies find it.
"""

from __future__ import annotations

import numpy as np

__all__ = ["POWER", "detectable", "smallest_p"]

POWER = 0.8
_STUDIES = 300
_SWAPS = 160
_EXACT_UNITS = 200
"""With more units the swaps' threshold is Student's."""
_STEPS = 7

Array = np.ndarray


def smallest_p(units: int) -> float:
    """Return the smallest two-sided p that swapping the predictions of so many units can give."""
    return float(min(1.0, 2.0 ** (1 - units)))


def detectable(influence: Array, *, level: float, stricter: float = 1.0, seed: int = 0) -> float:
    """Return the difference that is found with a probability of `POWER`; infinite where none can be.

    Parameters
    ----------
    influence : ndarray, (n_units,)
        Of each unit on the difference; they add up to about nothing.
    level : float
        Of the interval; the test's is ``1 - level``.
    stricter : float
        How much larger than for a single verdict the difference must be, in a family of several.
    seed : int
        Of the simulated studies.
    """
    from scipy import stats

    count = len(influence)
    if smallest_p(count) > 1 - level or not np.isfinite(influence).all():
        return float("inf")
    spread = influence * count * np.sqrt(count / (count - 1))
    error = float(spread.std()) / np.sqrt(count)
    if error == 0:
        return 0.0
    t = float(stats.t.ppf((1 + level) / 2, count - 1))
    if count > _EXACT_UNITS:
        return float(error * (t * stricter + stats.norm.ppf(POWER)))
    rng = np.random.default_rng(seed)
    drawn = spread[rng.integers(0, count, size=(_STUDIES, count))]
    signs = rng.choice([-1.0, 1.0], size=(_SWAPS, count))

    def found(size: float) -> float:
        shares = [_found(drawn + side * size, side, signs, level, t, stricter) for side in (-1.0, 1.0)]
        return float(np.mean(shares))

    low, high = 0.0, error * (t * stricter + 1.0)
    while found(high) < POWER:
        low, high = high, 1.5 * high
        if high > 1e3 * error:
            return float("inf")
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) >= POWER else (middle, high)
    return float(high)


def _found(studies: Array, side: float, signs: Array, level: float, t: float, stricter: float) -> float:
    """Return the share of studies (n_studies, n_units) whose mean both the swaps and Student's interval call real."""
    count = studies.shape[1]
    mean = studies.mean(axis=1)
    swapped = np.abs(studies @ signs.T) / count
    rank = min(round(level * swapped.shape[1]), swapped.shape[1] - 1)
    threshold = np.partition(swapped, rank, axis=1)[:, rank] * stricter
    student = t * studies.std(axis=1, ddof=1) / np.sqrt(count)
    return float(np.mean((side * mean > threshold) & (side * mean > student)))
