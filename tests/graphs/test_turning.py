"""A refusal names the operator that an engine computes otherwise, in whichever engine it was."""

import numpy as np
import onnx.parser
import pytest
import torch
from onnx import numpy_helper

from rtserve.errors import ParityError, RtserveError
from rtserve.fusion.fuse import fuse_with_report
from rtserve.graphs.answers import answer_windows, require_engine
from rtserve.graphs.graph import Graph
from rtserve.graphs.parity import ParityReport, compare_outputs
from rtserve.graphs.proof import _located
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner
from rtserve.graphs.turning import turning_point, turning_words
from rtserve.runtime.node import OPERATORS

NET = """<ir_version: 9, opset_import: ["" : 20]> net (float[batch, 2, 32] x) => (float[batch, {n}] y)
<int64[1] first = {{0}}, int64[1] time = {{2}}, float two = {{2}}, float large = {{5000}}{weights}> {{ {body} }}"""
CHAIN = """a = Elu (x) shape = Shape (a) b = Reshape (a, shape) c = Tanh (b) d = Mul (c, two) e = Softplus (d)
           y = ReduceMean <keepdims = 0> (e, time)"""
NEAR_ZERO = """s = Mul (x, two) t = Transpose <perm = [2, 0, 1]> (s) all, last = RNN <hidden_size = 4> (t, W, R)
               h = Squeeze (last, first) y = Mul (h, large)"""
"""onnxruntime's RNN errs by 1e-7 whatever the size of its numbers: on windows of 1e-6 by some 1e-3 of the answer."""


def parsed(body, n=2, **weights):
    declared = "".join(f", float[{','.join(map(str, w.shape))}] {name}" for name, w in weights.items())
    model = onnx.parser.parse_model(NET.format(n=n, body=body, weights=declared))
    for value in [v for v in model.graph.value_info if v.name in weights]:
        model.graph.initializer.append(numpy_helper.from_array(weights[value.name], value.name))
        model.graph.value_info.remove(value)
    return Graph.from_bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def recurrent():
    rng = np.random.default_rng(2)
    weights = {"W": rng.standard_normal((1, 4, 2)), "R": rng.standard_normal((1, 4, 4))}
    return parsed(NEAR_ZERO, n=4, **{name: w.astype("f4") for name, w in weights.items()})


def off_from(graph, x):
    truth = PlanRunner(graph, double=True).infer(x)
    return truth, lambda y: compare_outputs("x", y, truth).error


def test_onnxruntimes_own_error_is_found_where_it_is_made(recurrent):
    x = (1e-6 * np.random.default_rng(0).standard_normal((2, 2, 32))).astype("f4")
    _, off = off_from(recurrent, x)
    assert off(OnnxruntimeRunner(recurrent).infer(x)) > 1e-5
    found = turning_point(recurrent, x, off, 1e-5, "onnxruntime")
    assert found.startswith("it turns on RNN all: with everything before it computed by the executor in float64")


def test_fuse_names_it_and_does_not_call_it_a_defect_of_the_compiler(recurrent):
    with pytest.raises(ParityError, match=r"onnxruntime on the fused graph.* it turns on RNN ") as caught:
        fuse_with_report([recurrent])
    assert "for the plain graph, too" in caught.value.hint
    assert "defect" not in caught.value.hint


def test_export_names_it(recurrent, tmp_path):
    x = (1e-6 * np.random.default_rng(0).standard_normal((2, 2, 32))).astype("f4")
    truth, _ = off_from(recurrent, x)
    y = OnnxruntimeRunner(recurrent).infer(x)
    np.savez(tmp_path / "probes.npz", names=np.array(["noise"]), x0=x, y0=truth, own0=truth.astype("f4"))
    report = ParityReport(cases=(compare_outputs("noise", y, truth),))
    assert "it turns on RNN" in _located(report, recurrent, tmp_path / "probes.npz").summary()
    np.savez(tmp_path / "probes.npz", names=np.array(["noise"]), x0=x, y0=truth + 1, own0=truth.astype("f4"))
    assert "float64 is off on this input as well" in _located(report, recurrent, tmp_path / "probes.npz").summary()
    passed = ParityReport(cases=(compare_outputs("noise", truth, truth),))
    assert _located(passed, recurrent, tmp_path / "probes.npz") is passed


@pytest.mark.parametrize(("op", "value"), [("Tanh", "c"), ("Softplus", "e"), ("Elu", "a")])
def test_the_executors_own_error_is_found_in_its_program(op, value, monkeypatch):
    graph, made = parsed(CHAIN), OPERATORS[op]

    def coarse(node):
        call = made(node)
        return lambda x: call(x) * (1.001 if x.dtype == torch.float32 else 1.0)

    monkeypatch.setitem(OPERATORS, op, coarse)
    x = np.random.default_rng(0).standard_normal((3, 2, 32)).astype("f4")
    truth, off = off_from(graph, x)
    assert f"it turns on {op} {value}:" in turning_point(graph, x, off, 1e-5, "torch")
    with pytest.raises(ParityError, match=rf"the torch executor on the fused graph.* it turns on {op} "):
        fuse_with_report([graph], engine="torch", optimize=False)


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_where_nothing_is_off_no_operator_is_blamed(engine):
    graph = parsed(CHAIN)
    x = np.random.default_rng(0).standard_normal((3, 2, 32)).astype("f4")
    _, off = off_from(graph, x)
    assert turning_point(graph, x, off, 1e-5, engine) == "no operator could be found that it turns on"
    assert "float64 is off" in turning_point(graph, x, lambda y: 1.0, 1e-5, engine)


def test_an_engine_that_is_refused_before_a_measurement_names_it(recurrent):
    infer = OnnxruntimeRunner(recurrent).infer
    with pytest.raises(ParityError, match=r"OpenVINO does not give .* is allowed on its reference windows"):
        require_engine(recurrent, lambda x: infer(x) * 1.01, engine="OpenVINO", name="r.onnx")


def test_what_cannot_be_cut_does_not_hide_the_refusal(recurrent):
    def fails(y):
        raise ValueError("no number")

    x = answer_windows(recurrent.input_spec)
    assert turning_words(recurrent, x, fails, 1e-5, "torch").endswith("could not be found (ValueError)")
    assert turning_words(recurrent, x, fails, 1e-5, "native") == ""


def test_what_onnxruntimes_optimiser_breaks_is_told_from_what_cannot_run():
    class Broken:
        def run(self, *given):
            raise RuntimeError("indices element out of data bounds")

    runner = OnnxruntimeRunner(parsed(CHAIN))
    runner.session = Broken()
    with pytest.raises(
        RtserveError, match=r"own optimiser breaks the graph .*: indices .*; without optimisation it runs"
    ):
        runner.infer(np.zeros((1, 2, 32), "f4"))
    with pytest.raises(RtserveError, match="onnxruntime cannot run the graph"):
        runner.infer(np.zeros((1, 3, 32), "f4"))
