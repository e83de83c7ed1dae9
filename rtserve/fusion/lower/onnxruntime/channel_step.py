r"""A factor and an offset for every channel as one depthwise step.

Behind a convolution, :math:`a_c x_c + b_c` (a scaled view of a shared stage) written as Mul and Add makes the engine put
its blocked layout back in order first and go over the data twice. A depthwise convolution of one tap is the same numbers
in the blocked layout, in one go.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK
from rtserve.fusion.ir.nodes import producer
from rtserve.fusion.ir.passes import PassResult, Refused, each
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Rewrite every pair of Mul and Add on the output of a convolution, in place."""
    return each(model, _rewrite, "{} steps")


def _rewrite(model: ir.Model, node: ir.Node) -> int:
    product, offset = _operands(node) if node.op_type == "Add" else (None, None)
    mul = producer(product)
    if mul is None or mul.op_type != "Mul" or offset is None or len(mul.outputs[0].uses()) != 1:
        return 0
    x, factor = _operands(mul)
    if x is None or factor is None or not (channels := _blocked(x)):
        return 0
    scale, shift = _by_channel(factor, channels), _by_channel(offset, channels)
    if scale is None or shift is None:
        raise Refused("its factor or its offset is not one number for a channel")
    emit = Emitter(model.graph, before=node, prefix="step")
    supersede(model, node.outputs[0], emit("Conv", x, scale.reshape(-1, 1, 1, 1), shift, group=channels))
    return 1


def _operands(node: ir.Node) -> tuple[ir.Value | None, np.ndarray | None]:
    """Return the computed and the constant operand of a binary node, None for what it lacks."""
    values = [v for v in node.inputs if constant(v) is None]
    arrays = [a for a in map(constant, node.inputs) if a is not None]
    return (values[0] if len(values) == 1 else None), (arrays[0] if arrays else None)


def _blocked(x: ir.Value) -> int:
    """Return how many channels a value from a convolution in the blocked layout has; 0 for another."""
    if x.shape is None or len(x.shape) != 4 or not isinstance(x.shape[1], int) or x.shape[1] % BLOCK:
        return 0
    node = x.producer()
    if node is not None and node.op_type in ("Add", "Relu"):
        node = next((v.producer() for v in node.inputs if v is not None and constant(v) is None), None)
    return x.shape[1] if node is not None and node.op_type == "Conv" else 0


def _by_channel(array: np.ndarray, channels: int) -> np.ndarray | None:
    """Return one number per channel from a constant that broadcasts along the others, or None."""
    full = (1,) * (4 - array.ndim) + array.shape
    return np.broadcast_to(array.reshape(-1), (channels,)) if full in ((1, 1, 1, 1), (1, channels, 1, 1)) else None
