"""Normalisations and reductions that are several steps of others."""

from __future__ import annotations

import numpy as np

from rtserve.native.draft import Draft, rewrite
from rtserve.native.flow import Operation

__all__: list[str] = []


@rewrite("GroupNormalization")
def group_normalization(draft: Draft, operation: Operation) -> bool:
    """Each group of channels by its own statistics; factor and offset per group (opset 18) or per channel (21)."""
    name, groups = operation.inputs[0], operation.attrs["num_groups"]
    shape = draft.shape(name)
    lines = draft.reshape(name, (shape[0], groups, int(np.prod(shape[1:])) // groups))
    epsilon = operation.attrs.get("epsilon", 1e-5)
    even = draft.put("InstanceNormalization", [lines, "", ""], draft.shape(lines), epsilon=epsilon)
    whole = draft.reshape(even, shape)
    column = (-1, *(1,) * (len(shape) - 2))
    for k, op in enumerate(("Mul", "Add")):
        value = draft.known(operation, k + 1, "a factor or an offset")
        value = value if value.size == shape[1] else np.repeat(value, shape[1] // groups)
        whole = draft.pointwise(op, whole, draft.keep(value.reshape(column)), out=operation.outputs[0] if k else "")
    return True


@rewrite("LpNormalization")
def lp_normalization(draft: Draft, operation: Operation) -> bool:
    """Divided by the sum of sizes or the length along an axis; zero where that is zero."""
    name, axis = operation.inputs[0], operation.attrs.get("axis", -1)
    norm = draft.reduce(f"ReduceL{operation.attrs.get('p', 2)}", name, [axis])
    zero = draft.keep(0.0)
    share = draft.pointwise("Div", name, norm)
    draft.pointwise("Where", draft.pointwise("Equal", norm, zero), zero, share, out=operation.outputs[0])
    return True


@rewrite("MeanVarianceNormalization")
def mean_variance_normalization(draft: Draft, operation: Operation) -> bool:
    """Mean zero and deviation one along axes, 1e-9 beside the deviation."""
    name, axes = operation.inputs[0], operation.attrs.get("axes") or (0, 2, 3)
    centred = draft.pointwise("Sub", name, draft.reduce("ReduceMean", name, axes))
    variance = draft.reduce("ReduceMean", draft.pointwise("Mul", centred, centred), axes)
    deviation = draft.pointwise("Add", draft.pointwise("Sqrt", variance), draft.keep(1e-9))
    draft.pointwise("Div", centred, deviation, out=operation.outputs[0])
    return True


@rewrite("ReduceLogSum", "ReduceLogSumExp")
def log_sum(draft: Draft, operation: Operation) -> bool:
    """The logarithm of a sum; of exponentials around the largest, which may be infinite."""
    name, out, attrs = operation.inputs[0], operation.outputs[0], operation.attrs
    shape = draft.shape(name)
    axes = draft.constants[operation.inputs[1]] if operation.has(1) else attrs.get("axes")
    axes = [int(axis) for axis in (() if axes is None else axes)]
    if not axes and attrs.get("noop_with_empty_axes", 0):
        draft.pointwise("Log" if operation.op == "ReduceLogSum" else "Identity", name, out=out)
        return True
    axes = axes or list(range(len(shape)))
    if operation.op == "ReduceLogSum":
        total = draft.pointwise("Log", draft.reduce("ReduceSum", name, axes))
    else:
        most = draft.reduce("ReduceMax", name, axes)
        most = draft.pointwise("Where", draft.pointwise("IsInf", most), draft.keep(0.0), most)
        each = draft.pointwise("Exp", draft.pointwise("Sub", name, most))
        total = draft.pointwise("Add", draft.pointwise("Log", draft.reduce("ReduceSum", each, axes)), most)
    draft.reshape(total, draft.flow.shapes[out], out=out)
    return True
