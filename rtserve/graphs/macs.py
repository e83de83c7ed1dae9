"""Counting multiply-adds: convolutions and matrix products, per window, from the shapes of a graph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["count_macs", "infer_shapes", "renew_shapes", "shapes_at"]


def infer_shapes(model: ir.Model) -> ir.Model:
    """Return the model with the shape of every value, as onnx's own inference finds them."""
    import onnx
    import onnx_ir as ir

    proto = onnx.shape_inference.infer_shapes(ir.serde.serialize_model(model), data_prop=True)
    return ir.serde.deserialize_model(proto)


def renew_shapes(model: ir.Model) -> None:
    """Give every value the shape that onnx's own inference finds, in place."""
    found = {out.name: out.shape for node in infer_shapes(model).graph for out in node.outputs}
    for node in model.graph:
        for out in node.outputs:
            out.shape = found[out.name]


def shapes_at(model: ir.Model, batch: int) -> dict[str, list[int]]:
    """Return the shapes of all inner values for a batch of that size, by name; 0 for a dimension not known."""
    import onnx
    import onnx_ir as ir

    proto = ir.serde.serialize_model(model)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    del proto.graph.value_info[:]
    found = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in found.graph.value_info
        if value.type.tensor_type.HasField("shape")
    }


def _product(shape: Iterable[object] | None) -> int:
    """Return the product of known dimensions; a symbolic one (the batch) counts as 1, an unknown shape as 0."""
    return 0 if shape is None else math.prod(dim for dim in shape if isinstance(dim, int))


def node_macs(node: ir.Node) -> int:
    """Return the multiply-adds of one node per window."""
    if node.op_type == "Conv":
        weight = node.inputs[1].shape  # type: ignore[union-attr]
        return _product(node.outputs[0].shape) * _product(list(weight)[1:])  # type: ignore[arg-type]
    if node.op_type == "Gemm":
        weight = node.inputs[1].shape  # type: ignore[union-attr]
        transposed = node.attributes.get_int("transB", 0)
        return _product(node.outputs[0].shape) * int(weight[1 if transposed else 0])  # type: ignore[index,arg-type]
    if node.op_type == "MatMul":
        inner = list(node.inputs[0].shape or [1])[-1]  # type: ignore[union-attr]
        return _product(node.outputs[0].shape) * (inner if isinstance(inner, int) else 1)
    return 0


def count_macs(model: ir.Model) -> int:
    """Return the multiply-adds of a model per window (convolutions, Gemm, MatMul), shapes taken at batch 1."""
    import onnx
    import onnx_ir as ir

    proto = ir.serde.serialize_model(model)
    del proto.graph.value_info[:]
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for dim in proto.graph.output[0].type.tensor_type.shape.dim[:1]:
        dim.Clear()
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    return sum(node_macs(node) for node in ir.serde.deserialize_model(inferred).graph)
