"""Functions that OpenVINO computes coarsely are written otherwise; what is refused in it names the operator."""

import subprocess
import sys

import numpy as np
import onnx.parser
import pytest
from scipy import special

from rtserve.errors import ExportError, ParityError
from rtserve.fusion.fuse import fuse_with_report
from rtserve.graphs import openvino_forms
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import PlanRunner, make_runner
from rtserve.graphs.turning import turning_point

pytestmark = pytest.mark.needs("openvino")
TRUTH = {"Softplus": lambda x: np.logaddexp(0.0, x), "Erf": special.erf}
HEAD = '<ir_version: 9, opset_import: ["" : 20]> net (float[batch, 2, 32] x) => (float[batch, 64] y)'


def parsed(body, weights=""):
    text = f"{HEAD} <int64[2] flat = {{0, -1}} {weights}> {{ {body} y = Reshape (p, flat) }}"
    return Graph.from_bytes(onnx.parser.parse_model(text).SerializeToString())


@pytest.mark.parametrize("kind", TRUTH)
def test_openvino_gives_the_digits_of_small_answers(kind):
    graph = parsed(f"p = {kind} (x)")
    runner, rng = make_runner(graph, "openvino"), np.random.default_rng(19)
    for scale in (1e-6, 1e-3, 1.0, 4.0, 80.0):
        x = rng.uniform(-scale, scale, (8, 2, 32)).astype("f4")
        truth = TRUTH[kind](x.astype("f8")).reshape(8, -1)
        assert np.allclose(runner.infer(x), truth, rtol=1e-6, atol=1e-37)
    x[0, 0, :3] = np.inf, -np.inf, np.nan
    ends = {"Softplus": (np.inf, 0.0, np.nan), "Erf": (1.0, -1.0, np.nan)}
    assert np.array_equal(runner.infer(x)[0, :3], np.float32(ends[kind]), equal_nan=True)


@pytest.mark.parametrize("kind", TRUTH)
def test_the_form_is_exact_and_written_once(kind):
    graph = parsed(f"p = {kind} (x)")
    model, changed = openvino_forms.lower(graph.clone_model())
    assert changed == 1
    assert openvino_forms.lower(model)[1] == 0
    x = np.random.default_rng(19).standard_normal((4, 2, 32)).astype("f4")
    written = PlanRunner(Graph.from_bytes(onnx_bytes(model)), double=True).infer(x)
    assert np.allclose(written, TRUTH[kind](x.astype("f8")).reshape(4, -1), rtol=5e-7)


def onnx_bytes(model):
    import onnx_ir as ir

    return ir.serde.serialize_model(model).SerializeToString()


@pytest.mark.parametrize(
    ("body", "weights"),
    [("a = Softplus (x) b = Tanh (a) p = Mul (x, b)", ""),
     ("a = Erf (x) b = Add (a, one) p = Mul (x, b)", ", float one = {1}")],
    ids=["mish", "gelu"],
)  # fmt: skip
def test_what_openvino_knows_as_one_operator_is_left(body, weights):
    graph = parsed(body, weights)
    assert openvino_forms.lower(graph.clone_model())[1] == 0
    x = (20 * np.random.default_rng(19).standard_normal((8, 2, 32))).astype("f4")
    truth = PlanRunner(graph, double=True).infer(x)
    assert np.allclose(make_runner(graph, "openvino").infer(x), truth, rtol=1e-6, atol=1e-6)


def test_what_is_refused_in_openvino_names_the_operator_it_turns_on(monkeypatch):
    graph = parsed("a = Softplus (x) b = Mul (a, big) p = Relu (b)", ", float big = {1000}")
    assert fuse_with_report([graph], engine="openvino")[1].laid_out.verdict == "equal"
    left = {op: write for op, write in openvino_forms.REWRITES.items() if op != "Softplus"}
    monkeypatch.setattr(openvino_forms, "REWRITES", left)
    x = np.full((1, 2, 32), -83.0, "f4")

    def off(answer):
        return float(np.abs(answer - 1000 * np.logaddexp(0.0, -83.0)).max())  # 1e-33

    assert "it turns on Softplus a:" in turning_point(graph, x, off, 1e-4, "openvino")
    assert "no operator could be found" in turning_point(graph, x, off, 1.0, "openvino")
    assert "onnxruntime is off" in turning_point(graph, x, lambda answer: 1.0, 1e-4, "openvino")


def test_a_refusal_carries_it(monkeypatch):
    graph = parsed("a = Erf (x) b = Erf (a) p = Mul (b, b)")
    left = {op: write for op, write in openvino_forms.REWRITES.items() if op != "Erf"}
    monkeypatch.setattr(openvino_forms, "REWRITES", left)
    with pytest.raises(ParityError, match=r"OpenVINO on the fused graph.*it turns on Erf "):
        fuse_with_report([graph], engine="openvino")


HEARD = """
import os, signal, sys, threading
import numpy as np
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import make_runner
runners = [make_runner(Graph.load(sys.argv[1]), "openvino")]
runners[0].infer(np.ones((1, 2, 32), np.float32))
thread = threading.Thread(target=runners.clear)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_ctrl_c_is_heard_after_a_graph_has_gone_in_another_thread(tmp_path):
    """OpenVINO's plugin, unloaded there, takes the memory on which this thread handles signals."""
    path = parsed("p = Erf (x)").save(tmp_path / "g.onnx")
    done = subprocess.run([sys.executable, "-c", HEARD, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_places_among_equals_are_refused_by_name():
    counted = parsed("v, i = TopK <axis = 2> (x, k) p = Cast <to = 1> (i)", ", int64[1] k = {32}")
    with pytest.raises(
        ExportError, match=r"OpenVINO does not compute TopK .* with its indices, where entries are equal"
    ):
        make_runner(counted, "openvino")
    values = parsed("v, i = TopK <axis = 2> (x, k) p = Identity (v)", ", int64[1] k = {32}")
    x = np.random.default_rng(0).integers(-3, 4, (2, 2, 32)).astype("f4")
    assert np.array_equal(make_runner(values, "openvino").infer(x), -np.sort(-x, axis=2).reshape(2, -1))


def test_what_openvino_cannot_load_is_named():
    graph = parsed("p = LayerNormalization <axis = 1> (x, s)", ", float[1] s = {2}")
    with pytest.raises(
        ExportError, match=r"cannot load the graph: Conversion is failed for: LayerNormalization.*Requested"
    ):
        make_runner(graph, "openvino")
