"""A graph as ONNX, cut: with the values before a node given to it, the part from the node on is run by an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rtserve.graphs.cut_program import values_in_double
from rtserve.graphs.cuts import EXACT, Cuts
from rtserve.graphs.sessions import quiet_session

if TYPE_CHECKING:
    import onnx

    from rtserve.graphs.graph import Graph

__all__ = ["cut_for_onnxruntime", "cut_for_openvino"]

Values = dict[str, np.ndarray]


def cut_for_onnxruntime(graph: Graph, x: np.ndarray) -> Cuts:
    """Return the cuts of a graph in onnxruntime; the executor in float64 says what comes before."""
    import onnx

    model = onnx.load_model_from_string(graph.to_bytes())
    known = {model.graph.input[0].name: x} | _typed(model, _in_double(graph, x))
    return _of_model(model, known, _run_onnxruntime, EXACT)


def cut_for_openvino(graph: Graph, x: np.ndarray) -> Cuts:
    """Return the cuts of what OpenVINO is given of a graph; onnxruntime says what comes before."""
    import onnx_ir as ir

    from rtserve.graphs.openvino_forms import lower

    model: onnx.ModelProto = ir.serde.serialize_model(lower(graph.clone_model())[0])
    return _of_model(model, _by_onnxruntime(model, x), _run_openvino, "onnxruntime")


def _in_double(graph: Graph, x: np.ndarray) -> Values:
    """Return what the executor computes in float64 from windows, by the names of the graph."""
    from rtserve.graphs.plan import read_model

    reader, _ = read_model(graph.clone_model())
    called = {name: value.name for value, name in reader.names.items()}
    return {called[name]: value.numpy() for name, value in values_in_double(graph, x).items() if called.get(name)}


def _typed(model: onnx.ModelProto, values: Values) -> Values:
    """Return values in the types that the model has them in; float32 where it does not say."""
    import onnx
    from onnx import helper

    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *inferred.graph.output)}
    typed = {}
    for name, value in values.items():
        usual = np.dtype(np.float32) if value.dtype == np.float64 else value.dtype
        kind = kinds.get(name)
        typed[name] = value.astype(helper.tensor_dtype_to_np_dtype(kind) if kind else usual)
    return typed


def _of_model(model: onnx.ModelProto, known: Values, run: Callable[[bytes, Values], np.ndarray], by: str) -> Cuts:
    def answer(cut: int) -> np.ndarray:
        if cut == len(model.graph.node) and model.graph.output[0].name in known:
            return known[model.graph.output[0].name]
        return run(*_rest(model, known, cut))

    def called(cut: int) -> str:
        node = model.graph.node[cut]
        return f"{node.op_type} {node.output[0]}"

    return Cuts(last=len(model.graph.node), answer=answer, called=called, by=by)


def _by_onnxruntime(model: onnx.ModelProto, x: np.ndarray) -> Values:
    """Return every value of a model in onnxruntime, its input among them."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    had = {value.name for value in bare.graph.output}
    names = [name for node in bare.graph.node for name in node.output if name and name not in had]
    bare.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = quiet_session(bare.SerializeToString(), rewritten=False)
    start = session.get_inputs()[0].name
    return {start: x, **dict(zip([o.name for o in session.get_outputs()], session.run(None, {start: x}), strict=True))}


def _rest(model: onnx.ModelProto, known: Values, cut: int) -> tuple[bytes, Values]:
    """Return the part of a model from node number `cut` on, and what is given to it of the values before.

    A node before the cut whose result is not known stays in the part: constants, and sizes.
    """
    import onnx
    from onnx import helper

    nodes = [
        node
        for index, node in enumerate(model.graph.node)
        if index >= cut or not any(name in known for name in node.output if name)
    ]
    inside = {name for node in nodes for name in node.output}
    needed = [name for node in nodes for name in node.input if name in known and name not in inside]
    given = {name: np.ascontiguousarray(known[name]) for name in dict.fromkeys(needed)}
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
    ]
    part = onnx.ModelProto()
    part.CopyFrom(model)
    rest = helper.make_graph(nodes, "rest", inputs, [onnx.ValueInfoProto(name=model.graph.output[0].name)],
                             list(model.graph.initializer))  # fmt: skip
    part.graph.CopyFrom(rest)
    return part.SerializeToString(), given


def _run_openvino(part: bytes, given: Values) -> np.ndarray:
    from rtserve.graphs.openvino_core import openvino_core

    core = openvino_core()
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(part), "CPU", options)
    order = [value.get_any_name() for value in compiled.inputs]
    return np.array(compiled.create_infer_request().infer([given[name] for name in order])[0])


def _run_onnxruntime(part: bytes, given: Values) -> np.ndarray:
    session = quiet_session(part)
    wanted = {value.name for value in session.get_inputs()}
    y: np.ndarray = session.run(None, {name: value for name, value in given.items() if name in wanted})[0]
    return y
