r"""Volumes and rows as planes: what acts along one axis does not need the others apart.

The engine's fast kernels take planes (batch, channels, a, b), sixteen channels at a time. A convolution on (batch, channels,
depth, a, b) whose kernel is 1 along depth and a is one on (batch, channels, depth a, b). A pool whose windows do not
overlap, along the last axis but one, acts on every channel and every window by itself: with w samples a window,

.. math:: (batch, C, \dots, w\,n, b) = (batch, C \dots n, w, b),

a pool of whole planes with as many channels as there are windows. Both are the same memory, read otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK, COSTS
from rtserve.fusion.ir.nodes import auto_padded, geometry_of, inner_dims
from rtserve.fusion.ir.passes import PassResult
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Rewrite every such convolution and pool, in place."""
    convs = pools = 0
    for node in list(model.graph):
        if node.op_type == "Conv":
            convs += _conv(model, node)
        elif node.op_type in ("AveragePool", "MaxPool"):
            pools += _pool(model, node)
    return PassResult(changed=convs + pools, did=f"{convs} convolutions and {pools} pools as planes")


def _conv(model: ir.Model, node: ir.Node) -> int:
    weight, dims, out = constant(node.inputs[1]), inner_dims(node.inputs[0]), inner_dims(node.outputs[0])
    if weight is None or weight.ndim != 5 or dims is None or out is None or weight.shape[2:4] != (1, 1):
        return 0
    strides, dilations, pads = geometry_of(node, 3)
    if strides[:2] != [1, 1] or any((*pads[0:2], *pads[3:5])) or auto_padded(node):
        return 0
    emit = Emitter(model.graph, before=node, prefix="plane")
    x = emit("Reshape", node.inputs[0], [-1, dims[0], dims[1] * dims[2], dims[3]])
    y = emit("Conv", x, weight[:, :, 0], *node.inputs[2:], group=node.attributes.get_int("group", 1),
             strides=[1, strides[2]], dilations=[1, dilations[2]], pads=[0, pads[2], 0, pads[5]])  # fmt: skip
    supersede(model, node.outputs[0], emit("Reshape", y, [-1, *out]))
    return 1


def _pool(model: ir.Model, node: ir.Node) -> int:
    dims, out = inner_dims(node.inputs[0]), inner_dims(node.outputs[0])
    kernel: Sequence[int] = node.attributes.get_ints("kernel_shape") or ()
    if dims is None or out is None or len(node.outputs) != 1 or len(dims) != len(kernel) + 1 or len(kernel) < 2:
        return 0
    before, window, rest = kernel[:-2], kernel[-2], kernel[-1]
    strides, dilations, pads = geometry_of(node, len(kernel))
    plain = not any(pads) and not node.attributes.get_int("ceil_mode", 0) and {*dilations} == {1}
    alone = {*before, rest} == {1} and window > 1 and strides == list(kernel)
    channels = prod(out[:-1])
    if not plain or not alone or channels % BLOCK or prod(dims) < COSTS.plane_pool_from:
        return 0
    if len(kernel) == 2 and dims[0] % BLOCK == 0:  # on planes already, and in whole blocks
        return 0
    emit = Emitter(model.graph, before=node, prefix="plane")
    x = emit.take(node.inputs[0], len(dims) - 1, np.arange(out[-2] * window), dims[-2])  # type: ignore[arg-type]
    planes = emit("Reshape", x, [-1, channels, window, dims[-1]])
    y = emit(node.op_type, planes, kernel_shape=[window, 1], strides=[window, 1])
    supersede(model, node.outputs[0], emit("Reshape", y, [-1, *out]))
    return 1
