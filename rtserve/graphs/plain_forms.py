r"""Operators that onnxruntime computes in a way that loses digits, in a form that keeps them.

ONNX gives GroupNormalization a function body in which the variance is E[x^2] - E[x]^2, and onnxruntime runs that body in
float32: on windows whose offset is a thousand times their spread, as a DC-coupled amplifier gives them, the answer is
off by 6e-2 where the same mean and variance of InstanceNormalization, for which it has a kernel, are off by 6e-5.

It adds the samples of a mean one by one, and what n samples in a row are off by grows with n: of a constant 0.103 the
mean of 3,000 samples is off by 2e-5, that of 30,000 by 2e-4. Means of stretches, and the mean of these,
:math:`\frac1n \sum_t x_t = \frac1b \sum_{j<b} \frac1a \sum_{i<a} x_{a j + i}`, n = a b, are off as sums of a and b are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede
from rtserve.graphs.macs import renew_shapes

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["keep_digits"]

LONG = 8192
"""Samples from which a mean is taken in two stages; shorter ones keep the form that engines fuse and streams carry on."""
SHORTEST = 16
"""Samples that a stretch has at least, and stretches."""


def _rest(x: ir.Value, groups: int) -> int:
    """Return how many entries a group has, or -1 where that is not known; a batch of none cannot be asked for it."""
    sizes = list(x.shape)[1:] if x.shape is not None else [None]
    known = [size for size in sizes if isinstance(size, int)]
    return int(np.prod(known)) // groups if len(known) == len(sizes) else -1


def _stretch(n: int) -> int:
    """Return into stretches of how many samples n are divided most evenly; 0 where there are none."""
    return max((a for a in range(SHORTEST, math.isqrt(n) + 1) if n % a == 0), default=0)


def _averaged(node: ir.Node) -> int:
    """Return of how many samples along the last axis a node takes the mean; 0 where it does not, or that is not known."""
    dims = list(node.inputs[0].shape or ()) if node.inputs[0] is not None else []
    if len(dims) < 3 or not isinstance(dims[-1], int):
        return 0
    if node.op_type == "GlobalAveragePool":
        return dims[-1] if set(dims[2:-1]) <= {1} else 0
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return dims[-1] if axes is not None and axes.tolist() in ([-1], [len(dims) - 1]) else 0


def _in_stages(model: ir.Model, node: ir.Node) -> int:
    """Write the mean of many samples as one of means; return whether it is one, and its samples can be divided."""
    x, n = node.inputs[0], _averaged(node)
    size = _stretch(n) if n >= LONG else 0
    if not size or x is None or x.shape is None:
        return 0
    emit, axis = Emitter(model.graph, before=node, prefix="stages"), len(x.shape) - 1
    if node.op_type == "GlobalAveragePool":
        kernel = [*(1,) * (axis - 2), size]
        y = emit("GlobalAveragePool", emit("AveragePool", x, kernel_shape=kernel, strides=kernel))
    else:
        means = emit("ReduceMean", emit("Reshape", x, [*(0,) * axis, n // size, size]), [axis + 1], keepdims=0)
        y = emit("ReduceMean", means, [axis], keepdims=node.attributes.get_int("keepdims", 1))
    supersede(model, node.outputs[0], y)
    return 1


def keep_digits(model: ir.Model) -> int:
    """Rewrite a model of opset 18 to 20 in place, exactly, and return how many places.

    A GroupNormalization over groups is an InstanceNormalization of the groups: (batch, groups, the rest). A mean of many
    samples along the last axis is one of means.
    """
    means = [node for node in model.graph if node.op_type in ("GlobalAveragePool", "ReduceMean")]
    if any(node.inputs[0] is not None and node.inputs[0].shape is None for node in means):
        renew_shapes(model)
    changed = sum(_in_stages(model, node) for node in means)
    for node in [node for node in model.graph if node.op_type == "GroupNormalization"]:
        groups = node.attributes.get_int("num_groups", 0)
        x, scale, bias = node.inputs
        weights = constant(scale)
        if x is None or groups < 1 or weights is None or weights.shape != (groups,):
            continue  # by channel, as since opset 21
        emit = Emitter(model.graph, before=node, prefix="group")
        apart = emit("Reshape", x, np.array([0, groups, _rest(x, groups)]))
        epsilon = node.attributes.get_float("epsilon", 1e-5)
        normal = emit("InstanceNormalization", apart, scale, bias, epsilon=epsilon)
        supersede(model, node.outputs[0], emit("Reshape", normal, emit("Shape", x)))
        changed += 1
    return changed
