"""Convolutions and matrix products: where the time goes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rtserve.runtime.node import Call, Node, operator

CONVOLUTIONS: dict[int, Call] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
MOST_ROWS = 2048
"""Windows of a convolution along time, over the batch, up to which a CUDA device computes it as a product."""
MOST_GROUPS = 8
LEAST_TERMS = (256, 64)
"""Factors that a sum must have at least for the product to be ahead: of one group, and of several. All three were read
off an H100 (torch 2.11): with one group 160 terms take 15 us as a product and 10 in cuDNN, 700 take 13 and 29, 6,579
take 21 and 5,656; with five groups 192 terms take 20 and 60 at batch 16; with 64 groups 11 and 6."""
TRANSPOSED: dict[int, Call] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def torch_pads(begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Return ONNX pads in the order of `torch.nn.functional.pad`: last axis first, begin and end beside each other."""
    return [side for pair in reversed(list(zip(begins, ends, strict=False))) for side in pair]


class Window:
    """Kernel, strides, dilations and pads of a convolution or pool over `rank` axes."""

    def __init__(self, node: Node, kernel: Sequence[int]) -> None:
        rank = len(kernel)
        attrs = node.attrs
        self.rank, self.kernel = rank, tuple(kernel)
        self.strides = tuple(attrs.get("strides") or (1,) * rank)
        self.dilations = tuple(attrs.get("dilations") or (1,) * rank)
        pads = tuple(attrs.get("pads") or (0,) * (2 * rank))
        self.auto = attrs.get("auto_pad", "NOTSET")
        if self.auto == "VALID":
            pads, self.auto = (0,) * (2 * rank), "NOTSET"
        self.begins, self.ends = pads[:rank], pads[rank:]

    @property
    def symmetric(self) -> bool:
        """Whether both sides of every axis are padded alike, by amounts known at load."""
        return self.auto == "NOTSET" and self.begins == self.ends

    def padder(self, value: float = 0.0) -> Call:
        """Return what pads an input: by amounts put in torch's order at load, or for SAME_* by its size."""
        if self.auto != "NOTSET":
            return lambda x: F.pad(x, self.same_pads(x.shape), "constant", value)
        order = torch_pads(self.begins, self.ends)
        return lambda x: F.pad(x, order, "constant", value)

    def same_pads(self, shape: Sequence[int]) -> list[int]:
        """Return the pads of SAME_UPPER and SAME_LOWER, in torch's order."""
        begins, ends = [], []
        for size, k, s, d in zip(shape[2:], self.kernel, self.strides, self.dilations, strict=False):
            total = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
            small = total // 2
            begins.append(small if self.auto == "SAME_UPPER" else total - small)
            ends.append(total - small if self.auto == "SAME_UPPER" else small)
        return torch_pads(begins, ends)


@operator("Conv")
def conv(node: Node) -> Call:
    """Conv (opset 1, 11, 22): 1 to 3 axes, groups, strides, dilations, any pads."""
    weight = node.constants[1]
    kernel = node.attrs.get("kernel_shape") or (None if weight is None else weight.shape[2:])
    if kernel is None or len(kernel) not in CONVOLUTIONS:
        raise node.refuse(f"with kernel {kernel}")
    window = Window(node, kernel)
    function, groups = CONVOLUTIONS[window.rank], node.attrs.get("group", 1)
    if _likes_channels_last(node, window):
        return _channels_last(node, window, groups)
    if node.device.type == "cuda" and node.is_constant(1) and (node.is_constant(2) or not node.has(2)):
        weight, bias = node.tensor(1), node.tensor(2) if node.has(2) else None
        convolve = _plainly(function, window, groups)
        return along_time(weight, bias, window, groups, lambda x: convolve(x, weight, bias))
    return _plainly(function, window, groups)


def _plainly(function: Call, window: Window, groups: int) -> Call:
    """Return torch's own convolution of x, weight and bias."""
    strides, dilations = window.strides, window.dilations
    if window.symmetric:
        begins = window.begins
        return lambda x, w, b=None: function(x, w, b, strides, begins, dilations, groups)
    none, padded = (0,) * window.rank, window.padder()
    return lambda x, w, b=None: function(padded(x), w, b, strides, none, dilations, groups)


def along_time(weight: Tensor, bias: Tensor | None, window: Window, groups: int, convolve: Call) -> Call:
    """Return a convolution along the last axis as one product of its unfolded windows, where there are few of them.

    With rows (b, t), x[b, c, s t + d k] laid out as U[(b, t), (c, k)], y = U W + bias. At small batches cuDNN in float32
    picks ways that leave most of a device idle: 40 filters of 25 samples over 128 channels take an H100 3,390 us at
    batch 1, this product 26; at batch 16 both take 85, and beyond `MOST_ROWS` rows cuDNN is ahead.
    """
    filters, taps, per_group = weight.shape[0] // groups, window.kernel[-1], weight.shape[1]
    across = window.kernel[:-1] != (1,) * (window.rank - 1) or any(s != 1 for s in window.strides[:-1])
    if across or window.auto != "NOTSET" or groups > MOST_GROUPS or per_group * taps < LEAST_TERMS[groups > 1]:
        return convolve
    columns = weight.reshape(groups, filters, per_group * taps).transpose(1, 2).contiguous()
    offset = None if bias is None else bias.reshape(groups, 1, filters)
    stride, dilation, sides = window.strides[-1], window.dilations[-1], (window.begins[-1], window.ends[-1])
    span, flat = dilation * (taps - 1) + 1, not any(window.begins[:-1] + window.ends[:-1])

    def call(x: Tensor) -> Tensor:
        batch, steps = x.shape[0], (x.shape[-1] + sum(sides) - span) // stride + 1
        if not flat or batch * steps > MOST_ROWS or batch * steps <= 0 or any(size != 1 for size in x.shape[2:-1]):
            return convolve(x)
        lines = x.reshape(batch, groups, per_group, x.shape[-1])
        seen = (F.pad(lines, sides) if any(sides) else lines).unfold(-1, span, stride)[..., ::dilation]
        rows = seen.permute(1, 0, 3, 2, 4).reshape(groups, batch * steps, per_group * taps)
        y = torch.bmm(rows, columns) if offset is None else torch.baddbmm(offset, rows, columns)
        y = y.reshape(groups, batch, steps, filters).permute(1, 0, 3, 2)
        return y.reshape(batch, groups * filters, *x.shape[2:-1], steps)

    return call


def _likes_channels_last(node: Node, window: Window) -> bool:
    """Whether torch runs this convolution faster with channels innermost: float32 on a CPU, weights known."""
    known = node.is_constant(1) and (node.is_constant(2) or not node.has(2))
    return known and window.rank < 3 and node.dtype == torch.float32 and node.device.type == "cpu"


def _channels_last(node: Node, window: Window, groups: int) -> Call:
    """Convolve with the weight laid channels-last: activations follow it, and are not reordered in every call."""
    bias, flat = node.tensor(2) if node.has(2) else None, window.rank == 1

    def turn(weight: Tensor) -> Tensor:
        return (weight.unsqueeze(2) if flat else weight).contiguous(memory_format=torch.channels_last)

    weight = node.relay(1, "channels last", turn)
    lift = (0, 1, 1) if flat else (0, 0, 0)
    strides, dilations = (lift[1], *window.strides)[-2:], (lift[2], *window.dilations)[-2:]
    if window.symmetric:
        pads = (lift[0], *window.begins)[-2:]
        if flat:
            return lambda x: F.conv2d(x.unsqueeze(2), weight, bias, strides, pads, dilations, groups).squeeze(2)
        return lambda x: F.conv2d(x, weight, bias, strides, pads, dilations, groups)

    padded = window.padder()

    def call(x: Tensor) -> Tensor:
        x = padded(x)
        y = F.conv2d(x.unsqueeze(2) if flat else x, weight, bias, strides, 0, dilations, groups)
        return y.squeeze(2) if flat else y

    return call


@operator("ConvTranspose")
def conv_transpose(node: Node) -> Call:
    """ConvTranspose (opset 1, 11): pads crop the output; unequal pads are cropped afterwards."""
    weight = node.constants[1]
    kernel = node.attrs.get("kernel_shape") or (None if weight is None else weight.shape[2:])
    if kernel is None or len(kernel) not in TRANSPOSED:
        raise node.refuse(f"with kernel {kernel}")
    if "output_shape" in node.attrs:
        raise node.refuse("with a prescribed output_shape")
    window = Window(node, kernel)
    if window.auto != "NOTSET":
        raise node.refuse(f"with auto_pad={window.auto}")
    function, groups = TRANSPOSED[window.rank], node.attrs.get("group", 1)
    extra = tuple(node.attrs.get("output_padding") or (0,) * window.rank)
    strides, dilations = window.strides, window.dilations
    if window.symmetric:
        begins = window.begins
        return lambda x, w, b=None: function(x, w, b, strides, begins, extra, groups, dilations)
    none, crop = (0,) * window.rank, [-p for p in torch_pads(window.begins, window.ends)]
    return lambda x, w, b=None: F.pad(function(x, w, b, strides, none, extra, groups, dilations), crop)


@operator("Gemm")
def gemm(node: Node) -> Call:
    """Gemm (opset 7 and later): alpha A' B' + beta C."""
    alpha, beta = node.attrs.get("alpha", 1.0), node.attrs.get("beta", 1.0)
    turn_a, turn_b = node.attrs.get("transA", 0), node.attrs.get("transB", 0)
    if node.is_constant(1) and not turn_a and (node.is_constant(2) or not node.has(2)):
        weight = node.tensor(1)
        weight = (weight if turn_b else weight.t()) * alpha if alpha != 1.0 else (weight if turn_b else weight.t())
        bias = node.tensor(2) * beta if node.has(2) else None
        if bias is None or bias.dim() == 1:
            return lambda x: F.linear(x, weight, bias)
        return lambda x: F.linear(x, weight) + bias

    def call(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = torch.matmul(a.t() if turn_a else a, b.t() if turn_b else b)
        product = product if alpha == 1.0 else product * alpha
        return product if c is None else product + (c if beta == 1.0 else c * beta)

    return call


@operator("MatMul")
def matmul(node: Node) -> Call:
    """MatMul (opset 1 and later): numpy's matmul, leading axes broadcast."""
    function: Call = torch.matmul
    return function


@operator("Einsum")
def einsum(node: Node) -> Call:
    """Einsum (opset 12): products summed over the letters of the equation that its result lacks."""
    equation = node.attrs["equation"].replace(" ", "")
    return lambda *values: torch.einsum(equation, *values)
