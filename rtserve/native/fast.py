r"""Convolutions by tiles: which of them, and with which tile; `rtserve.native.tiled` writes them.

A stride of s takes the window apart into s phases, each with every s-th tap and a stride of one. Taps of a phase are taken
in segments of q. With :math:`q = m` a segment further is a tile further, so that every window is transformed once and all
segments and phases are one product whose k run over them. For a term whose last tap is none, infinity has nothing to add.

A long filter is cheaper by waves (`rtserve.native.waves`): n samples are n / 2 complex products, whatever the taps.

Which tile is taken follows from the count of vector operations. Tiles have more weights than the kernel has, though (11 for
3 at a stride of two): where a graph's weights do not stay in the core's own cache, a product takes at least as long as its
weights take to arrive (`rtserve.native.costs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod
from typing import TYPE_CHECKING

from rtserve.native.costs import BYTES_PER_NS, LANES, MACS_PER_NS, NUMBERS_PER_NS, SPILLED
from rtserve.native.together import positions_together
from rtserve.native.waves import LENGTHS, Wave, operations
from rtserve.runtime.points import MOST_POINTS, Tile, tile_of

if TYPE_CHECKING:
    import numpy as np

    from rtserve.native.flow import Operation

__all__ = ["Fast", "Plan", "choose", "full", "taken_together"]

_NS = LANES / MACS_PER_NS
"""Of a vector operation."""
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
    tile : Tile or Wave
        Its tile, by points or by waves.
    stride, segments, tiles : int
        Phases; segments of each, one by waves; tiles of a line.
    reach : int
        Samples of a line, with its padding, that are read.
    """

    axis: int
    tile: Tile | Wave
    stride: int
    segments: int
    tiles: int
    reach: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was chosen for a convolution: tiles, or None where direct is cheaper; and its weights in bytes, as packed."""

    fast: Fast | None
    packed: float


def choose(
    operation: Operation, weight: np.ndarray, target: Sequence[int], axis: int, *, tiles: bool, streamed: bool
) -> Plan:
    """Return how a convolution is computed at least cost.

    Parameters
    ----------
    operation : Operation
        The convolution.
    weight : ndarray, (outputs, channels of a group, ...)
        Its kernel.
    target : sequence of int
        The output's shape.
    axis : int
        The one along which the kernel is longest.
    tiles : bool
        Whether tiles may be used, and positions taken together.
    streamed : bool
        Whether weights come from beyond the core's own cache, for every line or lines that are taken together.
    """
    rank, attrs = weight.ndim, operation.attrs
    k, n_out = axis - 2, target[axis]
    strides, dilations = attrs.get("strides") or [1] * (rank - 2), attrs.get("dilations") or [1] * (rank - 2)
    layer = _Layer(
        n_in=weight.shape[1], group=attrs.get("group", 1), channels=weight.shape[0], n_out=n_out,
        taps=weight.shape[k + 2], stride=strides[k], others=prod(weight.shape[2:]) // weight.shape[k + 2],
        lines=prod(target) // (target[1] * n_out), streamed=streamed,
    )  # fmt: skip
    direct = layer.direct(together=tiles and layer.group == 1 and dilations[k] == 1)
    alone = layer.others == 1 and all(s == 1 for j, s in enumerate(strides) if j != k)
    can = tiles and alone and layer.taps > 1 and dilations[k] == 1 and not layer.deep
    ways = [layer.by_tiles(m, q) for m in range(2, 7) for q in range(2, 7)] if can else []
    ways += [layer.by_waves(n) for n in LENGTHS] if can else []
    best = min(ways, key=lambda way: (way.ns, way.m, way.q), default=direct)
    if best is direct or best.ns > WORTH * direct.ns:
        return Plan(fast=None, packed=direct.packed)
    reach = ((best.tiles + best.segments - 1) * best.m + best.q - 1) * layer.stride
    tile = Wave(n=best.m + best.q - 1, q=best.q) if best.waves else tile_of(best.m, best.q)
    fast = Fast(axis=axis, tile=tile, stride=layer.stride, segments=best.segments, tiles=best.tiles, reach=reach)
    return Plan(fast=fast, packed=best.packed)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """One way of a convolution: ns of a line, bytes of its packed weights; its tile, where it has one."""

    ns: float
    packed: float
    m: int = 0
    q: int = 0
    tiles: int = 0
    segments: int = 0
    waves: bool = False


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """What a convolution's cost follows from; `others` are the taps along its other axes, `lines` how many there are."""

    n_in: int
    group: int
    channels: int
    n_out: int
    taps: int
    stride: int
    others: int
    lines: int
    streamed: bool

    @property
    def deep(self) -> bool:
        """Whether every channel has a kernel of its own."""
        return self.n_in == 1 and self.group > 1

    @property
    def blocks(self) -> int:
        """Vectors of the output's channels."""
        return ceil(self.channels / LANES)

    def direct(self, *, together: bool) -> _Way:
        """Return the way by every tap, of several positions at once where that is cheaper."""
        k = self.taps * self.others * self.n_in
        packed = 4.0 * k * self.blocks * LANES
        several = positions_together(self.channels, self.taps, self.stride, self.n_out)[1]
        vectors = several if together else self.blocks
        return _Way(ns=self._products(self.n_out * k * vectors, packed, 1), packed=packed)

    def by_tiles(self, m: int, q: int) -> _Way:
        """Return the way by tiles of m outputs and q taps; without end where they cannot be."""
        n, phase = m + q - 1, ceil(self.taps / self.stride)
        segments = ceil(phase / q)
        if n > MOST_POINTS or self.stride > self.taps or (segments > 1 and q != m):
            return _Way(ns=float("inf"), packed=0.0, m=m, q=q)
        one, tiles = tile_of(m, q), ceil(self.n_out / m)
        terms = n * self.stride * segments - _idle(self.taps, self.stride, q, segments)
        packed = 4.0 * terms * self.n_in * self.blocks * LANES
        moved = self._moved(tiles + segments - 1, m, _operations(one.window) + 2 * n)
        moved += tiles * self.blocks * (_operations(one.outputs) + 2 * n) * _NS
        products = self._products(tiles * terms * self.n_in * self.blocks, packed, taken_together(self.lines, tiles))
        return _Way(ns=products + moved, packed=packed, m=m, q=q, tiles=tiles, segments=segments)

    def by_waves(self, n: int) -> _Way:
        """Return the way by waves of tiles of n samples; without end where they cannot be."""
        one = Wave(n=n, q=ceil(self.taps / self.stride))
        if one.m < 1 or self.stride > self.taps:
            return _Way(ns=float("inf"), packed=0.0, m=one.m, q=one.q)
        tiles, terms = ceil(self.n_out / one.m), n * self.stride
        packed = 4.0 * terms * self.n_in * self.blocks * LANES
        window, outputs = (SPILLED * count for count in operations(n, one.m))
        moved = self._moved(tiles, one.m, window + 2 * n) + tiles * self.blocks * (outputs + 2 * n) * _NS
        products = 2 * tiles * terms * self.n_in * self.blocks  # a complex one is four real ones
        ns = self._products(products, packed, taken_together(self.lines, tiles)) + moved
        return _Way(ns=ns, packed=packed, m=one.m, q=one.q, tiles=tiles, segments=1, waves=True)

    def _moved(self, windows: int, m: int, each: float) -> float:
        """Return ns of transforming so many windows, m samples apart, in so many operations a vector."""
        inputs = self.n_in * self.group
        spread = windows * self.stride * m * (-inputs % LANES) / NUMBERS_PER_NS  # samples lie by whole vectors
        return windows * self.stride * ceil(inputs / LANES) * each * _NS + spread

    def _products(self, operations: float, packed: float, together: int) -> float:
        """Return ns of a line's products: of computing, or of reading the weights once for lines taken together."""
        return max(operations * _NS, packed / BYTES_PER_NS / together if self.streamed else 0.0)


def taken_together(lines: int, tiles: int) -> int:
    """Return how many lines' tiles are the rows of one product."""
    return next(k for k in range(1, lines + 1) if lines % k == 0 and (k == lines or k * tiles >= FEWEST_ROWS))


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
