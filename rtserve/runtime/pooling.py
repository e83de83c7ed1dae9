"""Pools: torch's own where it means the same, and otherwise on an input that is padded to whole windows first.

How many windows there are follows ONNX: with ceil_mode the last one may hang over the end, but must begin before the end
of the input (begin pads counted, end pads not). What hangs over belongs to no padding: it is never counted in a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rtserve.runtime.linear import Window, torch_pads
from rtserve.runtime.node import Call, Node, operator

MAX_POOLS: dict[int, Call] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOLS: dict[int, Call] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class _Pool(Window):
    """The windows of a pool, and what torch needs to be told about them."""

    def __init__(self, node: Node) -> None:
        super().__init__(node, node.attrs["kernel_shape"])
        if self.rank not in MAX_POOLS:
            raise node.refuse(f"over {self.rank} axes")
        self.ceil = bool(node.attrs.get("ceil_mode", 0)) and self.auto == "NOTSET"
        if self.auto != "NOTSET" and (max(self.dilations) > 1 or any(map(int.__gt__, self.strides, self.kernel))):
            # Engines differ there: some leave the gaps out of the count, some cut off instead of padding.
            raise node.refuse(f"with auto_pad={self.auto} and dilations or strides wider than its kernel")
        # torch's pools over two axes are several times faster channels-last on a CPU.
        self.turns = self.rank == 2 and node.dtype == torch.float32 and node.device.type == "cpu"

    @property
    def plain(self) -> bool:
        """Whether torch takes these pads itself: the same on both sides, by at most half a kernel."""
        return self.symmetric and all(2 * p <= k for p, k in zip(self.begins, self.kernel, strict=True))

    def lay(self, x: Tensor) -> Tensor:
        """Return the input in the layout that torch pools fastest."""
        turn = self.turns and x.dim() == 4 and x.shape[1] >= 8
        return x.contiguous(memory_format=torch.channels_last) if turn else x

    def pads(self, sides: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the pads on both sides of an input of this shape, in ONNX's order."""
        if self.auto == "NOTSET":
            return list(self.begins), list(self.ends)
        order = self.same_pads((0, 0, *sides))
        return order[-2::-2], order[-1::-2]

    def counts(self, sides: Sequence[int]) -> list[int]:
        """Return the number of windows along each axis."""
        begins, ends = self.pads(sides)
        found = []
        for n, k, s, d, b, e in zip(sides, self.kernel, self.strides, self.dilations, begins, ends, strict=True):
            room = n + b + e - d * (k - 1) - 1
            count = (-(-room // s) if self.ceil else room // s) + 1
            found.append(count - 1 if self.ceil and (count - 1) * s >= n + b else count)
        return found

    def overhang(self, sides: Sequence[int]) -> list[int]:
        """Return how far the windows reach behind the end of the input, along each axis; negative where they stop short."""
        begins, _ = self.pads(sides)
        reach = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        return [
            (count - 1) * s + r - n - b
            for n, count, s, r, b in zip(sides, self.counts(sides), self.strides, reach, begins, strict=True)
        ]

    def whole(self, x: Tensor, value: float) -> Tensor:
        """Return the input with exactly the samples that its windows cover, `value` where there are none."""
        begins, _ = self.pads(_sides(x))
        return F.pad(x, torch_pads(begins, self.overhang(_sides(x))), "constant", value)

    def counted(self, x: Tensor, padding: bool) -> Tensor:
        """Return ones for the samples of one channel that count in a mean, with the padding or without, else zeros."""
        ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
        begins, ends = self.pads(_sides(x))
        inside = [(b, max(0, min(e, o))) for b, e, o in zip(begins, ends, self.overhang(_sides(x)), strict=True)]
        ones = F.pad(ones, torch_pads(*zip(*inside, strict=True)), "constant", 1.0 if padding else 0.0)
        left = [o - e for o, (_, e) in zip(self.overhang(_sides(x)), inside, strict=True)]
        return F.pad(ones, torch_pads([0] * self.rank, left))


def _sides(x: Tensor) -> tuple[int, ...]:
    """Return the sizes behind the channels, as numbers also where a call is traced."""
    return tuple(int(n) for n in x.shape[2:])


def _lowest(x: Tensor) -> Any:
    return float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min


@operator("MaxPool")
def max_pool(node: Node) -> Call:
    """MaxPool (opset 1 to 12), values only."""
    if any(node.outputs[1:]):
        raise node.refuse("with its indices read")
    pool = _Pool(node)
    function, kernel, strides, dilations = MAX_POOLS[pool.rank], pool.kernel, pool.strides, pool.dilations
    if pool.plain:
        begins, ceil = pool.begins, pool.ceil
        return lambda x: function(pool.lay(x), kernel, strides, begins, dilations, ceil)
    none = (0,) * pool.rank
    return lambda x: function(pool.lay(pool.whole(x, _lowest(x))), kernel, strides, none, dilations)


@operator("AveragePool")
def average_pool(node: Node) -> Call:
    """AveragePool (opset 7 to 22): the padding counts only with count_include_pad=1."""
    pool, count = _Pool(node), bool(node.attrs.get("count_include_pad", 0))
    function: Any = AVERAGE_POOLS[pool.rank]
    kernel, strides, none = pool.kernel, pool.strides, (0,) * pool.rank
    spread = any(d != 1 for d in pool.dilations)
    if pool.plain and not spread:
        begins, ceil = pool.begins, pool.ceil
        return lambda x: function(pool.lay(x), kernel, strides, begins, ceil, count)
    shares: dict[tuple[tuple[int, ...], torch.dtype, torch.device], Tensor] = {}

    def mean(x: Tensor) -> Tensor:
        if spread:
            return _spread_mean(x, pool)
        pooled: Tensor = function(pool.lay(x), kernel, strides, none)
        return pooled

    def share(x: Tensor) -> Tensor:
        """How much of each window counts: follows from the input's size, worked out once for each."""
        key = (_sides(x), x.dtype, x.device)
        if key not in shares:
            with torch.inference_mode(False):  # kept for calls that may want gradients
                shares[key] = mean(pool.counted(x, count))
        return shares[key]

    if count and not pool.ceil:
        return lambda x: mean(pool.whole(x, 0.0))
    return lambda x: mean(pool.whole(x, 0.0)) / share(x)


def _spread_mean(x: Tensor, pool: _Pool) -> Tensor:
    """Return the mean over windows with gaps, which torch has no kernel for: one axis after the other."""
    for axis, (k, s, d) in enumerate(zip(pool.kernel, pool.strides, pool.dilations, strict=True), start=2):
        windows = x.unfold(axis, d * (k - 1) + 1, s)
        x = windows[..., ::d].sum(-1) / k
    return x


@operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: Node) -> Call:
    """GlobalAveragePool and GlobalMaxPool (opset 1): over all axes behind the channels, which stay as ones."""
    function: Call = torch.mean if node.op == "GlobalAveragePool" else torch.amax
    return lambda x: function(x, dim=tuple(range(2, x.dim())), keepdim=True)
