r"""What a paired test of these people would have found: the smallest difference seen four times of five.

Simulated under the rule that the verdict uses: people are drawn from those at hand, each with the influence that they
have on the difference, and gain by a true difference; the test swaps the two predictions of whole people and asks the
interval as well. A person gains in proportion to its windows, and people gain unequally: an improvement that is the
same for everyone is easier to find than any that there is. The size is where 80 % of the simulated studies find it.

**How unequally.** Of two calibrated predictors whose squared errors differ by :math:`\Delta`, one explaining what the
other does and more, the predictions differ by :math:`\Delta` in mean square. What people differ in comes from that
difference of predictions, so a true difference adds variance in proportion to itself, not to its square: with
:math:`\sigma` the spread of people without one, :math:`\sigma^2(b) = \sigma^2 (1 + \kappa\, b / \sigma)`. Were it the
square, a large difference could not be found in few people, and it is.

**At least.** The size is worked out from the people of one study, who happen to be alike or unlike, and who say little of
what a true difference does to their spread. Stated as it comes out, it was found in 70 to 78 % of new studies. A statement
that something would have been found is right where it is found at least that often, so it is made larger (`surer`), until
new studies find what another study states in 80 % (``benchmarks/coverage.py``; the constants are of studies of other seeds).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["POWER", "detectable", "smallest_p"]

POWER = 0.8
UNEQUAL = 0.4
"""kappa above. Not fitted to the share that is found but measured as what it is, the growth of the spread of people with a
true difference: 0.33 to 0.49 over differences of 0.05 and 0.1 in 200 simulated studies each of 10 people x 60 trials, 19 x
13, 19 x 62 and 40 x 60."""
NEAR = 1.05
"""Length of an interval towards no difference, in half its whole length, where there is one: people with large errors gain
more, so the ends are not alike. Measured in the same studies: 1.03 to 1.07."""
_STUDIES = 300
_SURER, _SURER_FEW = 1.2, 1.5
_SWAPS = 160
_EXACT_UNITS = 200
"""With more units the swaps' threshold is Student's."""
_STEPS = 7

Array = np.ndarray


def smallest_p(units: int) -> float:
    """Return the smallest two-sided p that swapping the predictions of so many units can give."""
    return float(min(1.0, 2.0 ** (1 - units)))


def surer(units: int) -> float:
    """Return how much larger than what one study of so many units works out a size is stated.

    Measured as what 80 % need: 300 simulated studies of response times each with a true difference as large as another
    study stated, of 8 x 60 trials to 19 x 62. Of 8 people 80 % find 1.31 times what is worked out, of 10 1.30, of 15
    1.26, of 19 1.10 to 1.21. It falls with people, because what one study works out varies less.
    """
    return _SURER + _SURER_FEW / units


def detectable(
    influence: Array,
    *,
    level: float,
    weight: Array | None = None,
    wider: float = 1.0,
    between: float = 1.0,
    stricter: float = 1.0,
    seed: int = 0,
) -> float:
    """Return a difference that is found with a probability of at least `POWER`; infinite where none can be.

    Parameters
    ----------
    influence : ndarray, (n_units,)
        Of each unit on the difference; they add up to about nothing.
    level : float
        Of the interval; the test's is ``1 - level``.
    weight : ndarray, (n_units,), optional
        Share of the windows that each unit has; equal ones by default.
    wider : float
        Length of the interval that is printed, in Student's.
    between : float
        Standard error by leaving each unit out, in what influences show: how much more studies differ.
    stricter : float
        How much larger than for a single verdict the difference must be, in a family of several.
    seed : int
        Of the simulated studies.
    """
    from scipy import stats

    count = len(influence)
    if smallest_p(count) > 1 - level or not np.isfinite(influence).all():
        return float("inf")
    weight = np.full(count, 1 / count) if weight is None else weight
    spread = influence * np.sqrt(count / (count - 1))
    error = float(np.sqrt(np.sum(np.square(spread))))
    if error == 0:
        return 0.0
    t = float(stats.t.ppf((1 + level) / 2, count - 1)) * max(wider, 1.0) * NEAR
    if count > _EXACT_UNITS:
        # The size b solves b = a sqrt(1 + k b), a what equal gains would need.
        a = error * (t * stricter + max(between, 1.0) * float(stats.norm.ppf(POWER)))
        k = UNEQUAL * np.sqrt(count) * float(np.sum(np.square(weight))) / error
        return float(surer(count) * a * (a * k + np.sqrt((a * k) ** 2 + 4)) / 2)
    studies = _Studies.drawn(spread, weight, t=t, level=level, stricter=stricter, between=max(between, 1.0), seed=seed)
    low, high = 0.0, error * (t * stricter + 1.0)
    while studies.found(high) < POWER:
        low, high = high, 1.5 * high
        if high > 1e3 * error:
            return float("inf")
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if studies.found(middle) >= POWER else (middle, high)
    return float(surer(count) * high)


@dataclass(frozen=True, kw_only=True)
class _Studies:
    """Simulated studies without a difference, and the gains that one would bring: (n_studies, n_units) each.

    Parameters
    ----------
    parts, weight, gain : ndarray
        What each person adds to the difference, its share of the windows, and how far its gain is from the mean gain,
        for a mean gain of one: it grows with that gain's root.
    signs : ndarray, (n_swaps, n_units)
        Of the test.
    t, level, stricter : float
        The interval's half length in standard errors, its level, and the family's factor.
    """

    parts: Array
    weight: Array
    gain: Array
    signs: Array
    t: float
    level: float
    stricter: float

    @classmethod
    def drawn(
        cls, spread: Array, weight: Array, *, t: float, level: float, stricter: float, between: float, seed: int
    ) -> _Studies:
        """Draw people with what they add (n_units,) and their shares of the windows (n_units,)."""
        rng, count = np.random.default_rng(seed), len(spread)
        who = rng.integers(0, count, size=(_STUDIES, count))
        share = weight[who] / weight[who].sum(axis=1, keepdims=True)
        gain = np.sqrt(UNEQUAL * np.sqrt(count * np.sum(np.square(spread)))) * rng.standard_normal(who.shape)
        signs = rng.choice([-1.0, 1.0], size=(_SWAPS, count))
        # A spread seen in few people is itself uncertain: its square has so many degrees of freedom, by its kurtosis.
        squares = np.square(spread)
        freedom = 2 / max(float(np.sum(squares**2) / np.sum(squares) ** 2) - 1 / count, 2 / count)
        scale = np.sqrt(freedom / rng.chisquare(freedom, size=(_STUDIES, 1)))
        parts = scale * spread[who] + (between - 1.0) * scale * spread[who].sum(axis=1, keepdims=True) * share
        return cls(parts=parts, weight=share, gain=gain, signs=signs, t=t, level=level, stricter=stricter)

    def found(self, size: float) -> float:
        """Return the share of studies that find a true difference of so much, in either direction."""
        return float(np.mean([self._found(side * size) for side in (-1.0, 1.0)]))

    def _found(self, size: float) -> float:
        parts = self.parts + self.weight * (size + np.sqrt(abs(size)) * self.gain)
        total, count = parts.sum(axis=1), parts.shape[1]
        swapped = np.abs(parts @ self.signs.T)
        rank = min(round(self.level * swapped.shape[1]), swapped.shape[1] - 1)
        threshold = np.partition(swapped, rank, axis=1)[:, rank] * self.stricter
        rest = parts - self.weight * total[:, None]
        error = np.sqrt(np.square(rest).sum(axis=1) * count / (count - 1))
        seen = np.sign(size) * total
        return float(np.mean((seen > threshold) & (seen > self.t * error)))
