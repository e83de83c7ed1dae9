"""A graph in float64: every float32 tensor, cast and declared type becomes double, nothing else changes.

The result is what "the right number" means in every parity check. It is for the reference evaluator only: onnxruntime
has no double convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph

__all__ = ["double_model", "evaluated", "to_float64"]

_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE


def _double_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == _FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _double_attributes(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            _double_tensor(attribute.t)
        elif (attribute.name == "to" and attribute.i == _FLOAT) or (
            attribute.name == "dtype" and attribute.i == _FLOAT
        ):
            attribute.i = _DOUBLE
        elif attribute.type == onnx.AttributeProto.GRAPH:
            _double_graph(attribute.g)
    if node.op_type == "Constant":
        for attribute in list(node.attribute):
            if attribute.name in ("value_float", "value_floats"):
                value = np.array(attribute.f if attribute.name == "value_float" else list(attribute.floats), np.float64)
                node.attribute.remove(attribute)
                node.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(value)))


def _double_graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _double_tensor(tensor)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type == _FLOAT:
            value.type.tensor_type.elem_type = _DOUBLE
    for node in graph.node:
        _double_attributes(node)


def to_float64(graph: Graph) -> onnx.ModelProto:
    """Return the model of `graph` with every float32 turned into float64.

    Returns
    -------
    onnx.ModelProto
        Takes float64 (batch, n_chans, n_times), gives float64 (batch, n_outputs).
    """
    return double_model(onnx.load_model_from_string(graph.to_bytes()))


def double_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn a model into float64 in place, and return it."""
    _double_graph(model.graph)
    return model


def evaluated(model: ir.Model, x: np.ndarray) -> np.ndarray:
    """Return what a model gives for its one input in float64, of any shape.

    By the executor, which takes little memory; by onnx's own evaluator where the executor lacks a form of an operator.

    Parameters
    ----------
    model : onnx_ir.Model
        Its weights are there; no size depends on the batch.
    x : ndarray
        The input.
    """
    import onnx_ir as ir
    import torch

    from rtserve.errors import ExportError
    from rtserve.graphs.plan import read_model
    from rtserve.runtime.executor import Program
    from rtserve.runtime.node import UnsupportedOperatorError

    try:
        reader, plan = read_model(model.clone())
        tensors = {name: t.double() if t.is_floating_point() else t for name, t in reader.tensors.items()}
        with torch.inference_mode():
            y: np.ndarray = (
                Program(plan, tensors, torch.zeros((), dtype=torch.float64)).run(torch.from_numpy(x)).numpy()
            )
    except (ExportError, UnsupportedOperatorError):
        from onnx.reference import ReferenceEvaluator

        proto = double_model(ir.serde.serialize_model(model))
        y = ReferenceEvaluator(proto).run(None, {proto.graph.input[0].name: x})[0]
    return y
