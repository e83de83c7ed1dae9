r"""A product with a stack of matrices, one product for each where they are large.

Alike members stacked are one batched product, :math:`y_m = x_m W_m`. The engine lays out a matrix for its kernels once,
when a session is made, where a product has that one alone; a stack of them it lays out anew at every call. That costs by
the number of weights, whatever the windows, and apart they cost a node each.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import COSTS
from rtserve.fusion.ir.passes import PassResult, Refused, each
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Write every product with a stack of matrices that pays as several, in place."""
    return each(model, _one, "{} products with a stack of matrices, one for each")


def _one(model: ir.Model, node: ir.Node) -> int:
    x, weight = node.inputs[0] if node.inputs else None, constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.op_type != "MatMul" or x is None or constant(x) is not None or weight is None or weight.ndim != 3:
        return 0
    n, axis = len(weight), len(x.shape or ()) - 3
    stacked = x.shape[axis] if axis >= 0 else None  # type: ignore[index]
    if n == 1 or stacked not in (1, n):
        return 0
    if weight.size * COSTS.unpacked_us <= (n + 1) * COSTS.node_us:
        raise Refused(f"{weight.size:,} weights are laid out faster than {n + 1} nodes run")
    emit = Emitter(model.graph, before=node, prefix="packed")
    parts = [x] * n if stacked == 1 else emit.many("Split", x, [1] * n, n=n, axis=axis)
    products = [emit("MatMul", part, np.ascontiguousarray(one)) for part, one in zip(parts, weight, strict=True)]
    supersede(model, node.outputs[0], emit("Concat", *products, axis=axis))
    return 1
