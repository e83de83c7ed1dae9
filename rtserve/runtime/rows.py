"""Convolutions along time on a CPU as one product: windows, which are stretches of memory, times the kernel laid flat.

With rows (b, t), x[b, c, s t + d k] laid out as U[(b, t), (k, c)], y = U W + bias, for each group. Values keep their shape,
(batch, channels, time), and lie in memory with channels innermost, so that nothing is turned from one layer to the next
and U of one window is a view. Samples that no window reads are in no product.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rtserve.runtime.node import Call
from rtserve.runtime.replay import is_followed
from rtserve.runtime.tiles import tiles_of

MOST_VIEWED, MOST_COPIED = 1 << 18, 1 << 16
"""Numbers of U up to which it is ahead, as a view and where it is copied: for several windows, groups, or dilations."""
LEAST_FILTERS, LEAST_TAPS, LEAST_ROWS, LEAST_WORK = 16, 2, 8, 1 << 18
"""Of one group: filters, taps (one tap turns the window for nothing), rows, and multiply-adds of a window."""
MOST_SHARES, MOST_SHARED_ROWS = 8, 64
"""Of several, which have no least rows or work: torch's own takes 50 us for 5 groups of 64 filters of 128 channels at one
sample. More rows are copied apart and together again for longer than products save.

Read off a core of AMD EPYC (Zen 4; torch 2.13): as a share of torch's own time, 16 filters of 15 samples over 8 channels
take .8, 32 of 16 over 64 .6, 64 of 5 over 32 .9 and 4 groups of 16 of 3 over 16 .6; 8 filters of 15 over 8 take 1.3, 64 of
one sample over 129 1.4, 400 of 3 over 200 at 3 samples 1.1, 2 windows of 100 x 903 numbers 1.2."""


def as_rows(
    weight: Tensor, bias: Tensor | None, groups: int, stride: int, dilation: int, sides: tuple[int, int], convolve: Call
) -> Call:
    """Return a convolution of (batch, channels, time) as a product where that is ahead, `convolve` elsewhere.

    Parameters
    ----------
    weight : Tensor, (filters, channels of a group, taps)
        Of all groups.
    bias : Tensor, (filters,), optional
        What is added.
    groups, stride, dilation : int
        Groups of channels; steps along time.
    sides : tuple of int
        Zeros in front and behind.
    convolve : callable
        The same convolution by torch.
    """
    filters, per_group, taps = weight.shape
    alone = groups == 1
    if groups > MOST_SHARES or filters < LEAST_FILTERS * groups or (alone and taps < LEAST_TAPS):
        return convolve
    span, terms, channels = dilation * (taps - 1) + 1, taps * per_group, groups * per_group
    unfolded = _unfolded(weight, bias, groups, (stride, dilation), sides)
    tiles = tiles_of(weight, bias, groups, stride, dilation, sides[0])

    def fits(batch: int, steps: int) -> bool:
        rows = batch * steps
        viewed = alone and dilation == 1 and batch == 1
        if not 0 < rows * terms * groups <= (MOST_VIEWED if viewed else MOST_COPIED):
            return False
        if alone:
            return rows >= LEAST_ROWS and steps * terms * filters >= LEAST_WORK
        return rows <= MOST_SHARED_ROWS

    def call(x: Tensor) -> Tensor:
        if is_followed(x):  # before anything asks for its sizes
            return convolve(x)
        batch, given, times = x.shape
        steps = (times + sides[0] + sides[1] - span) // stride + 1
        y: Tensor | None = None
        if given == channels and steps > 0:
            if tiles is not None and tiles.ahead(batch, steps):
                y = tiles(x.transpose(1, 2), steps)
            elif fits(batch, steps):
                y = unfolded(x.transpose(1, 2), steps)
        return convolve(x) if y is None else y.transpose(1, 2)

    return call


def _unfolded(
    weight: Tensor, bias: Tensor | None, groups: int, steps: tuple[int, int], sides: tuple[int, int]
) -> Callable[[Tensor, int], Tensor]:
    """Return what multiplies the unfolded windows of (batch, time, channels): (batch, outputs, filters)."""
    filters, per_group, taps = weight.shape
    alone, terms, channels = groups == 1, taps * per_group, groups * per_group
    stride, dilation = steps
    strides = (stride * channels, dilation * channels, 1)
    multiply, pad = _row_products(weight, bias, groups), _padder(weight, sides, channels)

    def product(lines: Tensor, steps: int) -> Tensor:
        batch, lines = len(lines), pad(lines)
        if taps == stride == 1:  # several groups, which lie beside each other
            y = multiply(lines.view(-1, groups, terms).transpose(0, 1))
        elif alone and dilation == 1 and batch == 1:
            y = multiply(lines.as_strided((steps, terms), strides[::2]))
        else:
            shape, length = (groups, batch, steps, taps, per_group), lines.shape[1] * channels
            windows = lines.as_strided(shape, (per_group, length, *strides))
            y = multiply(windows.reshape((-1, terms) if alone else (groups, -1, terms)))
        seen: Tensor = y.view(batch, steps, filters)
        return seen

    return product


def _padder(weight: Tensor, sides: tuple[int, int], channels: int) -> Call:
    """Return what puts zeros around (batch, time, channels), and its numbers one behind another in memory."""
    if not any(sides):
        return lambda lines: lines.contiguous()
    before, behind = (weight.new_zeros(1, side, channels) for side in sides)

    def pad(lines: Tensor) -> Tensor:
        batch = lines.shape[0]
        if batch == 1:
            return torch.cat([before, lines, behind], 1)
        return torch.cat([before.expand(batch, -1, -1), lines, behind.expand(batch, -1, -1)], 1)

    return pad


def laid_flat(weight: Tensor, groups: int) -> Tensor:
    """Return a kernel (filters, channels of a group, taps) as matrices, (groups, taps x channels, filters of a group)."""
    filters, per_group, taps = weight.shape
    columns = weight.reshape(groups, filters // groups, per_group, taps).permute(0, 3, 2, 1)
    return columns.reshape(groups, taps * per_group, filters // groups).contiguous()


def one_product(matrix: Tensor, bias: Tensor | None) -> Call:
    """Return what multiplies windows (rows, terms) by a matrix (terms, filters)."""
    return (lambda u: torch.mm(u, matrix)) if bias is None else (lambda u: torch.addmm(bias, u, matrix))


def _row_products(weight: Tensor, bias: Tensor | None, groups: int) -> Call:
    """Return what multiplies windows, (rows, terms) or (groups, rows, terms), by a kernel: (rows, filters)."""
    columns = laid_flat(weight, groups)
    if groups == 1:
        return one_product(columns[0], bias)
    filters, offset = len(weight), None if bias is None else bias.reshape(groups, 1, -1)

    def several(u: Tensor) -> Tensor:
        y = torch.bmm(u, columns) if offset is None else torch.baddbmm(offset, u, columns)
        return y.transpose(0, 1).reshape(-1, filters)

    return several
