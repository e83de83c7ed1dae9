"""Where the k of a row lie, as the kernels go through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

__all__ = ["MOST_LOOPS", "WIDEST", "Taps", "filled"]

MOST_LOOPS = 3
"""Loops that the kernels go through."""
WIDEST = 32
"""Channels of the widest panel of any instruction set."""


@dataclass(frozen=True, kw_only=True)
class Taps:
    """Where the k of a row lie: at most three loops, how often and at what step; and the axes they were made of."""

    counts: tuple[int, int, int]
    steps: tuple[int, int, int]

    @classmethod
    def of(cls, axes: Sequence[tuple[int, int]]) -> tuple[Taps, list[int]]:
        """Return the loops over (count, step) pairs, the longest innermost, and the order of the axes in them."""
        loops, groups = _merged(axes)
        ranked = sorted(range(len(loops)), key=lambda k: loops[k][0])
        loops, groups = [loops[k] for k in ranked], [groups[k] for k in ranked]
        filled = [[1, 0]] * (MOST_LOOPS - len(loops)) + loops
        counts, steps = zip(*filled, strict=True)
        rest = [a for a in range(len(axes)) if axes[a][0] == 1]
        return cls(counts=counts, steps=steps), [*rest, *[a for group in groups for a in group]]

    @staticmethod
    def loops(axes: Sequence[tuple[int, int]]) -> int:
        """Return how many loops (count, step) pairs take, of which there may be `MOST_LOOPS`."""
        return len(_merged(axes)[0])

    def __str__(self) -> str:
        n, s = self.counts, self.steps
        return f"RT_TAPS({n[0]}, {n[1]}, {n[2]}, {s[0]}, {s[1]}, {s[2]})"

    @property
    def number(self) -> int:
        """How many k a row has."""
        return prod(self.counts)


def _merged(axes: Sequence[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Return loops over (count, step) pairs, those that lie one behind the other as one, and the axes of each."""
    loops: list[list[int]] = []
    groups: list[list[int]] = []
    for a in sorted(range(len(axes)), key=lambda a: -abs(axes[a][1])):
        n, step = axes[a]
        if n == 1:
            continue
        if loops and loops[-1][1] == n * step:
            loops[-1] = [loops[-1][0] * n, step]
            groups[-1].append(a)
        else:
            loops.append([n, step])
            groups.append([a])
    return loops, groups


def filled(channels: int) -> int:
    """Return so many channels filled up to whole vectors of any instruction set."""
    return -(-channels // 16) * 16
