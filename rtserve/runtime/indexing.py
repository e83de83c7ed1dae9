"""Operators that pick or replace numbers by position: slices, gathers, scatters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rtserve.runtime.node import Call, Node, Scalar, as_ints, operator


@operator("Slice")
def slice_(node: Node) -> Call:
    """Slice (by attributes before opset 10): numpy's rules, negative steps too."""
    starts, ends = node.ints(1, "starts"), node.ints(2, "ends")
    axes, steps = node.ints(3, "axes"), node.ints(4)
    if starts is None or ends is None or (node.has(3) and axes is None) or (node.has(4) and steps is None):
        return _slice_at_run_time(node, (starts, ends, axes, steps))
    bounds = _bounds(starts, ends, axes, steps)
    if len(bounds) == 1 and bounds[0][1].step == 1:
        axis, part = bounds[0]
        if axis >= 0:
            index = (slice(None),) * axis + (part,)
            return lambda x: x[index]
        if axis == -1:
            return lambda x: x[..., part]
    return lambda x: _slice(x, bounds)


def _bounds(
    starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None, steps: Sequence[int] | None
) -> list[tuple[int, slice]]:
    far = (1 << 31) - 1  # ONNX writes "to the end" as the largest integer, which torch warns about
    axes = range(len(starts)) if axes is None else axes
    starts, ends = ([min(max(bound, -far), far) for bound in bounds] for bounds in (starts, ends))
    steps = (1,) * len(starts) if steps is None else steps
    return [(axis, slice(s, e, step)) for axis, s, e, step in zip(axes, starts, ends, steps, strict=False)]


def _slice_at_run_time(node: Node, known: Sequence[Any]) -> Call:
    """Slice whose bounds come in calls; those known at load were absorbed."""
    order = [i for i in range(1, 5) if node.has(i) and not node.is_constant(i)]

    def call(x: Tensor, *values: Any) -> Tensor:
        parts = list(known)
        for index, value in zip(order, values, strict=False):
            parts[index - 1] = as_ints(value)
        return _slice(x, _bounds(parts[0], parts[1], parts[2], parts[3]))

    return call


def _slice(x: Tensor, bounds: Sequence[tuple[int, slice]]) -> Tensor:
    for axis, part in bounds:
        if part.step > 0:
            index = (slice(None),) * (axis % x.dim()) + (part,)
            x = x[index]
        else:
            # torch has no negative steps; ONNX holds the start to the axis, and the end to one before it.
            size = int(x.shape[axis])
            first, stop = (bound + size if bound < 0 else bound for bound in (part.start, part.stop))
            rows = range(min(max(first, 0), size - 1), min(max(stop, -1), size - 1), part.step) if size else ()
            x = x.index_select(axis, torch.tensor(list(rows), dtype=torch.int64, device=x.device))
    return x


@operator("Gather")
def gather(node: Node) -> Call:
    """Gather (opset 1 to 13): numpy.take along `axis`; negative indices count from the end."""
    axis = node.attrs.get("axis", 0)
    if not node.is_constant(1):
        return lambda x, index: _take(x, index, axis)
    known, index = node.constants[1], node.tensor(1)
    if isinstance(known, Scalar):
        number = known[0]
        return lambda x: x.select(axis, number)
    if index.dim() == 1 and _all_from_front(known):
        return lambda x: x.index_select(axis, index)
    return lambda x: _take(x, index, axis)


def _all_from_front(known: Any) -> bool:
    """Whether no index counts from the end; asked once, at load, on any device that holds numbers."""
    if isinstance(known, tuple):
        return min(known, default=0) >= 0
    return known.device.type != "meta" and bool((known >= 0).all())


def _take(x: Tensor, index: Tensor, axis: int) -> Tensor:
    axis = axis % x.dim()
    flat = torch.where(index < 0, index + x.shape[axis], index).reshape(-1)
    return x.index_select(axis, flat).reshape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def _from_front(index: Tensor, size: int) -> Tensor:
    return torch.where(index < 0, index + size, index)


@operator("GatherElements")
def gather_elements(node: Node) -> Call:
    """GatherElements (opset 11): one index per element of the result; negative ones count from the end."""
    axis = node.attrs.get("axis", 0)
    return lambda x, index: torch.gather(x, axis, _from_front(index, x.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node) -> Call:
    """GatherND (opset 11 to 13), with batch axes."""
    batch = node.attrs.get("batch_dims", 0)

    def call(x: Tensor, index: Tensor) -> Tensor:
        if not batch:
            return x[tuple(index.unbind(-1))]
        lead = x.shape[:batch]
        rows = x.reshape((math.prod(lead), *x.shape[batch:]))
        picks = index.reshape((math.prod(lead), *index.shape[batch:]))
        which = torch.arange(rows.shape[0], device=x.device).reshape((-1,) + (1,) * (picks.dim() - 2))
        taken = rows[(which.expand(picks.shape[:-1]), *picks.unbind(-1))]
        return taken.reshape(lead + taken.shape[1:])

    return call


@operator("ScatterND")
def scatter_nd(node: Node) -> Call:
    """ScatterND (opset 11 to 18): a copy with places overwritten, or added to, multiplied, compared."""
    reduction = node.attrs.get("reduction", "none")

    def call(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        if reduction in ("none", "add"):
            return x.index_put(tuple(index.unbind(-1)), updates, accumulate=reduction == "add")
        depth = index.shape[-1]
        flat = torch.zeros(index.shape[:-1], dtype=torch.int64, device=x.device)
        for axis in range(depth):
            flat = flat * x.shape[axis] + _from_front(index[..., axis], x.shape[axis])
        rows = x.reshape((-1, *x.shape[depth:]))
        values = updates.reshape((-1, *x.shape[depth:]))
        where = flat.reshape((-1,) + (1,) * (values.dim() - 1)).expand_as(values)
        return rows.scatter_reduce(0, where, values, _reduction(reduction)).reshape(x.shape)

    return call


def _reduction(name: str) -> str:
    return {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[name]


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Call:
    """ScatterElements (opset 11 to 18), Scatter (opset 9)."""
    axis, reduction = node.attrs.get("axis", 0), node.attrs.get("reduction", "none")

    def call(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        index = _from_front(index, x.shape[axis])
        if reduction == "none":
            return x.scatter(axis, index, updates)
        if reduction == "mul":
            return x.scatter_reduce(axis, index, updates, "prod")
        return x.scatter_reduce(axis, index, updates, _reduction(reduction))

    return call


@operator("OneHot")
def one_hot(node: Node) -> Call:
    """OneHot (opset 9, 11): off and on values on a new axis."""
    axis, depth = node.attrs.get("axis", -1), int(node.scalar(1))

    def call(index: Tensor, values: Tensor) -> Tensor:
        hot = _from_front(index, depth).unsqueeze(-1) == torch.arange(depth, device=index.device)
        return torch.where(hot, values[1], values[0]).movedim(-1, axis)

    return call


@operator("ReverseSequence")
def reverse_sequence(node: Node) -> Call:
    """ReverseSequence (opset 10): the first entries of each sequence turned round."""
    batch_axis, time_axis = node.attrs.get("batch_axis", 1), node.attrs.get("time_axis", 0)

    def call(x: Tensor, lengths: Tensor) -> Tensor:
        rows = x.movedim((batch_axis, time_axis), (0, 1))
        step = torch.arange(rows.shape[1], device=x.device)[None, :]
        index = torch.where(step < lengths[:, None], lengths[:, None] - 1 - step, step)
        index = index.reshape(index.shape + (1,) * (rows.dim() - 2)).expand_as(rows)
        return torch.gather(rows, 1, index).movedim((0, 1), (batch_axis, time_axis))

    return call
