"""Whether every sample came: losses and a wrong rate, found in the times of samples alone.

Times jitter, and a chunk that is late is none that is lost: the next ones are not late as well. So two things are asked.
A step between two samples that is longer than the stream's own jitter explains is a loss at once. And over `PERIOD_S` the
earliest times, which jitter moves least, must advance as the samples count: a rise that stays is a loss that jitter hid,
and one that comes period after period is a rate that is not the one that was said. What is under a thousandth of the
period, or under half a sample, is taken for the drift of clocks.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Watch"]

PERIOD_S = 2.0
DRIFT = 1e-3
LATE_S = 0.2
"""A step as long is a loss whatever the jitter."""
AGAIN = 3
"""Periods of one sign, one after the other, that are called a rate."""


class Watch:
    """Looks at the times of a stream's samples.

    Parameters
    ----------
    rate : float
        Samples in a second, as the stream says.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._same = 0
        self._begin()

    def _begin(self) -> None:
        """Forget what was before a loss: the jitter is learned anew, the rate is not."""
        self._last: float | None = None
        self._count, self._zero = 0, 0.0
        self._jitter, self._widest = 0.0, 0.0
        self._low: float | None = None
        self._lowest: float | None = None
        self._until = PERIOD_S

    def see(self, times: np.ndarray) -> list[tuple[int, str]]:
        """Return what is wrong: in front of which of these samples, and what it is, its kind in front of a colon.

        Parameters
        ----------
        times : ndarray, (n,)
            Of samples that follow those seen before, in s.
        """
        found: list[tuple[int, str]] = []
        for place, time in enumerate(times.tolist()):
            said = self._step(time) if self._last is not None else ""
            if said:
                found.append((place, said))
                self._begin()
            if self._last is None:
                self._zero = time
            self._note(time)
            if said := self._balance():
                found.append((place + 1, said))
                self._begin()
        return found

    def _step(self, time: float) -> str:
        """Return what is wrong between the last sample and this one."""
        assert self._last is not None
        step = time - self._last
        if step <= 0:
            return f"times went back: by {-1e3 * step:.1f} ms"
        off = abs(step - 1 / self.rate)
        learned = self._count >= self.rate
        bar = min(max(0.5 / self.rate, 4 * max(self._jitter, self._widest)), LATE_S) if learned else LATE_S
        if step - 1 / self.rate > bar:
            return f"samples were lost: {round(step * self.rate) - 1} ({1e3 * step:.0f} ms between two)"
        self._widest = max(self._widest, off)
        return ""

    def _note(self, time: float) -> None:
        lag = time - self._zero - self._count / self.rate
        self._lowest = lag if self._lowest is None else min(self._lowest, lag)
        self._last = time
        self._count += 1

    def _balance(self) -> str:
        """Return what is wrong with the number of samples of a period that ends here."""
        if self._count / self.rate < self._until:
            return ""
        low, before = self._lowest, self._low
        self._low, self._lowest = low, None
        self._jitter, self._widest = self._widest, 0.0
        self._until += PERIOD_S
        if before is None or low is None:
            return ""
        rise = low - before
        if abs(rise) < max(0.5 / self.rate, DRIFT * PERIOD_S):
            self._same = 0
            return ""
        sign = 1 if rise > 0 else -1
        self._same = self._same + sign if self._same * sign > 0 else sign
        samples = round(PERIOD_S * self.rate)
        if abs(self._same) >= AGAIN:
            return f"another rate than was said: {samples / (PERIOD_S + rise):.2f} Hz, not {self.rate:g} Hz"
        kind, off = f"samples too {'few' if rise > 0 else 'many'}", round(abs(rise) * self.rate)
        return f"{kind}: {off} at {self.rate:g} Hz, {samples} came in {PERIOD_S + rise:.3f} s"
