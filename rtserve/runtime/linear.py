"""Convolutions and matrix products: where the time goes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rtserve.runtime.node import Call, Node, operator
from rtserve.runtime.packed import prepacked
from rtserve.runtime.replay import is_followed
from rtserve.runtime.rows import as_rows, laid_flat, one_product

CONVOLUTIONS: dict[int, Call] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
MOST_ROWS = 2048
"""Windows of a convolution along time, over the batch, up to which a CUDA device computes it as a product."""
LEAST_TERMS = (256, 64)
"""Factors that a sum must have at least for the product to be ahead: of one group, and of several."""
WIDE = (64, 512)
"""Filters and factors from which it is taken however many windows there are."""
MOST_GROUPS = 8
MOST_NUMBERS = 1 << 27
"""Numbers that the unfolded windows may be. All of these were read off an H100 and an H200 (torch 2.11): 40 filters of 25
samples over 128 channels take 2,811 us in cuDNN at batch 1 and 28 as a product, 204 and 302 at batch 64; 64 filters of 15
over 64 take 28 and 19 at batch 1, 57,510 and 604 at batch 512; 32 of 7 over 129 take 141 and 306 there. Five groups of 128
filters of 3 over 64 take 1,082 and 204, five of 64 filters of 5 over 32 160 and 215; with 64 groups cuDNN is ahead."""
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
    def only_axis(self) -> int | None:
        """Which axis it runs along where it does nothing along the others, the last where it does along none."""
        axes = range(self.rank)
        busy = [a for a in axes if (self.kernel[a], self.strides[a], self.begins[a], self.ends[a]) != (1, 1, 0, 0)]
        return None if self.auto != "NOTSET" or len(busy) > 1 else (*busy, self.rank - 1)[0]

    def along(self, axis: int) -> Window:
        """Return what it is on that axis alone."""
        line = copy.copy(self)
        line.rank = 1
        for name in ("kernel", "strides", "dilations", "begins", "ends"):
            setattr(line, name, (getattr(self, name)[axis],))
        return line

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
        on_rows: Call = node.once(lambda: on_cpu(node, window, groups))
        return on_rows
    if node.device.type == "cuda" and node.is_constant(1) and (node.is_constant(2) or not node.has(2)):
        return on_cuda(node.tensor(1), node.tensor(2) if node.has(2) else None, window, groups)
    return _plainly(function, window, groups)


def on_cpu(node: Node, window: Window, groups: int) -> Call:
    """Return a convolution as a CPU computes it fastest: by rows where it runs along one axis, the others of length 1."""
    whole, axis = _channels_last(node, window, groups), window.only_axis
    if axis is None:
        return whole
    line, bias = window.along(axis), node.tensor(2) if node.has(2) else None
    weight, sides = node.tensor(1), (line.begins[0], line.ends[0])
    kernel, steps = weight.reshape(*weight.shape[:2], -1), (line.strides[0], line.dilations[0])
    if window.rank == 1:
        return as_rows(kernel, bias, groups, *steps, sides, whole)
    across = 3 - axis
    flat = as_rows(kernel, bias, groups, *steps, sides, lambda x: whole(x.unsqueeze(across)).squeeze(across))

    def call(x: Tensor) -> Tensor:
        if is_followed(x) or x.shape[across] != 1:
            return whole(x)
        y: Tensor = flat(x.squeeze(across)).unsqueeze(across)
        return y

    return call


def on_cuda(weight: Tensor, bias: Tensor | None, window: Window, groups: int) -> Call:
    """Return a convolution as a CUDA device computes it fastest.

    What runs along one axis, all others of length 1, is done on (batch, channels, time): with kernels of (182, 1) cuDNN's
    float32 takes 20 times as long. A product leaves channels innermost, where cuDNN is slower too: 45 us against 30.
    """
    whole, axis = _plainly(CONVOLUTIONS[window.rank], window, groups), window.only_axis

    def convolve(x: Tensor) -> Tensor:
        y: Tensor = whole(x.contiguous(), weight, bias)
        return y

    if axis is None:
        return convolve
    kernel, line = weight.reshape(*weight.shape[:2], -1), window.along(axis)
    plain = _plainly(F.conv1d, line, groups)
    flat = along_time(kernel, bias, line, groups, lambda x: plain(x.contiguous(), kernel, bias))
    if window.rank == 1:
        return flat

    def call(x: Tensor) -> Tensor:
        sizes = [1] * window.rank
        sizes[axis] = x.shape[2 + axis]
        if x.shape[2:] != tuple(sizes):
            return convolve(x)
        y: Tensor = flat(x.reshape(*x.shape[:2], sizes[axis]))
        sizes[axis] = y.shape[2]
        return y.reshape(*y.shape[:2], *sizes)

    return call


def _plainly(function: Call, window: Window, groups: int) -> Call:
    """Return torch's own convolution of x, weight and bias."""
    strides, dilations = window.strides, window.dilations
    if window.symmetric:
        begins = window.begins
        return lambda x, w, b=None: function(x, w, b, strides, begins, dilations, groups)
    none, padded = (0,) * window.rank, window.padder()
    return lambda x, w, b=None: function(padded(x), w, b, strides, none, dilations, groups)


def along_time(weight: Tensor, bias: Tensor | None, window: Window, groups: int, convolve: Call) -> Call:
    """Return a convolution of (batch, channels, time) as one product of its unfolded windows, where that is ahead.

    As in `rtserve.runtime.rows`, where the answer lies too: channels innermost, so that the next layer's windows are whole
    stretches of memory. cuDNN in float32 picks ways
    that leave most of a device idle where there are few windows, or several groups.
    """
    filters, taps, per_group = weight.shape[0] // groups, window.kernel[0], weight.shape[1]
    terms, most = per_group * taps, MOST_ROWS
    if groups > MOST_GROUPS or terms < LEAST_TERMS[groups > 1]:
        return convolve
    if groups > 1 or (filters >= WIDE[0] and terms >= WIDE[1]):
        most = MOST_NUMBERS
    columns = laid_flat(weight, groups)
    multiply = one_product(columns[0], bias) if groups == 1 else _products(columns, bias)
    stride, dilation, sides = window.strides[0], window.dilations[0], (window.begins[0], window.ends[0])
    span, zero = dilation * (taps - 1) + 1, weight.new_zeros(())

    def call(x: Tensor) -> Tensor:
        batch, steps = x.shape[0], (x.shape[2] + sum(sides) - span) // stride + 1
        rows = batch * steps
        if rows > most or rows * terms * groups > MOST_NUMBERS or rows <= 0:
            return convolve(x)
        lines = x.transpose(1, 2)
        if any(sides):  # one kernel, where `F.pad` launches two
            ends = (zero.expand(batch, side, x.shape[1]) for side in sides)
            lines = torch.cat([next(ends), lines, next(ends)], 1)
        seen = lines.unfold(1, span, stride)[..., ::dilation].reshape(batch, steps, groups, per_group, taps)
        y = multiply(seen.permute(2, 0, 1, 4, 3).reshape((rows, terms) if groups == 1 else (groups, rows, terms)))
        return y.reshape(batch, steps, groups * filters).transpose(1, 2)

    return call


def _products(columns: Tensor, bias: Tensor | None) -> Call:
    """Return what multiplies (groups, rows, terms): (rows, groups, filters)."""
    groups, _, filters = columns.shape
    offset = None if bias is None else bias.reshape(groups, 1, filters)

    def call(rows: Tensor) -> Tensor:
        if is_followed(rows) or (torch.is_grad_enabled() and rows.requires_grad):  # a memory given takes no gradient
            y = torch.bmm(rows, columns) if offset is None else torch.baddbmm(offset, rows, columns)
            return y.transpose(0, 1)
        y = rows.new_empty(rows.shape[1], groups, filters)
        if offset is None:
            torch.bmm(rows, columns, out=y.transpose(0, 1))
        else:
            torch.baddbmm(offset, rows, columns, out=y.transpose(0, 1))
        return y

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
    pads = (lift[0], *window.begins)[-2:] if window.symmetric else (0, 0)
    convolve = prepacked(weight, bias, pads, strides, dilations, groups)
    if window.symmetric:
        return (lambda x: convolve(x.unsqueeze(2)).squeeze(2)) if flat else convolve
    padded = window.padder()

    def call(x: Tensor) -> Tensor:
        x = padded(x)
        return convolve(x.unsqueeze(2)).squeeze(2) if flat else convolve(x)

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
