"""Counting multiply-adds: convolutions and matrix products, per window, from the shapes of a graph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from rtserve.graphs.functions import products_in

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    _Shape = Iterable[object] | None

__all__ = [
    "COUNTED",
    "Cost",
    "Work",
    "count_macs",
    "infer_shapes",
    "macs_of",
    "node_costs",
    "node_macs",
    "renew_shapes",
    "shaped_and_counted",
    "shapes_at",
    "work_of",
]


def infer_shapes(model: ir.Model) -> ir.Model:
    """Return the model with the shape of every value, as onnx's own inference finds them; marks on values are kept."""
    import onnx
    import onnx_ir as ir

    proto = ir.serde.serialize_model(model)
    shaped = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    for before, after in zip(model.graph, shaped.graph, strict=True):
        for old, new in zip(before.outputs, after.outputs, strict=True):
            new.meta.update(old.meta)
    return shaped


def renew_shapes(model: ir.Model) -> None:
    """Give every value the shape that onnx's own inference finds, in place."""
    _renewed(model)


def shaped_and_counted(model: ir.Model) -> int:
    """Do what `renew_shapes` does, and return what `count_macs` does."""
    return _macs_of(_renewed(model))


def _renewed(model: ir.Model) -> onnx.ModelProto:
    """Renew the shapes of a model's values without a copy of its weights; return it as it was, serialised."""
    import onnx
    import onnx_ir as ir

    proto = ir.serde.serialize_model(model)
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    found = {value.name: value.type for value in (*graph.value_info, *graph.output)}
    for value in (out for node in model.graph for out in node.outputs):
        if value.name in found:
            value.type = ir.serde.deserialize_type_proto_for_type(found[value.name])
            value.shape = ir.serde.deserialize_type_proto_for_shape(found[value.name])
    return proto


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
    if node.op_type not in COUNTED:
        return 0
    first, second = (value.shape if value is not None else None for value in node.inputs[:2])
    return macs_of(node.op_type, node.outputs[0].shape, first, second, bool(node.attributes.get_int("transB", 0)))


COUNTED = ("Conv", "ConvTranspose", "Gemm", "LogMatrix", "MatMul")


def macs_of(op: str, output: _Shape, first: _Shape, second: _Shape, transposed: bool) -> int:
    """Return the multiply-adds of an operation from the shapes of its output and of its first two inputs."""
    if op == "LogMatrix":
        return products_in(op) * _product(output) * _product(list(output or ())[-1:])
    if op == "Conv":
        return _product(output) * _product(list(second or ())[1:])
    if op == "ConvTranspose":
        return _product(first) * _product(list(second or ())[1:])
    if op == "Gemm":
        return _product(output) * int(list(second or ())[1 if transposed else 0])  # type: ignore[no-any-return, call-overload]
    inner = list(first or [1])[-1]
    return _product(output) * (inner if isinstance(inner, int) else 1)


class Work(NamedTuple):
    """The multiply-adds of a model per window, and of which node they are not known; an empty text where of none."""

    macs: int
    unknown: str = ""


def work_of(model: ir.Model) -> Work:
    """Return the multiply-adds of a model per window (convolutions both ways, Gemm, MatMul), shapes taken at batch 1."""
    costs = node_costs(model)
    lacking = [node for node, cost in zip(model.graph, costs, strict=True) if not cost.counted]
    named = [f"{node.op_type} {node.outputs[0].name}" for node in lacking[:1]]
    more = [f"{len(lacking) - 1} more"] if len(lacking) > 1 else []
    return Work(sum(cost.macs for cost in costs), " and ".join(named + more))


def count_macs(model: ir.Model) -> int:
    """Return the multiply-adds of a model as `work_of` does, as far as its shapes are known."""
    import onnx_ir as ir

    return _macs_of(ir.serde.serialize_model(model))


class Cost(NamedTuple):
    """What a node costs for one window: multiply-adds, how many numbers it gives, and whether its shapes tell."""

    macs: int
    numbers: int
    counted: bool = True


def node_costs(model: ir.Model) -> list[Cost]:
    """Return what every node costs, in their order; the multiply-adds add up to `count_macs`."""
    import onnx_ir as ir

    return _costs_of(ir.serde.serialize_model(model))


def _macs_of(proto: onnx.ModelProto) -> int:
    """Return the multiply-adds of a written model, which is used up."""
    return sum(cost.macs for cost in _costs_of(proto))


def _costs_of(proto: onnx.ModelProto) -> list[Cost]:
    """Return what every node of a written model costs, which is used up."""
    import onnx

    del proto.graph.value_info[:]
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for dim in proto.graph.output[0].type.tensor_type.shape.dim[:1]:
        dim.Clear()
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes: dict[str, list[object]] = {
        value.name: [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in _dims(value)]
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        macs, known, output = 0, True, shapes.get(node.output[0])
        if node.op_type in COUNTED:
            first, second = (shapes.get(name) for name in node.input[:2])
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            macs = macs_of(node.op_type, output, first, second, transposed)
            known = all(
                shape is not None and all(isinstance(dim, int) for dim in shape) for shape in (output, first, second)
            )
        found.append(Cost(macs, _product(output), known))
    return found


def _dims(value: Any) -> Any:
    return value.type.tensor_type.shape.dim
