r"""Convolutions by tiles: which of them, with which tile, and the statements.

A stride of s takes the window apart into s phases, each with every s-th tap and a stride of one. Taps of a phase are taken
in segments of q. With :math:`q = m` a segment further is a tile further, so that every window is transformed once and all
segments and phases are one product whose k run over them. For a term whose last tap is none, infinity has nothing to add.

Which tile is taken follows from the count of vector operations; nothing here was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np

from rtserve.native.points import MOST_POINTS, Tile, tile
from rtserve.native.taps import Taps, filled

if TYPE_CHECKING:
    from rtserve.native.flow import Operation
    from rtserve.native.view import View
    from rtserve.native.writer import Writer

__all__ = ["Fast", "choose", "write_fast"]

LANES = 16
"""Channels of a vector, as operations are counted."""
WORTH = 0.9
"""Of the operations of the direct way, from which on tiles are worth their memory."""
FEWEST_ROWS = 26
"""Rows of a product: lines are taken together up to so many."""


@dataclass(frozen=True, kw_only=True)
class Fast:
    """How a convolution along one axis is computed.

    Parameters
    ----------
    axis : int
        Of the value.
    tile : Tile
        Its tile.
    stride, segments, tiles : int
        Phases; segments of each; tiles of a line.
    reach : int
        Samples of a line, with its padding, that are read.
    """

    axis: int
    tile: Tile
    stride: int
    segments: int
    tiles: int
    reach: int


def choose(operation: Operation, weight: np.ndarray, n_out: int) -> Fast | None:
    """Return the cheapest tiles for a convolution to `n_out` samples along its axis, or None where direct is cheaper."""
    rank, attrs = weight.ndim, operation.attrs
    along = [k for k in range(rank - 2) if weight.shape[k + 2] > 1]
    group = attrs.get("group", 1)
    if len(along) != 1 or (weight.shape[1] == 1 and group > 1):
        return None
    k = along[0]
    strides, dilations = attrs.get("strides") or [1] * (rank - 2), attrs.get("dilations") or [1] * (rank - 2)
    if dilations[k] != 1 or any(s != 1 for j, s in enumerate(strides) if j != k):
        return None
    taps, stride = weight.shape[k + 2], strides[k]
    direct = _direct(weight, n_out, taps)
    found = [_cost(weight, group, n_out, taps, stride, m, q) for m in range(2, 7) for q in range(2, 7)]
    cost, m, q = min(found)
    if cost > WORTH * direct:
        return None
    segments, tiles = ceil(ceil(taps / stride) / q), ceil(n_out / m)
    reach = ((tiles + segments - 1) * m + q - 1) * stride
    return Fast(axis=k + 2, tile=tile(m, q), stride=stride, segments=segments, tiles=tiles, reach=reach)


def _direct(weight: np.ndarray, n_out: int, taps: int) -> float:
    return float(n_out * taps * weight.shape[1] * ceil(weight.shape[0] / LANES))


def _cost(weight: np.ndarray, group: int, n_out: int, taps: int, stride: int, m: int, q: int) -> tuple[float, int, int]:
    """Return the vector operations of a line by tiles; without end where they cannot be."""
    n, phase = m + q - 1, ceil(taps / stride)
    segments = ceil(phase / q)
    if n > MOST_POINTS or stride > taps or (segments > 1 and q != m):
        return float("inf"), m, q
    one, tiles = tile(m, q), ceil(n_out / m)
    blocks_in, blocks_out = ceil(weight.shape[1] * group / LANES), ceil(weight.shape[0] / LANES)
    products = tiles * (n * stride * segments - _idle(taps, stride, q, segments)) * weight.shape[1] * blocks_out
    window = (tiles + segments - 1) * stride * blocks_in * (_operations(one.window) + 2 * n)
    outputs = tiles * blocks_out * (_operations(one.outputs) + 2 * n)
    return products + window + outputs, m, q


def _operations(rows: Sequence[Sequence[Fraction]]) -> int:
    return sum(sum(value != 0 for value in row) for row in rows) * 2 // 3


def _idle(taps: int, stride: int, q: int, segments: int) -> int:
    """Return how many terms have no last tap, if those that have stand in front (see `_full`)."""
    full = _full(taps, stride, q, segments)
    return stride * segments - (full[0] * full[1] if full else stride * segments)


def _full(taps: int, stride: int, q: int, segments: int) -> tuple[int, int] | None:
    """Return in how many phases how many segments have all taps, where those that have are a block; else None."""
    counts = [sum(len(range(phase + s * q * stride, min(taps, phase + (s + 1) * q * stride), stride)) == q
                  for s in range(segments)) for phase in range(stride)]  # fmt: skip
    phases = sum(count > 0 for count in counts)
    same = set(counts[:phases])
    return (phases, counts[0]) if len(same) == 1 and counts[0] > 0 else None


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
    one, axis = fast.tile, fast.axis
    lines = [a for a in range(len(x.shape)) if a not in (1, axis)]
    outer = max(lines, key=lambda a: target.shape[a], default=0)
    n_lines = target.shape[outer]
    together = next(
        k for k in range(1, n_lines + 1) if n_lines % k == 0 and (k == n_lines or k * fast.tiles >= FEWEST_ROWS)
    )
    channels, width = x.shape[1], filled(x.shape[1])
    n_out, out_width = weight.shape[0], filled(weight.shape[0])
    per_line = (fast.tiles + fast.segments - 1) * width
    phase_step, point_step = together * per_line, fast.stride * together * per_line
    room = writer.scratch(one.n * point_step)
    products = writer.scratch(one.n * together * fast.tiles * out_width)
    rows = together * fast.tiles
    into, out = _into(writer, one), _out(writer, one)
    offset = writer.filled(bias)
    step, there = x.steps[axis], target.steps[axis]
    last = target.shape[axis] - (fast.tiles - 1) * one.m
    text = []
    loops = [(a, target.shape[a]) for a in lines if a != outer and target.shape[a] > 1]
    start_x = "".join(f" + i{a} * {x.steps[a]}" for a, _ in loops)
    start_y = "".join(f" + i{a} * {target.steps[a]}" for a, _ in loops)
    head = "".join(f"for (int i{a} = 0; i{a} < {n}; i{a}++) " for a, n in loops)
    head += f"for (int b = 0; b < {n_lines}; b += {together}) {{ "
    for phase in range(fast.stride):
        text.append(
            f"for (int l = 0; l < {together}; l++) {into}({x}{start_x} + (b + l) * {x.steps[outer]} + {phase * step}, "
            f"{fast.stride * step}, {fast.stride * one.m * step}, {fast.tiles + fast.segments - 1}, {channels}, "
            f"{room} + {phase * phase_step} + l * {per_line}, {point_step}, {width});"
        )
    each = together if fast.segments > 1 else 1
    n_rows = fast.tiles if fast.segments > 1 else rows
    kernel = writer.kernel("RT_LAYER", n_rows, width)
    per_group, out_group = weight.shape[1], n_out // group
    for p in range(one.n):
        for g in range(group):
            taps, name = _term(writer, fast, weight[g * out_group : (g + 1) * out_group], p, phase_step, width)
            text.append(
                f"for (int l = 0; l < {each}; l++) {kernel}({room} + {p * point_step} + l * {per_line} + {g * per_group}, "
                f"{taps}, {name}, 0, {products} + ({p * rows} + l * {fast.tiles}) * {out_width} + {g * out_group}, "
                f"{out_width}, {out_group}, 0);"
            )
            writer.macs += n_lines * prod(n for _, n in loops) * fast.tiles * taps.number * out_group
    text.append(
        f"for (int l = 0; l < {together}; l++) {out}({products} + l * {fast.tiles * out_width}, {rows * out_width}, "
        f"{out_width}, {fast.tiles}, {n_out}, {offset}, {int(relu)}, "
        f"{target}{start_y} + (b + l) * {target.steps[outer]}, {there}, {last});"
    )
    writer.line("\n    ".join([head, *text]) + "\n  }", x, target, room, products)


def _term(writer: Writer, fast: Fast, weight: np.ndarray, p: int, phase_step: int, width: int) -> tuple[Taps, str]:
    """Keep a group's weights at a point; return where its k lie and the weights' name."""
    one, channels = fast.tile, weight.shape[1]
    flat = weight.reshape(weight.shape[0], channels, -1)
    taps = flat.shape[2]
    phases, segments = fast.stride, fast.segments
    if p == one.n - 1:
        phases, segments = _full(taps, phases, one.q, segments) or (phases, segments)
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
