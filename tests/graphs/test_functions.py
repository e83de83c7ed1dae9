"""Functions of our own: one meaning in every engine, declared where they are called, a stranger's body written out."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import parser

from rtserve.errors import InputError
from rtserve.fusion.fuse import fuse
from rtserve.fusion.join import prepare_member
from rtserve.graphs.emit import Emitter
from rtserve.graphs.functions import DOMAIN, declare, products_in, written_out
from rtserve.graphs.graph import Graph
from rtserve.graphs.macs import count_macs
from rtserve.graphs.plan import graph_to_plan
from rtserve.graphs.runners import make_runner

CHANS, TIMES = 3, 16
TEXT = """
<ir_version: 9, opset_import: ["" : 20, "rtserve" : 1]>
member (float[batch, 3, 16] x) => (float[batch, 9] y)
<double[3, 3] w, double[3, 3] one = {1, 0, 0, 0, 1, 0, 0, 0, 1}, int64[2] flat = {-1, 9}>
{
    d = Cast <to = 11> (x)
    t = Transpose <perm = [0, 2, 1]> (d)
    c = MatMul (d, t)
    v = MatMul (w, c)
    s = MatMul (v, w)
    l = rtserve.LogMatrix (s, one)
    f = Reshape (l, flat)
    y = Cast <to = 1> (f)
}
"""


def member(seed=0, *, bodied=True):
    """Return a graph of one logarithm, of covariances seen through a matrix of its own."""
    g = np.random.default_rng(seed)
    proto = parser.parse_model(TEXT)
    w = g.standard_normal((CHANS, CHANS))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(CHANS) + 0.1 * (w + w.T), "w"))
    model = ir.serde.deserialize_model(proto)
    if bodied:
        declare(model)
    graph = Graph.from_model(model)
    return replace(graph, output_spec=replace(graph.output_spec, target="logarithm"))


def ours(graph):
    """Return a graph as one that rtserve has made: it is not taken for a stranger's."""
    return replace(graph, provenance=replace(graph.provenance, kind="export"))


def windows(batch=4):
    x = np.random.default_rng(5).standard_normal((batch, CHANS, TIMES)).astype("f4")
    x[-1, 1] = 0.0  # a covariance that is singular
    return x


def truth(graph, x):
    w = next(v for v in graph.model.graph.initializers.values() if v.name == "w").const_value.numpy()
    c = x.astype(float) @ np.swapaxes(x.astype(float), 1, 2)
    values, vectors = np.linalg.eigh(w @ c @ w)
    values[values < 1e-9] = np.nan
    return ((vectors * np.log(values)[:, None]) @ np.swapaxes(vectors, 1, 2)).reshape(len(x), -1)


@pytest.mark.parametrize("engine", ["onnxruntime", "torch", "reference"])
def test_every_engine_gives_its_number(engine):
    graph, x = member(), windows()
    np.testing.assert_allclose(make_runner(graph, engine).infer(x), truth(graph, x), rtol=1e-5, atol=1e-5)


@pytest.mark.needs("openvino")
def test_openvino_runs_the_body_in_float32():
    graph, x = member(), windows()[:-1]
    np.testing.assert_allclose(make_runner(graph, "openvino").infer(x), truth(graph, x), rtol=1e-3, atol=1e-3)


def test_the_executor_has_its_own_way_and_others_the_body():
    graph = member()
    assert [node["op"] for node in graph_to_plan(graph)[0]["nodes"]].count("LogMatrix") == 1
    written = [node["op"] for node in graph_to_plan(graph, written=True)[0]["nodes"]]
    assert "LogMatrix" not in written
    assert written.count("MatMul") == 3 + products_in("LogMatrix")
    assert count_macs(graph.model) == CHANS * CHANS * (TIMES + 2 * CHANS + products_in("LogMatrix") * CHANS)


def test_what_another_says_under_our_name_is_run_as_it_says():
    graph, x = member(), windows(2)[:1]
    function = next(iter(graph.model.functions.values()))
    log = next(node for node in function if node.op_type == "Log")
    log.replace_input_with(0, function.inputs[1])  # of the unit matrix: the trace's logarithm is lost
    changed = Graph.from_bytes(ir.serde.serialize_model(graph.model).SerializeToString())
    assert "LogMatrix" not in [node["op"] for node in graph_to_plan(changed)[0]["nodes"]]
    y = [make_runner(changed, engine).infer(x) for engine in ("torch", "onnxruntime")]
    np.testing.assert_allclose(*y, rtol=1e-5)
    assert not np.allclose(y[0], truth(member(), x), equal_nan=True)


def test_functions_are_declared_where_they_are_called_and_nowhere_else():
    graph = member(bodied=False)
    assert not graph.model.functions
    model = graph.clone_model()
    declare(model)
    assert [key[:2] for key in model.functions] == [(DOMAIN, "LogMatrix")]
    whole = written_out(model, ours=True)
    declare(whole)
    assert not whole.functions
    assert DOMAIN not in whole.graph.opset_imports
    with pytest.raises(InputError, match=r"outside the standard: rtserve.LogMatrix"):
        fuse([ours(graph)])


def test_an_emitted_function_is_in_its_domain():
    model = member().clone_model()
    emit = Emitter(model.graph)
    y = emit("LogMatrix", *next(node for node in model.graph if node.op_type == "LogMatrix").inputs)
    assert y.producer().domain == DOMAIN


def test_members_are_fused_with_it():
    graphs = [ours(member(seed)) for seed in range(3)]
    fused, x = fuse(graphs), windows()
    assert [node.op_type for node in fused.model.graph].count("LogMatrix") == 1  # of three matrices a window
    wanted = np.mean([truth(graph, x) for graph in graphs], axis=0)
    for engine in ("onnxruntime", "torch"):
        np.testing.assert_allclose(make_runner(fused, engine).infer(x), wanted, rtol=1e-5, atol=1e-5)


def test_a_strangers_graph_stands_without_functions():
    model = prepare_member(member(), "member 1")
    assert not model.functions
    assert {node.domain for node in model.graph} == {""}


def test_a_trace_of_the_plan_has_it(tmp_path):
    from rtserve.submission.torchscript import trace

    graph, x = member(), windows()
    (tmp_path / "m.ts").write_bytes(trace(*graph_to_plan(graph), (CHANS, TIMES)))
    y = torch.jit.load(str(tmp_path / "m.ts"))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(y, truth(graph, x), rtol=1e-5, atol=1e-5)
