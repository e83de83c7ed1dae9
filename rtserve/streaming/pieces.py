"""Where the columns of a value are in a step, put together stretch by stretch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

__all__ = ["Stretch", "stretches"]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Neighbouring columns of one source.

    Parameters
    ----------
    source : hashable
        Whatever the caller calls it; None for zeros.
    first, count : int
        Its columns ``first, first + step, ...``, so many of them.
    step : int
        1, or -1 where they go backwards.
    """

    source: Hashable
    first: int
    count: int
    step: int = 1

    @property
    def low(self) -> int:
        """Its lowest column."""
        return self.first if self.step > 0 else self.first - self.count + 1

    def with_next(self, source: Hashable, at: int) -> Stretch | None:
        """Return the stretch with one more column, or None where that is no neighbour of its last."""
        if source != self.source:
            return None
        if source is None:
            return Stretch(source=None, first=0, count=self.count + 1)
        for step in (1, -1):
            if (self.count == 1 or step == self.step) and at == self.first + step * self.count:
                return Stretch(source=source, first=self.first, count=self.count + 1, step=step)
        return None


def stretches(columns: Iterable[tuple[Hashable, int]]) -> list[Stretch]:
    """Return columns, each a source and which of its columns, as few stretches."""
    found: list[Stretch] = []
    for source, at in columns:
        longer = found[-1].with_next(source, at) if found else None
        if longer is not None:
            found[-1] = longer
        else:
            found.append(Stretch(source=source, first=at, count=1))
    return found
