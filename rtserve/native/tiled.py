"""Convolutions by tiles, written: windows in, one product for every point, products out (see `rtserve.native.fast`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from rtserve.native.costs import MACS_PER_NS
from rtserve.native.fast import Fast, taken_together
from rtserve.native.shares import parts_for, parts_of
from rtserve.native.taps import Taps, filled
from rtserve.native.tiles import tile_in, tile_out, tile_term
from rtserve.native.waves import Wave

if TYPE_CHECKING:
    from rtserve.native.view import View
    from rtserve.native.writer import Writer

__all__ = ["write_fast"]


def write_fast(
    writer: Writer,
    fast: Fast,
    x: View,
    weight: np.ndarray,
    bias: np.ndarray | None,
    target: View,
    group: int,
    relu: bool,
) -> None:
    """Write a convolution by tiles.

    Parameters
    ----------
    writer : Writer
        Where to.
    fast : Fast
        How.
    x : View
        From its first sample of padding on, channels one behind the other, `reach` samples along the axis.
    weight, bias : ndarray
        (outputs, channels of a group, ...) and (outputs,), or None.
    target : View
        The output, channels one behind the other.
    group : int
        Groups of channels.
    relu : bool
        Whether what is below zero becomes zero.
    """
    layer = _Layer.of(writer, fast, x, weight, bias, target, group, relu)
    axes = [(a, target.shape[a]) for a in layer.axes if target.shape[a] > 1]
    head = "".join(f"for (int i{a} = 0; i{a} < {n}; i{a}++) " for a, n in axes)
    head += f"for (int b = 0; b < {layer.n_lines}; b += {layer.together}) {{ "
    scratch = layer.scratch(writer)
    text = [call for step in layer.steps(*scratch, parts=1) for call in step]
    steps: list[list[str]] = []
    more: list[View] = []
    if writer.shared and not axes and layer.together == layer.n_lines:
        steps = [[f"{{ const int b = 0; (void)b; {call} }}" for call in step]
                 for step in layer.steps(*scratch, parts=parts_for(layer.cost / 3))]  # fmt: skip
    elif writer.shared:
        steps, more = _by_lines(writer, layer, axes)
    writer.line(
        "\n    ".join([head, *text]) + "\n  }", x, target, *scratch, *more, cost=layer.cost, steps=steps
    )  # fmt: skip


def _by_lines(writer: Writer, layer: _Layer, axes: Sequence[tuple[int, int]]) -> tuple[list[list[str]], list[View]]:
    """Return the parts of a layer by its outermost loop, each with memory of its own; and that memory."""
    loops = [(f"i{a}", n, 1) for a, n in axes] + [("b", layer.n_lines, layer.together)]
    parts: list[str] = []
    memory: list[View] = []
    for start, end in parts_of(loops[0][1], parts_for(layer.cost), loops[0][2]):
        scratch = layer.scratch(writer, extra=True)
        memory += scratch
        ranges = [(loops[0][0], start, end, loops[0][2]), *((name, 0, n, step) for name, n, step in loops[1:])]
        head = "".join(f"for (int {name} = {a}; {name} < {b}; {name} += {step}) " for name, a, b, step in ranges)
        parts.append(f"{head}{{ {' '.join(call for step in layer.steps(*scratch, parts=1) for call in step)} }}")
    return [parts], memory


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A convolution by tiles: what its calls need; see `write_fast`.

    Parameters
    ----------
    axes : tuple of int
        That are gone through outside of the lines.
    n_lines, together, rows : int
        Lines; how many are taken at once; rows of their product.
    into, out, kernel : str
        Functions.
    terms : tuple of tuple of (Taps, str)
        By point or wave, and group: where the k lie, and the weights.
    """

    fast: Fast
    x: View
    target: View
    axes: tuple[int, ...]
    outer: int
    n_lines: int
    together: int
    rows: int
    into: str
    out: str
    kernel: str
    terms: tuple[tuple[tuple[Taps, str], ...], ...]
    offset: str
    n_in: int
    n_out: int
    relu: bool
    cost: float

    @classmethod
    def of(
        cls, writer: Writer, fast: Fast, x: View, weight: np.ndarray, bias: np.ndarray | None, target: View,
        group: int, relu: bool,
    ) -> _Layer:  # fmt: skip
        """Return the layer of a convolution, with its weights and functions kept."""
        lines = [a for a in range(len(x.shape)) if a not in (1, fast.axis)]
        outer = max(lines, key=lambda a: target.shape[a], default=0)
        n_lines = target.shape[outer]
        together = taken_together(n_lines, fast.tiles)
        axes = tuple(a for a in lines if a != outer)
        into, out, offset = tile_in(writer, fast.tile), tile_out(writer, fast.tile), writer.filled(bias)
        width, rows = filled(x.shape[1]), together * fast.tiles
        out_group = weight.shape[0] // group
        step = together * (fast.tiles + fast.segments - 1) * width
        wave = isinstance(fast.tile, Wave)
        if wave:
            kernel = writer.kernel("RT_WAVES", rows, width, fast.stride * step)
        else:
            kernel = writer.kernel("RT_LAYER", fast.tiles if fast.segments > 1 else rows, width)
        terms = tuple(
            tuple(tile_term(writer, fast, weight[g * out_group : (g + 1) * out_group], p, step, width)
                  for g in range(group)) for p in range(fast.tile.n // (1 + wave))
        )  # fmt: skip
        calls = n_lines * prod(target.shape[a] for a in axes) * fast.tiles * (4 if wave else 1)
        macs = sum(calls * taps.number * out_group for term in terms for taps, _ in term)
        writer.macs += macs
        return cls(
            fast=fast, x=x, target=target, axes=axes, outer=outer, n_lines=n_lines, together=together, rows=rows,
            into=into, out=out, kernel=kernel, terms=terms, offset=offset, n_in=weight.shape[1],
            n_out=weight.shape[0], relu=relu, cost=macs / MACS_PER_NS,
        )  # fmt: skip

    @property
    def _per_line(self) -> int:
        return (self.fast.tiles + self.fast.segments - 1) * filled(self.x.shape[1])

    def scratch(self, writer: Writer, *, extra: bool = False) -> tuple[View, View]:
        """Return memory for transformed windows and for products; `extra` for several threads alone."""
        n = self.fast.tile.n
        room = writer.scratch(n * self.fast.stride * self.together * self._per_line, extra=extra)
        return room, writer.scratch(n * self.rows * filled(self.n_out), extra=extra)

    def steps(self, room: View, products: View, *, parts: int) -> list[list[str]]:
        """Return the calls for the lines from ``b`` on: windows in, products, products out."""
        stride = self.fast.stride
        return [
            [call for phase in range(stride) for call in self._windows(room, phase, -(-parts // stride))],
            [call for p in range(len(self.terms)) for call in self._products(room, products, p)],
            self._outputs(products, parts),
        ]

    def _ranges(self, tiles: int, parts: int) -> list[tuple[int, int, int, int]]:
        """Return lines from and to, tiles from and to, in so many parts."""
        lines = parts_of(self.together, parts)
        each = parts_of(tiles, -(-parts // len(lines)))
        return [(*line, *some) for line in lines for some in each]

    def _start(self, view: View) -> str:
        others = "".join(f" + i{a} * {view.steps[a]}" for a in self.axes if self.target.shape[a] > 1)
        return f"{view}{others} + (b + l) * {view.steps[self.outer]}"

    def _windows(self, room: View, phase: int, parts: int) -> Iterator[str]:
        one, stride, step = self.fast.tile, self.fast.stride, self.x.steps[self.fast.axis]
        point, width = stride * self.together * self._per_line, filled(self.x.shape[1])
        for l0, l1, t0, t1 in self._ranges(self.fast.tiles + self.fast.segments - 1, parts):
            yield (
                f"for (int l = {l0}; l < {l1}; l++) {self.into}({self._start(self.x)} + "
                f"{phase * step + t0 * stride * one.m * step}, {stride * step}, {stride * one.m * step}, {t1 - t0}, "
                f"{self.x.shape[1]}, {room} + {phase * self.together * self._per_line + t0 * width} "
                f"+ l * {self._per_line}, {point}, {width});"
            )

    def _products(self, room: View, products: View, p: int) -> Iterator[str]:
        wave = isinstance(self.fast.tile, Wave)
        each, step = self.together if self.fast.segments > 1 else 1, self.fast.tile.n // len(self.terms)
        point, width = self.fast.stride * self.together * self._per_line, filled(self.n_out)
        out_group = self.n_out // len(self.terms[p])
        for g, (taps, name) in enumerate(self.terms[p]):
            source = f"{room} + {p * step * point} + l * {self._per_line} + {g * self.n_in}"
            target = (
                f"{products} + ({p * step * self.rows} + l * {self.fast.tiles}) * {width} + {g * out_group}, {width}"
            )
            yield (
                f"for (int l = 0; l < {each}; l++) {self.kernel}({source}, {taps}, {name}, "
                + (f"{target}, {self.rows * width}, {out_group});" if wave else f"0, {target}, {out_group}, 0);")
            )

    def _outputs(self, products: View, parts: int) -> list[str]:
        fast, there, width = self.fast, self.target.steps[self.fast.axis], filled(self.n_out)
        last = self.target.shape[fast.axis] - (fast.tiles - 1) * fast.tile.m
        return [
            f"for (int l = {l0}; l < {l1}; l++) {self.out}({products} + l * {fast.tiles * width} + {t0 * width}, "
            f"{self.rows * width}, {width}, {t1 - t0}, {self.n_out}, {self.offset}, {int(self.relu)}, "
            f"{self._start(self.target)} + {t0 * fast.tile.m * there}, {there}, "
            f"{last if t1 == fast.tiles else fast.tile.m});"
            for l0, l1, t0, t1 in self._ranges(fast.tiles, parts)
        ]
