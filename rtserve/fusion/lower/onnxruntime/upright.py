"""Layers behind views that stand one above the other.

A layer whose kernel is of height one treats every row for itself, so views may lie on the height axis, (batch, channels,
views, time), as well as on the batch. Behind the last such layer they are turned to the batch, (batch x views, ...).
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from rtserve.fusion.ir.conv import conv_of
from rtserve.fusion.ir.landmarks import carry
from rtserve.fusion.ir.nodes import attributes_of, auto_padded, axes_of, geometry_of, inner_dims, reread
from rtserve.fusion.ir.traits import Trait, has
from rtserve.fusion.lower.onnxruntime.table import TO_ROWS
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, replace_value

__all__ = ["stand_up"]

GLOBAL = {"GlobalAveragePool": "AveragePool", "GlobalMaxPool": "MaxPool"}
BESIDE = (0, 2, 1, 3)
"""The turn from (batch, channels, views, time) to (batch, views, channels, time)."""


def stand_up(model: ir.Model, joined: ir.Value, tall: ir.Value) -> int:
    """Compute what follows views on the batch from the same views one above the other; return how many layers.

    Parameters
    ----------
    model : onnx_ir.Model
        Changed in place.
    joined : onnx_ir.Value
        (views x batch, channels, 1, time); what follows treats every window for itself.
    tall : onnx_ir.Value
        (batch, channels, views, time).
    """
    upright: dict[Any, ir.Value] = {joined: tall}
    carry(tall, [joined])
    emit = Emitter(model.graph, prefix="tall")
    done: set[Any] = set()
    for node in list(model.graph):
        if _stands(node, upright):
            emit.before = node
            inputs = [upright.get(v, v) for v in node.inputs]
            upright[node.outputs[0]] = emit(GLOBAL.get(node.op_type, node.op_type), *inputs, **_attributes(node))
            carry(upright[node.outputs[0]], node.outputs)
            done.add(node)
    for value, new in list(upright.items()):
        behind = [node for node in model.graph if value in node.inputs and node not in done]
        if behind:
            emit.before = behind[0]
            _lay_down(model, emit, value, new, behind)
    return len(done)


def _stands(node: ir.Node, upright: dict[Any, ir.Value]) -> bool:
    """Whether a node does to every row what it does to a window of one row."""
    dims, computed = inner_dims(node.outputs[0]), [v for v in node.inputs if v is not None and constant(v) is None]
    if dims is None or len(dims) != 3 or dims[1] != 1 or node.outputs[0].is_graph_output():
        return False
    if not computed or any(v not in upright for v in computed):
        return False
    if node.op_type == "Add":
        return len(computed) == len(node.inputs)
    return has(node, Trait.POINTWISE) or conv_of(node) is not None or node.op_type in GLOBAL or _pools_rows(node)


def _pools_rows(node: ir.Node) -> bool:
    """Whether a node is a pool along time alone."""
    if node.op_type not in GLOBAL.values() or len(node.outputs) != 1 or auto_padded(node):
        return False
    kernel, (strides, _, pads) = node.attributes.get_ints("kernel_shape") or (0,), geometry_of(node, 2)
    return bool((kernel[0], strides[0], pads[0], pads[2]) == (1, 1, 0, 0))


def _attributes(node: ir.Node) -> dict[str, Any]:
    if node.op_type not in GLOBAL:
        return attributes_of(node)
    return {"kernel_shape": [1, inner_dims(node.inputs[0])[2]]}  # type: ignore[index]


def _lay_down(model: ir.Model, emit: Emitter, value: ir.Value, tall: ir.Value, behind: list[ir.Node]) -> None:
    """Give readers the views on the batch; one that wants rank 2 gets it at once."""
    channels, _, n = inner_dims(value)  # type: ignore[misc]
    turned = emit("Transpose", tall, perm=list(TO_ROWS if n == 1 else BESIDE))
    flattening = [node for node in behind if _flattens(node)]
    if flattening:
        flat = emit("Reshape", turned, [-1, channels * n])
        for node in flattening:
            replace_value(model, node.outputs[0], flat)
    others = [node for node in behind if node not in flattening]
    if others:
        reread(others, value, emit("Reshape", turned, [-1, channels, 1, n]))


def _flattens(node: ir.Node) -> bool:
    """Whether a node makes rank 2 of a window."""
    if node.op_type == "Squeeze":
        return {a % 4 for a in axes_of(node) or ()} == {2, 3}
    return bool(node.op_type == "Flatten" and node.attributes.get_int("axis", 1) == 1)
