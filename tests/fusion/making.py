"""Small graphs made on the spot, ours and other people's, and running any model by both engines."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rtserve.fusion.join import empty_model, set_output
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import normalise
from rtserve.graphs.graph import Graph
from rtserve.spec import InputSpec, OutputSpec, Provenance

N_CHANS, N_TIMES = 4, 20
SPEC = InputSpec(n_chans=N_CHANS, n_times=N_TIMES, sfreq=100.0, ch_names=("F3", "F4", "Cz", "Pz"), unit="V")


def network(seed=0, *, kind="conv", spec=SPEC, n_outputs=1, target="response_time"):
    """A seeded network as a `Graph`: strided convolution and dense layer, or two dense layers."""
    rng = np.random.default_rng(seed)
    model = empty_model(spec.n_chans, spec.n_times)
    emit, x = Emitter(model.graph, prefix=kind), model.graph.inputs[0]
    if kind == "conv":
        w, b = 0.4 * rng.standard_normal((6, spec.n_chans, 5)), 0.3 * rng.standard_normal(6)
        h = emit("Conv", x, w, b, kernel_shape=[5], strides=[2], pads=[2, 2])
        h = emit("ReduceMean", emit("Relu", h), [2], keepdims=0)
    else:
        h = emit("Reshape", x, np.array([0, -1]))
        h = emit("Tanh", emit("Gemm", h, 0.1 * rng.standard_normal((spec.n_chans * spec.n_times, 6))))
    y = emit("Gemm", h, rng.standard_normal((6, n_outputs)), 1.5 + rng.standard_normal(n_outputs))
    set_output(model.graph, y, n_outputs)
    normalise(model, name=kind)
    return Graph(
        model=model,
        input_spec=spec,
        output_spec=OutputSpec(n_outputs=n_outputs, target=target),
        provenance=Provenance(kind="export", details={"network": kind, "seed": seed}),
    )


def constant(value, *, spec=SPEC):
    """A graph that answers `value` (n_outputs,), whatever it is asked: NaN and Inf included."""
    value = np.atleast_1d(np.asarray(value, "f4"))
    model = empty_model(spec.n_chans, spec.n_times)
    emit, x = Emitter(model.graph), model.graph.inputs[0]
    zero = emit("Mul", emit("ReduceMean", x, [1, 2], keepdims=0), np.float32(0.0))
    y = emit("Add", emit("Unsqueeze", zero, [1]), value.reshape(1, -1))
    set_output(model.graph, y, len(value))
    normalise(model, name="constant")
    return Graph(
        model=model,
        input_spec=spec,
        output_spec=OutputSpec(n_outputs=len(value)),
        provenance=Provenance(kind="export", details={}),
    )


def foreign(
    *, opset=20, names=("eeg", "score"), batch="n", shape=(N_CHANS, N_TIMES), dtype=TensorProto.FLOAT, node=None
):
    """A graph as somebody else's tool writes one: other names, another opset, no word about itself."""
    rng = np.random.default_rng(9)
    weights = {"w": 0.4 * rng.standard_normal((6, shape[0], 3)), "d": rng.standard_normal((6, 1))}
    x, y = names
    nodes = [
        helper.make_node("Conv", [x, "w"], ["c"], pads=[1, 1]),
        helper.make_node("LeakyRelu", ["c"], ["r"], alpha=0.1),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        node or helper.make_node("MatMul", ["f", "d"], [y]),
    ]
    kind = np.float64 if dtype == TensorProto.DOUBLE else np.float32
    graph = helper.make_graph(
        nodes, "theirs",
        [helper.make_tensor_value_info(x, dtype, [batch, *shape])],
        [helper.make_tensor_value_info(y, dtype, [batch, 1])],
        [numpy_helper.from_array(w.astype(kind), name) for name, w in weights.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)][: 2 if node else 1]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    return Graph.from_bytes(model.SerializeToString(), name="theirs")


def windows(batch=3, seed=0, spec=SPEC):
    return np.random.default_rng(seed).standard_normal((batch, spec.n_chans, spec.n_times)).astype("f4")


def run_both(model: ir.Model, x):
    """Run a model in onnxruntime and in onnx's reference evaluator."""
    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with np.errstate(all="ignore"):
        return session.run(None, {"x": x})[0], ReferenceEvaluator(proto).run(None, {"x": x})[0]
