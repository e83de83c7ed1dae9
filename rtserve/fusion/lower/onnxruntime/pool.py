r"""Pooling on whole blocks of channels; average pooling with a wide window as a banded matrix.

Behind a convolution, whose channels the engine fills up to a multiple of sixteen in any case, filters of zeros keep the
pool in the blocked layout; its outputs are cut back, which are few.

Elsewhere, :math:`y[t'] = \frac1K \sum_{k} x[s t' + k]` is a product with a fixed (n_times, n_out) matrix. onnxruntime's
pooling walks its window element by element where the channels do not fit its blocked layout; a matrix product does not.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK, COSTS, FUSED, filled
from rtserve.fusion.ir.nodes import attributes_of, geometry_of, inner_dims, private_producer, stepped
from rtserve.fusion.ir.passes import PassResult, Refused, each
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]

SMALLEST_WINDOW = 8
FEWEST = BLOCK // 2
"""Filters worth filling up."""


def run(model: ir.Model) -> PassResult:
    """Rewrite every pool behind an unfilled convolution, and every other wide AveragePool along the last axis, in place."""
    return each(model, _one, "{} pools on whole blocks or as matrices")


def _one(model: ir.Model, node: ir.Node) -> int:
    if node.op_type not in ("AveragePool", "MaxPool"):
        return 0
    if _fill(model, node):
        return 1
    if node.op_type == "AveragePool":
        _refuse(node)
        _rewrite(model, node)
    return int(node.op_type == "AveragePool")


def _fill(model: ir.Model, node: ir.Node) -> bool:
    """Fill the convolution up, and what is fused with it, behind which a pool stays blocked then; whether there is one."""
    steps, source = [node], private_producer(node.inputs[0])
    if source is not None and source.op_type in FUSED:
        steps.insert(0, source)
        source = private_producer(source.inputs[0])
    if source is None or source.op_type != "Conv" or source.attributes.get_int("group", 1) != 1:
        return False
    weight, *bias = map(constant, source.inputs[1:])
    if weight is None or weight.ndim != 4 or any(offset is None for offset in bias):
        return False
    size = prod(inner_dims(node.inputs[0]) or (0,))
    if len(weight) % BLOCK == 0 or len(weight) < FEWEST or size < COSTS.filled_pool_from:
        return False
    more, offset = filled(weight, bias[0] if bias else None)
    emit = Emitter(model.graph, before=node, prefix="pool")
    y = emit("Conv", source.inputs[0], more, *([] if offset is None else [offset]), **attributes_of(source))
    supersede(model, node.outputs[0], emit.slice(stepped(emit, steps, y), 1, 0, len(weight)))
    return True


def _refuse(node: ir.Node) -> None:
    """Refuse an average pool that is no faster as a product."""
    kernel = list(node.attributes.get_ints("kernel_shape") or (1,))
    dims = inner_dims(node.inputs[0])
    if dims is None:
        raise Refused("its shape is not known")
    if any(k != 1 for k in kernel[:-1]) or kernel[-1] < SMALLEST_WINDOW:
        raise Refused(f"a window of {kernel} is pooled quickly as it is")
    strides, _, pads = geometry_of(node, len(kernel))
    if any(s != 1 for s in strides[:-1]) or strides[-1] > kernel[-1]:
        raise Refused("it strides over another axis, or over samples")
    if any(pads) or node.attributes.get_int("ceil_mode", 0) != 0:
        raise Refused("it pads")
    if dims[0] % BLOCK == 0:
        raise Refused(f"{dims[0]} channels fit the blocked layout")


def _rewrite(model: ir.Model, node: ir.Node) -> None:
    x, kernel = node.inputs[0], (node.attributes.get_ints("kernel_shape") or (1,))[-1]
    (*_, stride), _, _ = geometry_of(node, 1)
    rank, n_in = len(x.shape), int(x.shape[-1])  # type: ignore[union-attr,index,arg-type]
    n_out = (n_in - kernel) // stride + 1
    read = np.arange(stride * (n_out - 1) + kernel)  # 0 times what lies behind may be none
    lag = read[:, None] - stride * np.arange(n_out)[None]
    band = np.where((lag >= 0) & (lag < kernel), 1.0 / kernel, 0.0).astype(np.float32)
    emit = Emitter(model.graph, before=node, prefix="pool")
    product = emit("MatMul", emit.take(x, rank - 1, read, n_in), band)  # type: ignore[arg-type]
    supersede(model, node.outputs[0], product)
