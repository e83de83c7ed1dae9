"""Which operator OpenVINO computes otherwise: asked where a graph was refused, so that the refusal names it.

The graph is cut in two: what comes before is computed by onnxruntime, the rest by OpenVINO. With the cut at the start
the answer is off, at the end it cannot be; in between, by halving, lies an operator on which it turns. So an error is
found where it is made, not where it grows (a coarse resize shows in a mean that cancels), and only a few parts are
compiled however large the graph is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtserve.graphs.openvino_forms import lower

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from rtserve.graphs.graph import Graph

__all__ = ["turning_point"]


def turning_point(graph: Graph, x: np.ndarray, off: Callable[[np.ndarray], float], allowed: float) -> str:
    """Return the operator that must not be OpenVINO's for the answer to be allowed, in one sentence.

    Parameters
    ----------
    graph : Graph
        What was refused.
    x : ndarray
        The windows (batch, n_chans, n_times) that it was refused on.
    off : callable
        How far an answer (batch, n_outputs) is off; NaN where it cannot be compared.
    allowed : float
        How far it may be.
    """
    import onnx_ir as ir

    model: onnx.ModelProto = ir.serde.serialize_model(lower(graph.clone_model())[0])
    known = _values(model, x)
    last = len(model.graph.node)
    errors = {last: off(known[model.graph.output[0].name])}
    if not errors[last] <= allowed:
        return "onnxruntime is off on this input as well"
    low, high = 0, last
    errors[low] = off(_rest(model, known, low))
    if errors[low] <= allowed:
        return "no operator could be found that it turns on"
    while high - low > 1:
        middle = (low + high) // 2
        errors[middle] = off(_rest(model, known, middle))
        low, high = (low, middle) if errors[middle] <= allowed else (middle, high)
    node = model.graph.node[low]
    return (
        f"it turns on {node.op_type} {node.output[0]}: with everything before it computed by onnxruntime OpenVINO is"
        f" off by {errors[low]:.1e}, with it as well by {errors[high]:.1e}"
    )


def _values(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return every value of a model in onnxruntime, its input among them."""
    import onnx
    import onnxruntime

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    had = {value.name for value in bare.graph.output}
    names = [name for node in bare.graph.node for name in node.output if name and name not in had]
    bare.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(bare.SerializeToString(), options, providers=["CPUExecutionProvider"])
    start = session.get_inputs()[0].name
    return {start: x, **dict(zip([o.name for o in session.get_outputs()], session.run(None, {start: x}), strict=True))}


def _rest(model: onnx.ModelProto, known: dict[str, np.ndarray], cut: int) -> np.ndarray:
    """Return what OpenVINO answers with the values before node number `cut` given to it."""
    import onnx
    from onnx import helper

    from rtserve.graphs.openvino_core import openvino_core

    nodes = model.graph.node[cut:]
    inside = {name for node in nodes for name in node.output}
    needed = [name for node in nodes for name in node.input if name in known and name not in inside]
    given = list(dict.fromkeys(needed))
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(known[name].dtype), known[name].shape)
        for name in given
    ]
    part = onnx.ModelProto()
    part.CopyFrom(model)
    rest = helper.make_graph(nodes, "rest", inputs, [onnx.ValueInfoProto(name=model.graph.output[0].name)],
                             list(model.graph.initializer))  # fmt: skip
    part.graph.CopyFrom(rest)
    core = openvino_core()
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(part.SerializeToString()), "CPU", options)
    order = [value.get_any_name() for value in compiled.inputs]
    return np.array(compiled.create_infer_request().infer([known[name] for name in order])[0])
