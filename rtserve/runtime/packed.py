"""Convolutions of several groups on a CPU with a kernel that is laid out for oneDNN once, and not at every call.

torch does that by operators that are not public: they are tried at first, and where they are missing or give other numbers
its own convolution is called. Of five groups of 64 filters of 5 samples over 32 channels that takes .75 of the time at one
window and .9 at five; one group gains nothing where products (`rtserve.runtime.rows`) are ahead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rtserve.runtime.node import Call
from rtserve.runtime.replay import is_followed


def prepacked(
    weight: Tensor,
    bias: Tensor | None,
    pads: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Call:
    """Return a convolution of (batch, channels, height, width), channels innermost, its kernel laid out at the first."""

    def convolve(x: Tensor) -> Tensor:
        y: Tensor = F.conv2d(x, weight, bias, strides, pads, dilations, groups)
        return y

    if groups == 1 or weight.dtype != torch.float32 or not serves():
        return convolve
    sides, channels = (list(pads), list(strides), list(dilations)), groups * weight.shape[1]
    least = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(weight.shape[2:], dilations, pads, strict=True)]
    kept: list[Tensor] = []

    def call(x: Tensor) -> Tensor:
        if is_followed(x) or x.dtype != weight.dtype or (x.requires_grad and torch.is_grad_enabled()):
            return convolve(x)
        batch, given, height, width = x.shape
        if not batch or given != channels or height < least[0] or width < least[1]:
            return convolve(x)
        if height > 1 < width and not x.is_contiguous(memory_format=torch.channels_last):
            return convolve(x)  # what oneDNN turns faster: 1.13 of the time of all EEGInceptionERP
        if not kept:
            kept.append(_packed(weight, sides, groups, x.shape))
        return _convolved(x.contiguous(memory_format=torch.channels_last), kept[0], bias, sides, groups)

    return call


def _packed(weight: Tensor, sides: tuple[list[int], ...], groups: int, shape: Sequence[int]) -> Tensor:
    """Return a kernel as oneDNN likes it for windows of a shape; it serves others, laid out anew where it must be."""
    with torch.inference_mode(False), torch.no_grad():
        order: Callable[..., Tensor] = torch._C._nn.mkldnn_reorder_conv2d_weight
        return order(weight.to_mkldnn(), *sides, groups, list(shape))


def _convolved(x: Tensor, packed: Tensor, bias: Tensor | None, sides: tuple[list[int], ...], groups: int) -> Tensor:
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, packed, bias, *sides, groups, "none", [], "")
    return y


@functools.cache
def serves() -> bool:
    """Whether these operators are there and give torch's numbers, in float32: in float16 they ask a processor for more."""
    sides, groups = ([0, 1], [1, 2], [1, 1]), 2
    with torch.inference_mode(False), torch.no_grad():
        x, weight, bias = (torch.arange(n, dtype=torch.float32).sin() for n in (2 * 8 * 9, 32 * 4 * 3, 32))
        x = x.reshape(2, 8, 1, 9).contiguous(memory_format=torch.channels_last)
        weight = weight.reshape(32, 4, 1, 3)
        try:
            y = _convolved(x, _packed(weight, sides, groups, x.shape), bias, sides, groups)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return False
        found = torch.allclose(y, F.conv2d(x, weight, bias, *sides[1::-1], sides[2], groups), rtol=1e-4, atol=1e-5)
        return bool(found)
