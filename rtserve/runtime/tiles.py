r"""Long convolutions along time on a CPU with fewer products: tiles of outputs, by evaluation at points.

The taps of every phase of the stride are taken in filters of at most `TAPS`; filter f gives `OUTPUTS` outputs by
:math:`A_f [(G_f g) \odot (B_f d)]` (`rtserve.runtime.points`), and a tile's outputs are the sum over its filters. All
filters stand one behind the other: one small product takes the samples d of a tile, (samples, channels), to all points,
one batch of products multiplies channels there, one small product gives the outputs.

What is not finite would spread over its tile: such windows are convolved plainly, as the sum of the outputs tells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rtserve.runtime.points import Rows, tile_of

OUTPUTS, TAPS = 5, 4
"""Of a tile and of its filters: with eight points, single precision loses a third of what it may."""
LEAST_TILED, MOST_TILED = 1 << 14, 1 << 19
"""Weights that a convolution has at least, and those of its points at most: a core's cache holds no more."""
MOST_EVALUATED = 1 << 18
"""Numbers at the points, in front of the products and behind."""
MULTIPLIED, EVALUATED, UNFOLDED = 43_000, 20_000, 7_000
"""Multiply-adds in a microsecond, of products and of taking samples to points and back; numbers of unfolded windows."""
STARTED_US, AHEAD = 12.0, 0.75
"""What starting all steps takes, and the share of the time of one product up to which tiles are taken.

`benchmarks/tiles.py` measures them."""


class Tiles:
    """A convolution of one group by tiles.

    Parameters
    ----------
    weight : Tensor, (filters, channels, taps)
        Its kernel.
    bias : Tensor, (filters,), optional
        What is added.
    stride, before : int
        Steps along time; zeros in front. Those behind are what an answer takes.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int, before: int) -> None:
        self.filters, self.channels, self.taps = weight.shape
        self.stride, self.zeros = stride, weight.new_zeros(1, before, self.channels)
        parts = filters_of(self.taps, stride)
        self.points, self.span = points_of(self.taps, stride), stride * (OUTPUTS - 1) + self.taps
        window, kernel, outputs = _matrices(parts, self.taps, stride, self.span)
        self.asked: tuple[tuple[int, int], bool] = ((0, 0), False)
        self.bias, self.even = bias, int((outputs == 1).all(0).nonzero()[0])
        self.window, self.outputs = window.to(weight.dtype), outputs.to(weight.dtype)
        at_points = torch.einsum("pk,fck->pcf", kernel, weight.double())
        self.weights = at_points.to(weight.dtype).contiguous()

    def ahead(self, batch: int, steps: int) -> bool:
        """Whether tiles take clearly less time than one product of the unfolded windows; told at once for the last size."""
        if (batch, steps) != self.asked[0]:
            self.asked = ((batch, steps), self._ahead(batch, steps))
        return self.asked[1]

    def _ahead(self, batch: int, steps: int) -> bool:
        tiles = batch * -(-steps // OUTPUTS)
        points, wide = tiles * self.points, max(self.filters, self.channels)
        if points * wide > MOST_EVALUATED:
            return False
        evaluated = points * (self.span * self.channels + OUTPUTS * self.filters)
        ours = points * self.channels * self.filters / MULTIPLIED + evaluated / EVALUATED + STARTED_US
        numbers = batch * steps * self.taps * self.channels
        return bool(ours < AHEAD * (numbers * self.filters / MULTIPLIED + numbers / UNFOLDED))

    def __call__(self, lines: Tensor, steps: int) -> Tensor | None:
        """Return (batch, steps, filters) of (batch, time, channels); None where not all of it is finite."""
        batch, tiles, step = len(lines), -(-steps // OUTPUTS), self.stride * OUTPUTS
        lines = self._around(lines, (tiles - 1) * step + self.span)
        length, channels, rows = lines.shape[1] * self.channels, self.channels, batch * tiles
        if batch == 1:
            seen = lines.as_strided((tiles, self.span, channels), (step * channels, channels, 1))
        else:
            shape, strides = (batch, tiles, self.span, channels), (length, step * channels, channels, 1)
            seen = lines.as_strided(shape, strides).reshape(rows, self.span, channels)
        at_points = torch.bmm(self.window.expand(rows, -1, -1), seen)
        products = torch.bmm(at_points.transpose(0, 1), self.weights)
        if self.bias is not None:  # at this point outputs are its value
            products[self.even] += self.bias
        y = torch.bmm(self.outputs.expand(rows, -1, -1), products.transpose(0, 1))
        if not math.isfinite(y.detach().sum().item()):
            return None
        return y.view(batch, tiles * OUTPUTS, self.filters)[:, :steps]

    def _around(self, lines: Tensor, reach: int) -> Tensor:
        """Return lines between zeros, up to what the tiles read, their numbers one behind another in memory."""
        batch, times = lines.shape[:2]
        before, behind = self.zeros, reach - times - self.zeros.shape[1]
        whole = [before.expand(batch, -1, -1), lines] if before.shape[1] else [lines]
        if behind > 0:
            whole.append(lines.new_zeros(1, 1, 1).expand(batch, behind, self.channels))
        return torch.cat(whole, 1) if len(whole) > 1 else lines.contiguous()


def tiles_of(weight: Tensor, bias: Tensor | None, groups: int, stride: int, dilation: int, before: int) -> Tiles | None:
    """Return the tiles of a convolution that may be ahead by them; None for another."""
    filters, channels, taps = weight.shape
    if groups != 1 or dilation != 1 or stride > taps or weight.numel() < LEAST_TILED:
        return None
    points = points_of(taps, stride)
    if points * filters * channels > MOST_TILED or points > AHEAD * taps * OUTPUTS:
        return None
    return Tiles(weight, bias, stride, before)


def filters_of(taps: int, stride: int) -> list[list[int]]:
    """Return the taps of every filter, those of a phase in equal parts."""
    found = []
    for phase in range(stride):
        its = list(range(phase, taps, stride))
        parts = -(-len(its) // TAPS)
        found += [its[len(its) * k // parts : len(its) * (k + 1) // parts] for k in range(parts)]
    return found


def points_of(taps: int, stride: int) -> int:
    """Return how many products a tile is."""
    return sum(OUTPUTS + len(its) - 1 for its in filters_of(taps, stride))


def _matrices(parts: list[list[int]], taps: int, stride: int, span: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what takes samples, (points, span), and taps, (points, taps), to points, and products to outputs."""
    windows, kernels, outputs = [], [], []
    for its in parts:
        if len(its) == 1:
            one = (torch.eye(OUTPUTS).double(), torch.ones(OUTPUTS, 1).double(), torch.eye(OUTPUTS).double())
        else:
            found = tile_of(OUTPUTS, len(its))
            one = (_floats(found.window), _floats(found.taps), _floats(found.outputs))
        window, kernel = (torch.zeros(len(one[0]), n, dtype=torch.float64) for n in (span, taps))
        window[:, its[0] + stride * torch.arange(len(one[0]))] = one[0]
        kernel[:, its] = one[1]
        windows.append(window)
        kernels.append(kernel)
        outputs.append(one[2])
    return torch.cat(windows), torch.cat(kernels), torch.cat(outputs, 1)


def _floats(rows: Rows) -> Tensor:
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)
