"""Tiles as C: what transforms windows and products, and the weights at each point or of each wave."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from rtserve.native.fast import Fast, full
from rtserve.native.taps import Taps
from rtserve.native.waves import Wave, cosines, outputs_text, window_text
from rtserve.runtime.points import Tile

if TYPE_CHECKING:
    from rtserve.native.writer import Writer

__all__ = ["tile_in", "tile_out", "tile_term"]


def tile_term(writer: Writer, fast: Fast, weight: np.ndarray, p: int, phase_step: int, width: int) -> tuple[Taps, str]:
    """Keep a group's weights at a point, or of a wave; return where its k lie and the weights' name."""
    if isinstance(fast.tile, Wave):
        return _wave_term(writer, fast, fast.tile, weight, p, phase_step)
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


def _wave_term(
    writer: Writer, fast: Fast, one: Wave, weight: np.ndarray, wave: int, phase_step: int
) -> tuple[Taps, str]:
    n_out, channels = weight.shape[:2]
    flat = weight.reshape(n_out, channels, -1)
    table, taps, stride = writer.reals(cosines(one.n)), flat.shape[2], fast.stride
    name = writer.packed(
        flat, f"RT_PACKED({2 * stride * channels}, {n_out})",
        f"rt_pack_wave({{plain}}, {taps}, {stride}, {table}, {one.n}, {wave}, {channels}, {n_out}, {{packed}});",
    ).name  # fmt: skip
    return Taps(counts=(1, stride, channels), steps=(0, phase_step, 1)), name


def tile_in(writer: Writer, one: Tile | Wave) -> str:
    """Return the function that transforms the window's tiles."""
    if isinstance(one, Wave):
        key, body = f"waves of {one.n} in", list(window_text(one.n))
    else:
        key, body = f"tiles of {one.m} and {one.q} in", _window_text(one)
    return writer.function(
        key,
        "(const float *x, ptrdiff_t step, ptrdiff_t tile, int tiles, int channels, float *o, ptrdiff_t point, "
        "ptrdiff_t width) {\n  for (int j = 0; j < tiles; j++)\n    for (int c = 0; c < channels; c += RT_WIDTH) {\n"
        "      const float *p = x + j * tile + c;\n      float *v = o + j * width + c;\n      "
        + "\n      ".join(body) + "\n    }\n}",
    )  # fmt: skip


def tile_out(writer: Writer, one: Tile | Wave) -> str:
    """Return the function that transforms the products back."""
    if isinstance(one, Wave):
        key, body = f"waves of {one.n} to {one.m} out", list(outputs_text(one.n, one.m))
    else:
        key, body = f"tiles of {one.m} and {one.q} out", _outputs_text(one)
    return writer.function(
        key,
        "(const float *m, ptrdiff_t point, ptrdiff_t width, int tiles, int channels, const float *bias, int relu, "
        "float *o, ptrdiff_t ldo, int last) {\n  for (int j = 0; j < tiles; j++) {\n"
        f"    const int n = j == tiles - 1 ? last : {one.m};\n"
        "    for (int c = 0; c < channels; c += RT_WIDTH) {\n"
        "      const int part = channels - c < RT_WIDTH ? channels - c : 0;\n"
        "      const rt_vec offset = bias ? rt_load(bias + c) : (rt_vec){0};\n"
        f"      const float *v = m + j * width + c;\n      float *q = o + j * {one.m} * ldo + c;\n      "
        + "\n      ".join(body) + "\n    }\n  }\n}",
    )  # fmt: skip


def _window_text(one: Tile) -> list[str]:
    body = [f"const rt_vec d{i} = rt_load(p + {i} * step);" for i in range(one.n)]
    return body + _lines(one.window, "d", lambda p, text: f"rt_store(v + {p} * point, {text});")


def _outputs_text(one: Tile) -> list[str]:
    body = [f"const rt_vec d{p} = rt_load(v + {p} * point);" for p in range(one.n)]
    for p in range(1, one.n - 2, 2):  # a point and its negative: even powers take their sum, odd ones their difference
        body.append(f"const rt_vec s{p} = d{p} + d{p + 1}, t{p} = d{p} - d{p + 1};")
    body += [f"rt_put(q, ldo, {i}, {_by_pairs(row)} + offset, part, relu, n);" for i, row in enumerate(one.outputs)]
    return body


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
