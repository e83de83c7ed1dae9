"""Sums, means, norms, softmax and sorting along axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rtserve.runtime.node import Call, Node, as_ints, operator

Reduce = Callable[[Tensor, Sequence[int], bool], Tensor]


def _sum(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    return torch.sum(x, axes, keep, dtype=x.dtype)  # torch would widen integers


def _mean(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, axes, keep)
    count = math.prod(x.shape[axis] for axis in axes)
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _as_floats(function: Reduce) -> Reduce:
    """Reduce integers as float64, and turn the result back."""

    def call(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
        return function(x, axes, keep) if x.is_floating_point() else function(x.double(), axes, keep).to(x.dtype)

    return call


REDUCTIONS: dict[str, Reduce] = {
    "ReduceL1": lambda x, axes, keep: _sum(torch.abs(x), axes, keep),
    "ReduceL2": _as_floats(lambda x, axes, keep: torch.sqrt(torch.sum(x * x, axes, keep))),
    "ReduceLogSum": _as_floats(lambda x, axes, keep: torch.log(torch.sum(x, axes, keep))),
    "ReduceLogSumExp": _as_floats(lambda x, axes, keep: torch.logsumexp(x, axes, keep)),
    "ReduceMax": lambda x, axes, keep: (
        torch.amax(x, axes, keep) if x.numel() else _of_nothing(x, axes, keep, -math.inf)
    ),
    "ReduceMean": _mean,
    "ReduceMin": lambda x, axes, keep: torch.amin(x, axes, keep) if x.numel() else _of_nothing(x, axes, keep, math.inf),
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
}


def _product(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


def _of_nothing(x: Tensor, axes: Sequence[int], keep: bool, limit: float) -> Tensor:
    """Return the largest (smallest) of no numbers, which torch refuses: the lowest (highest) of the type."""
    shape = torch.sum(x, axes, keep).shape
    return torch.full(shape, limit if x.is_floating_point() else limit > 0, dtype=x.dtype, device=x.device)


REDUCTIONS["ReduceProd"] = _product


@operator(*REDUCTIONS)
def reduce(node: Node) -> Call:
    """Reduce* (axes by attribute before opset 13 or 18, by input since); no axes means all, or none if asked so."""
    function, keep = REDUCTIONS[node.op], bool(node.attrs.get("keepdims", 1))
    axes = node.fixed_ints(1, "axes")
    if axes:
        dims = tuple(axes)
        return lambda x: function(x, dims, keep)
    if node.attrs.get("noop_with_empty_axes", 0):
        return lambda x: function(x.unsqueeze(0), (0,), False)  # of each number alone: |x|, log x, ...
    return lambda x: function(x, tuple(range(x.dim())), keep)


@operator("ArgMax", "ArgMin")
def arg_extreme(node: Node) -> Call:
    """ArgMax and ArgMin (opset 1 to 13): first of equals, or the last with select_last_index=1."""
    axis, keep = node.attrs.get("axis", 0), bool(node.attrs.get("keepdims", 1))
    function: Call = torch.argmax if node.op == "ArgMax" else torch.argmin
    if node.attrs.get("select_last_index", 0):
        return lambda x: x.shape[axis] - 1 - function(torch.flip(x, (axis,)), axis, keep)
    return lambda x: function(x, axis, keep)


@operator("Softmax", "LogSoftmax", "Hardmax")
def softmax(node: Node) -> Call:
    """Softmax, LogSoftmax, Hardmax; before opset 13 over all axes from `axis` on, since then over one."""
    axis = node.attrs.get("axis", -1 if node.opset >= 13 else 1)
    function: Call = {"Softmax": torch.softmax, "LogSoftmax": torch.log_softmax}.get(node.op, _hardmax)
    if node.opset >= 13:
        return lambda x: function(x, axis)
    return lambda x: function(x.flatten(axis), -1).reshape(x.shape)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, torch.argmax(x, axis, True), 1.0)


@operator("CumSum")
def cumsum(node: Node) -> Call:
    """CumSum (opset 11), also exclusive and from the end."""
    axis = int(node.scalar(1))
    exclusive, reverse = node.attrs.get("exclusive", 0), node.attrs.get("reverse", 0)

    def call(x: Tensor) -> Tensor:
        x = torch.flip(x, (axis,)) if reverse else x
        total = torch.cumsum(x, axis, dtype=x.dtype)
        total = total - x if exclusive else total
        return torch.flip(total, (axis,)) if reverse else total

    return call


@operator("TopK")
def top_k(node: Node) -> Call:
    """TopK (opset 11): values and indices, sorted; of equal values the one with the lower index comes first."""
    axis, largest = node.attrs.get("axis", -1), bool(node.attrs.get("largest", 1))
    known = node.ints(1)

    def call(x: Tensor, k: Any = known) -> tuple[Tensor, Tensor]:
        values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
        count = as_ints(k)[0]
        return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)

    return call


def _moments(x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return variance (ddof 0) and mean along axes that stay as ones; of nothing without a warning."""
    if x.numel():
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return variance, mean
    nothing = torch.sum(x, axes, True)
    return nothing, nothing


@operator("BatchNormalization")
def batch_normalization(node: Node) -> Call:
    """BatchNormalization (opset 9 to 15) with its stored statistics."""
    if node.attrs.get("training_mode", 0) or any(node.outputs[1:]):
        raise node.refuse("in training mode")
    epsilon = node.attrs.get("epsilon", 1e-5)
    return lambda x, scale, bias, mean, var: F.batch_norm(x, mean, var, scale, bias, False, 0.0, epsilon)


@operator("InstanceNormalization")
def instance_normalization(node: Node) -> Call:
    """InstanceNormalization (opset 6): each channel of each window by its own mean and variance (ddof 0)."""
    epsilon = node.attrs.get("epsilon", 1e-5)

    def call(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        # By hand: torch refuses one sample per channel, and rounds otherwise with a large batch.
        axes = tuple(range(2, x.dim()))
        variance, mean = _moments(x, axes)
        shape = (1, -1) + (1,) * len(axes)
        return (x - mean) * (torch.rsqrt(variance + epsilon) * scale.reshape(shape)) + bias.reshape(shape)

    return call


@operator("LayerNormalization")
def layer_normalization(node: Node) -> Call:
    """LayerNormalization (opset 17) over the axes from `axis` on; mean and 1 / deviation where they are read."""
    axis, epsilon = node.attrs.get("axis", -1), node.attrs.get("epsilon", 1e-5)

    def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        variance, mean = _moments(x, tuple(range(axis % x.dim(), x.dim())))
        return mean, torch.rsqrt(variance + epsilon)

    def call(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = x.shape[axis:]
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return F.layer_norm(x, shape, scale, bias, epsilon)
        normal = F.layer_norm(x, shape, None, None, epsilon) * scale
        return normal if bias is None else normal + bias

    if any(node.outputs[1:]):
        return lambda x, *weights: (call(x, *weights), *statistics(x))
    return call


@operator("GroupNormalization")
def group_normalization(node: Node) -> Call:
    """GroupNormalization: scale and bias per group in opset 18, per channel since 21."""
    groups, epsilon = node.attrs["num_groups"], node.attrs.get("epsilon", 1e-5)

    def call(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if scale.shape[0] != x.shape[1]:
            repeats = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
        return F.group_norm(x, groups, scale, bias, epsilon)

    return call


@operator("LpNormalization", "MeanVarianceNormalization")
def vector_normalization(node: Node) -> Call:
    """LpNormalization (opset 1) along one axis; MeanVarianceNormalization (opset 9) over several."""
    if node.op == "LpNormalization":
        axis, p = node.attrs.get("axis", -1), float(node.attrs.get("p", 2))

        def divide_by_norm(x: Tensor) -> Tensor:
            norm = torch.linalg.vector_norm(x, p, axis, True)
            return torch.where(norm == 0, torch.zeros_like(x), x / norm)

        return divide_by_norm
    axes = tuple(node.attrs.get("axes") or (0, 2, 3))

    def call(x: Tensor) -> Tensor:
        variance, mean = _moments(x, axes)
        return (x - mean) / (torch.sqrt(variance) + 1e-9)

    return call
