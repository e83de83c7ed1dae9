r"""Convolutions with few outputs: neighbours in time are computed together, so that vectors are full.

Eight outputs leave half of a vector of sixteen empty, forty a sixth of three. The outputs of P positions lie one behind the
other, [t][c] [t + 1][c] ..., and are those of one position of a convolution with P times as many outputs, P times the stride
and a few more taps:

.. math:: w'[p c + o, k] = w[o, k - p d], \qquad d = stride / dilation,

with zeros where there is no tap. What a position reads besides are its neighbours' samples, times zero: of those that are no
numbers more is seen than by one position at a time, as in tiles, and where that shows, code is written without both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from rtserve.native.costs import LANES

if TYPE_CHECKING:
    from rtserve.native.view import View

__all__ = ["Layer", "positions_together", "together"]

POSITIONS = (2, 4)
MORE_TAPS = 1 / 8
"""Of a kernel's taps, at most: shorter vectors than sixteen, which the same code is for, gain little or nothing."""
WORTH = 0.9
"""Of the operations of one position by itself."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution: where each row's first tap lies, the output, its kernel (outputs, inputs, ...) and bias."""

    rows: View
    target: View
    weight: np.ndarray
    bias: np.ndarray | None


def positions_together(channels: int, taps: int, step: int, at_most: int) -> tuple[int, float]:
    """Return how many positions are computed at once, and the vectors of outputs that each takes per tap.

    Parameters
    ----------
    channels : int
        Outputs of one position.
    taps, step : int
        Taps of the kernel, and by how many of them the next position is further.
    at_most : int
        Positions that there are.
    """
    one = float(ceil(channels / LANES))
    ways = [(n, (n - 1) * step) for n in POSITIONS if n <= at_most]
    costs = {n: (taps + more) / taps * ceil(n * channels / LANES) / n for n, more in ways if more <= taps * MORE_TAPS}
    best = min(costs, key=lambda n: costs[n], default=1)
    return (best, costs[best]) if costs and costs[best] <= WORTH * one else (1, one)


def together(layer: Layer, places: Sequence[tuple[int, int]]) -> list[Layer]:
    """Return a convolution as those that are computed in its place: several positions at once, and what is left over.

    Parameters
    ----------
    layer : Layer
        One position at a time, of one group of channels.
    places : sequence of (int, int)
        Stride and dilation of each axis.
    """
    channels, target = len(layer.weight), layer.target
    axis = max(range(2, len(target.shape)), key=lambda a: (target.steps[a] == channels, target.shape[a]))
    (stride, dilation), size = places[axis - 2], target.shape[axis]
    if target.steps[axis] != channels or target.steps[1] != 1 or stride % dilation:
        return [layer]
    n, _ = positions_together(channels, layer.weight.shape[axis], stride // dilation, size)
    if n == 1:
        return [layer]
    parts = [_together(layer, axis, n, stride // dilation)]
    if left := size % n:
        rows, target = (view.cut(axis, size - left, left) for view in (layer.rows, target))
        parts.append(replace(layer, rows=rows, target=target))
    return parts


def _together(layer: Layer, axis: int, n: int, step: int) -> Layer:
    """Return n positions at once along an axis, as many as there are whole."""
    channels, shape, whole = len(layer.weight), list(layer.weight.shape), layer.target.shape[axis] // n
    taps = shape[axis]
    shape[0], shape[axis] = n * channels, taps + (n - 1) * step
    weight = np.zeros(shape, layer.weight.dtype)
    for p in range(n):
        at = [slice(None)] * len(shape)
        at[0], at[axis] = slice(p * channels, (p + 1) * channels), slice(p * step, p * step + taps)
        weight[tuple(at)] = layer.weight
    target = layer.target.cut(axis, 0, whole, n)
    wide = [n * channels if a == 1 else size for a, size in enumerate(target.shape)]
    return Layer(
        rows=layer.rows.cut(axis, 0, whole, n), target=replace(target, shape=tuple(wide)), weight=weight,
        bias=None if layer.bias is None else np.tile(layer.bias, n),
    )  # fmt: skip
