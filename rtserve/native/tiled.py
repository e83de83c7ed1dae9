"""Convolutions by tiles, written: windows in, one product for every point, products out (see `rtserve.native.fast`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from rtserve.native.costs import MACS_PER_NS
from rtserve.native.fast import Fast, full, taken_together
from rtserve.native.shares import parts_for, parts_of
from rtserve.native.taps import Taps, filled
from rtserve.runtime.points import Tile

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
        By point and group: where the k lie, and the weights.
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
        into, out, offset = _into(writer, fast.tile), _out(writer, fast.tile), writer.filled(bias)
        width, rows = filled(x.shape[1]), together * fast.tiles
        kernel = writer.kernel("RT_LAYER", fast.tiles if fast.segments > 1 else rows, width)
        out_group = weight.shape[0] // group
        step = together * (fast.tiles + fast.segments - 1) * width
        terms = tuple(
            tuple(_term(writer, fast, weight[g * out_group : (g + 1) * out_group], p, step, width)
                  for g in range(group)) for p in range(fast.tile.n)
        )  # fmt: skip
        calls = n_lines * prod(target.shape[a] for a in axes) * fast.tiles
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
            [call for p in range(self.fast.tile.n) for call in self._products(room, products, p)],
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
        each = self.together if self.fast.segments > 1 else 1
        point, width = self.fast.stride * self.together * self._per_line, filled(self.n_out)
        out_group = self.n_out // len(self.terms[p])
        for g, (taps, name) in enumerate(self.terms[p]):
            yield (
                f"for (int l = 0; l < {each}; l++) {self.kernel}({room} + {p * point} + l * {self._per_line} + "
                f"{g * self.n_in}, {taps}, {name}, 0, {products} + ({p * self.rows} + l * {self.fast.tiles}) * {width} "
                f"+ {g * out_group}, {width}, {out_group}, 0);"
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


def _term(writer: Writer, fast: Fast, weight: np.ndarray, p: int, phase_step: int, width: int) -> tuple[Taps, str]:
    """Keep a group's weights at a point; return where its k lie and the weights' name."""
    one, channels = fast.tile, weight.shape[1]
    flat = weight.reshape(weight.shape[0], channels, -1)
    taps = flat.shape[2]
    phases, segments = fast.stride, fast.segments
    if p == one.n - 1:
        phases, segments = full(taps, phases, one.q, segments) or (phases, segments)
    n_out = weight.shape[0]
    k = phases * segments * channels
    table = writer.reals([float(value) for value in one.taps[p]])
    name = writer.packed(
        flat, f"RT_PACKED({k}, {n_out})",
        f"rt_pack_point({{plain}}, {taps}, {fast.stride}, {one.q}, {table}, {phases}, {segments}, {channels}, {n_out}, "
        "{packed});",
    ).name  # fmt: skip
    return Taps(counts=(phases, segments, channels), steps=(phase_step, width, 1)), name


def _into(writer: Writer, one: Tile) -> str:
    """Return the function that transforms the window's tiles."""
    body = [f"const rt_vec d{i} = rt_load(p + {i} * step);" for i in range(one.n)]
    body += _lines(one.window, "d", lambda p, text: f"rt_store(v + {p} * point, {text});")
    return writer.function(
        f"tiles of {one.m} and {one.q} in",
        "(const float *x, ptrdiff_t step, ptrdiff_t tile, int tiles, int channels, float *o, ptrdiff_t point, "
        "ptrdiff_t width) {\n  for (int j = 0; j < tiles; j++)\n    for (int c = 0; c < channels; c += RT_WIDTH) {\n"
        "      const float *p = x + j * tile + c;\n      float *v = o + j * width + c;\n      "
        + "\n      ".join(body) + "\n    }\n}",
    )  # fmt: skip


def _out(writer: Writer, one: Tile) -> str:
    """Return the function that transforms the products back."""
    body = [f"const rt_vec d{p} = rt_load(v + {p} * point);" for p in range(one.n)]
    for p in range(1, one.n - 2, 2):  # a point and its negative: even powers take their sum, odd ones their difference
        body.append(f"const rt_vec s{p} = d{p} + d{p + 1}, t{p} = d{p} - d{p + 1};")
    body += [f"rt_put(q, ldo, {i}, {_by_pairs(row)} + offset, part, relu, n);" for i, row in enumerate(one.outputs)]
    return writer.function(
        f"tiles of {one.m} and {one.q} out",
        "(const float *m, ptrdiff_t point, ptrdiff_t width, int tiles, int channels, const float *bias, int relu, "
        "float *o, ptrdiff_t ldo, int last) {\n  for (int j = 0; j < tiles; j++) {\n"
        f"    const int n = j == tiles - 1 ? last : {one.m};\n"
        "    for (int c = 0; c < channels; c += RT_WIDTH) {\n"
        "      const int part = channels - c < RT_WIDTH ? channels - c : 0;\n"
        "      const rt_vec offset = bias ? rt_load(bias + c) : (rt_vec){0};\n"
        f"      const float *v = m + j * width + c;\n      float *q = o + j * {one.m} * ldo + c;\n      "
        + "\n      ".join(body) + "\n    }\n  }\n}",
    )  # fmt: skip


def _by_pairs(row: Sequence[Fraction]) -> str:
    """Return an output as C: its points in pairs, the first and the last alone."""
    terms = [(row[0], "d0")]
    for p in range(1, len(row) - 2, 2):
        terms.append((row[p], f"s{p}" if row[p] == row[p + 1] else f"t{p}"))
    rest = range(len(row) - 2 + (len(row) % 2 == 0), len(row))
    terms += [(row[p], f"d{p}") for p in rest]
    return _added(terms)


def _added(terms: Sequence[tuple[Fraction, str]]) -> str:
    """Return a weighted sum as C; factors of one are left out."""
    text = ""
    for value, name in terms:
        if value:
            sign = " - " if value < 0 else " + " if text else ""
            factor = "" if abs(value) == 1 else f"{float(abs(value))!r}f * "
            text += f"{sign}{factor}{name}"
    return f"({text.strip()})" if text else "(rt_vec){0}"


def _lines(rows: Sequence[Sequence[Fraction]], name: str, put: object) -> list[str]:
    """Return statements for a product with a matrix; rows that are each other's mirror share their sums and differences."""
    lines, done = [], set()
    for p, row in enumerate(rows):
        if p in done:
            continue
        q = _mirror(rows, p)
        if q is None:
            lines.append(put(p, _sum(row, name)))  # type: ignore[operator]
            continue
        done.add(q)
        even = [(a + b) / 2 for a, b in zip(row, rows[q], strict=True)]
        odd = [(a - b) / 2 for a, b in zip(row, rows[q], strict=True)]
        lines.append(f"const rt_vec e{p} = {_sum(even, name)}, o{p} = {_sum(odd, name)};")
        lines += [put(p, f"e{p} + o{p}"), put(q, f"e{p} - o{p}")]  # type: ignore[operator]
    return lines


def _mirror(rows: Sequence[Sequence[Fraction]], p: int) -> int | None:
    """Return a later row with the same numbers up to signs, neither all equal nor all turned."""
    for q in range(p + 1, len(rows)):
        pairs = [(a, b) for a, b in zip(rows[p], rows[q], strict=True) if a or b]
        same = sum(a == b for a, b in pairs)
        if all(abs(a) == abs(b) for a, b in pairs) and 0 < same < len(pairs):
            return q
    return None


def _sum(row: Sequence[Fraction], name: str) -> str:
    return _added([(value, f"{name}{i}") for i, value in enumerate(row)])
