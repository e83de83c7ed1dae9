"""Operators that onnxruntime writes out as ONNX defines them, which loses digits, in a form that keeps them.

ONNX gives GroupNormalization a function body in which the variance is E[x^2] - E[x]^2, and onnxruntime runs that body in
float32: on windows whose offset is a thousand times their spread, as a DC-coupled amplifier gives them, the answer is
off by 6e-2 where the same mean and variance of InstanceNormalization, for which it has a kernel, are off by 6e-5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["keep_digits"]


def _rest(x: ir.Value, groups: int) -> int:
    """Return how many entries a group has, or -1 where that is not known; a batch of none cannot be asked for it."""
    sizes = list(x.shape)[1:] if x.shape is not None else [None]
    known = [size for size in sizes if isinstance(size, int)]
    return int(np.prod(known)) // groups if len(known) == len(sizes) else -1


def keep_digits(model: ir.Model) -> int:
    """Rewrite a model of opset 18 to 20 in place, exactly, and return how many places.

    A GroupNormalization over groups is an InstanceNormalization of the groups: (batch, groups, the rest).
    """
    changed = 0
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
