r"""Convolutions by tiles: which of them, and with which tile; `rtserve.native.tiled` writes them.

A stride of s takes the window apart into s phases, each with every s-th tap and a stride of one. Taps of a phase are taken
in segments of q. With :math:`q = m` a segment further is a tile further, so that every window is transformed once and all
segments and phases are one product whose k run over them. For a term whose last tap is none, infinity has nothing to add.

Which tile is taken follows from the count of vector operations; nothing here was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from rtserve.runtime.points import MOST_POINTS, Tile, tile_of

if TYPE_CHECKING:
    from rtserve.native.flow import Operation

__all__ = ["FEWEST_ROWS", "Fast", "choose", "full"]

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
    return Fast(axis=k + 2, tile=tile_of(m, q), stride=stride, segments=segments, tiles=tiles, reach=reach)


def _direct(weight: np.ndarray, n_out: int, taps: int) -> float:
    return float(n_out * taps * weight.shape[1] * ceil(weight.shape[0] / LANES))


def _cost(weight: np.ndarray, group: int, n_out: int, taps: int, stride: int, m: int, q: int) -> tuple[float, int, int]:
    """Return the vector operations of a line by tiles; without end where they cannot be."""
    n, phase = m + q - 1, ceil(taps / stride)
    segments = ceil(phase / q)
    if n > MOST_POINTS or stride > taps or (segments > 1 and q != m):
        return float("inf"), m, q
    one, tiles = tile_of(m, q), ceil(n_out / m)
    blocks_in, blocks_out = ceil(weight.shape[1] * group / LANES), ceil(weight.shape[0] / LANES)
    products = tiles * (n * stride * segments - _idle(taps, stride, q, segments)) * weight.shape[1] * blocks_out
    window = (tiles + segments - 1) * stride * blocks_in * (_operations(one.window) + 2 * n)
    outputs = tiles * blocks_out * (_operations(one.outputs) + 2 * n)
    return products + window + outputs, m, q


def _operations(rows: Sequence[Sequence[Fraction]]) -> int:
    return sum(sum(value != 0 for value in row) for row in rows) * 2 // 3


def _idle(taps: int, stride: int, q: int, segments: int) -> int:
    """Return how many terms have no last tap, if those that have stand in front (see `full`)."""
    block = full(taps, stride, q, segments)
    return stride * segments - (block[0] * block[1] if block else stride * segments)


def full(taps: int, stride: int, q: int, segments: int) -> tuple[int, int] | None:
    """Return in how many phases how many segments have all taps, where those that have are a block; else None."""
    counts = [sum(len(range(phase + s * q * stride, min(taps, phase + (s + 1) * q * stride), stride)) == q
                  for s in range(segments)) for phase in range(stride)]  # fmt: skip
    phases = sum(count > 0 for count in counts)
    same = set(counts[:phases])
    return (phases, counts[0]) if len(same) == 1 and counts[0] > 0 else None
