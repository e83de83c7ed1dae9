"""Where a value lies: a buffer, an offset, and a step for each axis, as numpy has it.

Transposes, slices, splits and most reshapes are other steps over the same buffer and cost nothing; kernels read any of
them. `zeros` says how many samples of zero lie in the buffer in front of and behind an axis, which is what a padded
convolution needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod

__all__ = ["Buffer", "View", "loops", "steps_of"]


@dataclass(kw_only=True)
class Buffer:
    """Memory of a value.

    Parameters
    ----------
    name : str
        What the generated file calls it.
    size : int
        Floats.
    first, last : int
        The steps between which it is held.
    owner : int
        The operation that made it, which alone writes it; -1 for what is given.
    """

    name: str
    size: int
    first: int
    last: int
    owner: int = -1


@dataclass(frozen=True, kw_only=True)
class View:
    """A value in a buffer; `steps` and `offset` are in its numbers, which are floats, or doubles where it is `wide`."""

    buffer: Buffer
    shape: tuple[int, ...]
    steps: tuple[int, ...]
    offset: int = 0
    zeros: dict[int, tuple[int, int]] = field(default_factory=dict)
    wide: bool = False

    def __str__(self) -> str:
        if self.wide:
            return f"((rt_wide *)({self.buffer.name}) + {self.offset})"
        return f"({self.buffer.name} + {self.offset})" if self.offset else self.buffer.name

    @property
    def plain(self) -> bool:
        """Whether its numbers lie one behind the other in the order of its axes."""
        wanted = steps_of(self.shape)
        return all(n == 1 or mine == step for n, mine, step in zip(self.shape, self.steps, wanted, strict=True))

    @property
    def order(self) -> list[int]:
        """The axes from the outermost to the innermost, as they lie in memory."""
        return sorted(range(len(self.shape)), key=lambda a: -(abs(self.steps[a]) if self.shape[a] > 1 else 0))

    def moved(self, axes: Sequence[int]) -> View:
        """Return it with its axes in another order."""
        zeros = {k: self.zeros[a] for k, a in enumerate(axes) if a in self.zeros}
        return replace(self, shape=tuple(self.shape[a] for a in axes), steps=tuple(self.steps[a] for a in axes),
                       zeros=zeros)  # fmt: skip

    def cut(self, axis: int, start: int, n: int, step: int = 1) -> View:
        """Return `n` samples along an axis."""
        shape, steps = list(self.shape), list(self.steps)
        whole = (start, n, step) == (0, shape[axis], 1)
        offset = self.offset + start * steps[axis]
        shape[axis], steps[axis] = n, steps[axis] * step
        zeros = {k: v for k, v in self.zeros.items() if whole or k != axis}
        return replace(self, shape=tuple(shape), steps=tuple(steps), offset=offset, zeros=zeros)

    def spread(self, shape: Sequence[int]) -> View:
        """Return it broadcast to a shape."""
        missing = len(shape) - len(self.shape)
        steps = (0,) * missing + tuple(
            0 if mine == 1 and n != 1 else step
            for mine, n, step in zip(self.shape, shape[missing:], self.steps, strict=True)
        )
        return replace(self, shape=tuple(shape), steps=steps, zeros={})

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """Return it in another shape over the same numbers, or None where they must be copied for that."""
        mine = [(n, step, self.zeros.get(k)) for k, (n, step) in enumerate(zip(self.shape, self.steps, strict=True))]
        mine = [entry for entry in mine if entry[0] != 1]
        real = [n for n in shape if n != 1]
        if [n for n, _, _ in mine] == real:
            entries = iter(mine)
            pairs = [next(entries) if n != 1 else (1, 0, None) for n in shape]
            zeros = {k: z for k, (_, _, z) in enumerate(pairs) if z is not None}
            return replace(self, shape=tuple(shape), steps=tuple(step for _, step, _ in pairs), zeros=zeros)
        steps = _regrouped([(n, step) for n, step, _ in mine], real)
        if steps is None:
            return None
        left = iter(steps)
        return replace(self, shape=tuple(shape), steps=tuple(next(left) if n != 1 else 0 for n in shape), zeros={})


def steps_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the steps of a value whose numbers lie one behind the other."""
    return tuple(prod(shape[k + 1 :]) for k in range(len(shape)))


def _regrouped(mine: list[tuple[int, int]], wanted: list[int]) -> list[int] | None:
    """Return the steps of other axes over the same numbers; None where axes that are merged do not lie together."""
    steps: list[int] = []
    k = 0
    for i, n in _groups([n for n, _ in mine], wanted):
        group = mine[k : k + i]
        k += i
        if any(outer[1] != inner[0] * inner[1] for outer, inner in pairwise(group)):
            return None
        steps += [group[-1][1] * step for step in steps_of(n)]
    return steps


def _groups(mine: list[int], wanted: list[int]) -> list[tuple[int, list[int]]]:
    """Return how many axes of one shape are which axes of another, from the front."""
    found, i, j = [], 0, 0
    while i < len(mine) and j < len(wanted):
        taken, given = 1, 1
        a, b = mine[i], wanted[j]
        while a != b:
            if a < b:
                a *= mine[i + taken]
                taken += 1
            else:
                b *= wanted[j + given]
                given += 1
        found.append((taken, wanted[j : j + given]))
        i, j = i + taken, j + given
    return found


def loops(shape: Sequence[int], steps: Sequence[Sequence[int]]) -> list[tuple[int, tuple[int, ...]]]:
    """Return the fewest loops over a shape, outermost first: how often, and each operand's step.

    The first operand's order is kept: its longest step is outermost.
    """
    axes = [(n, tuple(s[k] for s in steps)) for k, n in enumerate(shape) if n != 1]
    axes.sort(key=lambda axis: -abs(axis[1][0]))
    merged: list[tuple[int, tuple[int, ...]]] = []
    for n, step in axes:
        if merged and all(outer == n * inner for outer, inner in zip(merged[-1][1], step, strict=True)):
            merged[-1] = (merged[-1][0] * n, step)
        else:
            merged.append((n, step))
    return merged or [(1, (0,) * len(steps))]
