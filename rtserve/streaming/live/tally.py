"""Times of a loop that may run for days: quantiles to one percent, mean and spread, in memory that does not grow."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Tally"]

_FINEST_US, _STEP, _BINS = 0.1, 1.01, 2400
"""From 0.1 us to over half an hour."""


class Tally:
    """Durations in us, counted."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self._mean = self._squares = 0.0
        self.n, self.largest = 0, 0.0

    def add(self, us: float) -> None:
        """Count one."""
        place = int(math.log(max(us, _FINEST_US) / _FINEST_US) / math.log(_STEP))
        self._counts[min(place, _BINS - 1)] += 1
        self.n += 1
        off = us - self._mean
        self._mean += off / self.n
        self._squares += off * (us - self._mean)
        self.largest = max(self.largest, us)

    def quantile(self, q: float) -> float:
        """Return the quantile in us, to one percent; NaN where there is nothing."""
        if not self.n:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self._counts), max(1, math.ceil(q * self.n))))
        return float(min(_FINEST_US * _STEP ** (place + 0.5), self.largest))

    @property
    def spread(self) -> float:
        """Standard deviation in us."""
        return math.sqrt(self._squares / self.n) if self.n else math.nan

    def to_dict(self) -> dict[str, float]:
        """Return median, tails, spread and the largest as JSON values; nothing where nothing was counted."""
        if not self.n:
            return {}
        found = {f"p{100 * q:g}": self.quantile(q) for q in (0.5, 0.99, 0.999)}
        return found | {"jitter": self.spread, "max": self.largest}
