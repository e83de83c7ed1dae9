"""Networks and graphs that answer by more than the window, and engines that answer something else."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from rtserve.errors import ExportError, InputError, ParityError
from rtserve.fusion.fuse import fuse_with_report
from rtserve.graphs.answers import Answers, answer_windows, require_engine
from rtserve.graphs.behaviour import coupling, require_steady
from rtserve.graphs.export import export_with_report
from rtserve.graphs.graph import Graph
from rtserve.graphs.openvino_forms import lower
from rtserve.graphs.own_input import require_copyable, writes_over_input
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner, make_runner
from rtserve.graphs.steady import coupled_by
from rtserve.measure import vetting
from rtserve.measure.bench import bench
from rtserve.measure.branches import try_branches
from rtserve.measure.evaluate import evaluate
from rtserve.measure.search import search
from rtserve.signals.windows import WindowSet
from rtserve.spec import InputSpec, OutputSpec
from tests.graphs.odd_networks import SPEC, Overwriting, Plain, Recurrent, Unsteady

ODD = str(Path(__file__).parent / "odd_networks.py")
HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'


def parsed(body, *, n_chans=2, n_times=12, weights=""):
    """A graph made elsewhere: x through `body` to p (batch, 2, *), its mean over time, and a weighted sum."""
    text = f"""{HEAD}net (float[batch, {n_chans}, {n_times}] x) => (float[batch, 1] y)
    <int64[1] time = {{2}}, int64[1] batchwise = {{0}}, float[2, 1] w = {{1.0, -0.5}}{weights}>
    {{ {body} m = ReduceMean <keepdims = 0> (p, time)  y = MatMul (m, w) }}"""
    return Graph.from_bytes(onnx.parser.parse_model(text).SerializeToString())


def windows(n=40, n_chans=2, n_times=12, unit=None):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, n_chans, n_times)).astype("f4")
    return WindowSet(X=X, y=rng.standard_normal(n).astype("f4"), unit=unit)


def odd(kind):
    return export_with_report(None, exporter=f"{ODD}:unsteady", settings={"kind": kind})


@pytest.mark.parametrize(
    ("kind", "cause", "cure"),
    [
        ("dropout", "draws at random .dropout in forward", "F.dropout"),
        ("noise", "draws at random .randn_like in forward", "leave the noise out"),
        ("numpy", "two fresh copies of it differ", "leave the randomness out"),
        ("state", "keeps state from call to call .calls changed", "reset the state"),
    ],
)
def test_a_network_that_answers_the_same_windows_differently_is_refused(kind, cause, cure):
    with pytest.raises(ExportError, match=cause) as caught:
        require_steady(Unsteady(kind).eval(), SPEC)
    assert caught.value.exit_code == 1
    assert cure in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("seldom_dropout", "it draws at random (dropout"),
        ("stochastic_depth", "it draws at random (rand"),
        ("first_windows", "it keeps state from call to call (calls, shift changed)"),
    ],
)
def test_dice_that_seldom_show_and_what_the_first_windows_leave_behind_are_found(kind, cause):
    with pytest.raises(ExportError, match=re.escape(cause)):
        require_steady(Unsteady(kind).eval(), SPEC)


@pytest.mark.parametrize("network", [Unsteady("no_dropout"), Unsteady("own_seed"), Recurrent(True), Recurrent(False)])
def test_what_might_draw_and_does_not_is_steady(network):
    require_steady(network.eval(), SPEC)


def test_windows_read_as_time_are_named():
    assert "the first axis taken as time (batch_first=False) in rnn (LSTM)" in coupling(Recurrent(False).eval(), SPEC)
    assert coupling(Recurrent(True).eval(), SPEC) == ""


def test_a_network_that_writes_over_its_windows_is_given_its_own():
    graph, report, facts = export_with_report(None, exporter=f"{ODD}:overwriting")
    assert report.passed
    assert [quirk["name"] for quirk in facts["quirks"]] == ["own-input"]
    torch.manual_seed(0)
    network, x = Overwriting().eval(), np.random.default_rng(0).standard_normal((4, 3, 16)).astype("f4")
    with torch.inference_mode():
        expected = network(torch.from_numpy(x.copy())).numpy()
    assert np.allclose(OnnxruntimeRunner(graph).infer(x), expected, atol=1e-6)
    plain = torch.from_numpy(x)
    assert not writes_over_input(Plain().eval(), plain)
    assert writes_over_input(network, plain)
    assert np.array_equal(plain.numpy(), x)


def test_what_stands_in_the_way_of_copies_is_taken_away_or_named():
    network = Plain().eval()
    network.kernel = network.head.weight * 2
    require_copyable(network)
    assert torch.equal(network.kernel, network.head.weight * 2)
    require_steady(network, SPEC)
    network.lock = threading.Lock()
    with pytest.raises(ExportError, match="cannot be copied, and is asked in copies: cannot pickle"):
        require_copyable(network)


def test_an_export_is_refused_so():
    with pytest.raises(ExportError, match="the network answers the same windows differently"):
        odd("dropout")


def test_a_network_that_is_steady_passes():
    require_steady(Plain().eval(), SPEC)
    assert coupling(Plain().eval(), SPEC) == ""


@pytest.fixture(scope="module")
def coupled():
    graph, report, facts = odd("functional_batch_statistics")
    assert report.passed
    return graph, facts


def test_a_network_that_looks_at_its_batch_is_exported_and_marked(coupled, tmp_path):
    graph, facts = coupled
    assert "batch normalisation by the batch's own statistics in forward (Unsteady)" in facts["coupled"]
    again = Graph.load(graph.save(tmp_path / "g.onnx"))
    assert again.output_spec.coupled
    assert again.provenance.details["coupled"] == facts["coupled"]
    x = np.random.default_rng(0).standard_normal((4, 3, 16)).astype("f4")
    infer = OnnxruntimeRunner(graph).infer
    assert np.abs(infer(x)[:1] - infer(x[:1])).max() > 1e-2


def test_the_cause_is_named_by_part():
    assert "own (BatchNorm1d)" in coupling(Unsteady("batch_statistics").eval(), SPEC)
    assert "mean over the batch axis in forward" in coupling(Unsteady("centred").eval(), SPEC)


def test_a_coupled_graph_is_measured_at_a_batch_size_that_was_chosen(coupled):
    graph, _ = coupled
    data = windows(n_chans=3, n_times=16, unit="1")
    for refused in (lambda: evaluate(graph, data, name="c.onnx"), lambda: bench(graph, rounds=1)):
        with pytest.raises(InputError, match="depend on the batch") as caught:
            refused()
        assert "--batch" in caught.value.hint
    scores = [evaluate(graph, data, batch=size, resamples=0)["rmse"] for size in (8, 20)]
    assert "|batch:8|" in str(scores[0].signature)
    assert scores[0].signature.differences(scores[1].signature) == ("batch: 8 against 20",)
    fused, _, _ = fuse_with_report([graph], views="identity,scale:1.1")
    assert fused.output_spec.coupled


def test_a_coupled_graph_is_no_branch(coupled):
    graph, _ = coupled
    data = windows(n_chans=3, n_times=16, unit="1")
    unmarked = replace(graph, output_spec=replace(graph.output_spec, coupled=False), answers=None)
    for member in (graph, unmarked):
        with pytest.raises(InputError, match="the answers of member 1 depend on the batch") as caught:
            search([member], data, resamples=10)
        assert "leave it out" in caught.value.hint
    fused, _, _ = fuse_with_report([graph], views="identity,scale:1.1")
    with pytest.raises(InputError, match=r"the answers of 1 \(.*\) depend on the batch"):
        try_branches(fused, data, members=[graph], resamples=10)


def test_an_ill_conditioned_and_an_overflowing_network_are_told_and_exported():
    ill = export_with_report(None, exporter=f"{ODD}:ill")[1]
    assert (ill.passed, ill.verdict) == (True, "ill-conditioned")
    assert "float32 itself is off by" in ill.summary()
    huge = export_with_report(None, exporter=f"{ODD}:huge")[1]
    assert (huge.passed, huge.verdict) == (True, "ill-conditioned")
    assert "float32 itself overflows on white noise x 100" in huge.summary()


RANDOM = {
    "noise": "n = RandomNormalLike (x)  p = Add (x, n)",
    "dropout": "p, mask = Dropout (x, ratio, training)",
}
EXTRA = ", float ratio = {0.5}, bool training = {1}"
COUPLED = {
    "mean": "a = ReduceMean (x, batchwise)  p = Sub (x, a)",
    "softmax": "p = Softmax <axis = 0> (x)",
    "all axes": "a = ReduceMax (x)  p = Div (x, a)",
}


@pytest.mark.parametrize("kind", RANDOM)
def test_a_graph_that_draws_is_refused_by_fuse_evaluate_and_bench(kind):
    graph = parsed(RANDOM[kind], weights=EXTRA)
    for refused in (
        lambda: fuse_with_report([graph]),
        lambda: evaluate(graph, windows()),
        lambda: bench(graph, rounds=1),
    ):
        with pytest.raises(ParityError, match=r"answers the same windows differently: .* draws at random"):
            refused()


@pytest.mark.parametrize("kind", COUPLED)
def test_a_graph_that_looks_at_its_batch_is_found_by_fuse_and_evaluate(kind):
    graph = parsed(COUPLED[kind])
    assert "over the batch axis" in coupled_by(graph, OnnxruntimeRunner(graph).infer, answer_windows(graph.input_spec))
    assert fuse_with_report([graph])[0].output_spec.coupled
    with pytest.raises(InputError, match="depend on the batch"):
        evaluate(graph, windows())


@pytest.mark.parametrize(
    "body",
    [
        "p = Softmax <axis = 2> (x)",
        "p = Elu (x)",
        "a = ReduceMean (x, time)  p = Sub (x, a)",
        "a = ReduceMax <keepdims = 0> (x)  p = Min (x, a)",  # no number moves another, but a NaN spoils them all
    ],
)
def test_innocent_neighbours_are_not_coupled(body):
    graph = parsed(body)
    assert coupled_by(graph, OnnxruntimeRunner(graph).infer, answer_windows(graph.input_spec)) == ""
    assert not fuse_with_report([graph])[0].output_spec.coupled


POOLS = {
    "max": "p = MaxPool <kernel_shape = [4], strides = [4], pads = [2, 2], ceil_mode = 1> (x)",
    "mean": "p = AveragePool <kernel_shape = [3], strides = [2], pads = [1, 1], ceil_mode = 1, count_include_pad = 1> (x)",
    "mean of what is there": "p = AveragePool <kernel_shape = [4], strides = [4], pads = [2, 2], ceil_mode = 1> (x)",
}
WRAP = ", int64[6] pads = {0, 0, 3, 0, 0, 2}"


@pytest.mark.needs("openvino")
@pytest.mark.parametrize("n_times", [11, 12, 102])
@pytest.mark.parametrize("kind", [*POOLS, "wrap"])
def test_openvino_gives_the_numbers_of_forms_that_it_gets_wrong(kind, n_times):
    body = POOLS.get(kind, 'p = Pad <mode = "wrap"> (x, pads)')
    graph = parsed(body, n_times=n_times, weights=WRAP if kind == "wrap" else "")
    x = answer_windows(graph.input_spec)
    truth = PlanRunner(graph, double=True).infer(x)
    assert np.allclose(make_runner(graph, "openvino").infer(x), truth, atol=1e-6)
    fused, report, _ = fuse_with_report([graph], engine="openvino")
    assert report.laid_out.verdict == "equal"
    assert lower(fused.clone_model())[1] == 0  # the file itself holds the form that OpenVINO computes


def transposed(attributes, size):
    text = f"""{HEAD}net (float[batch, 2, 11] x) => (float[batch, {size}] y) <float[2, 1, 3] w = {{1, -2, 3, 0.5, 0, 1}},
    int64[1] axis = {{1}}> {{ p = ConvTranspose <strides = [2], {attributes}> (x, w)  y = Squeeze (p, axis) }}"""
    return Graph.from_bytes(onnx.parser.parse_model(text).SerializeToString())


@pytest.mark.needs("openvino")
@pytest.mark.parametrize(
    ("attributes", "size"),
    [('auto_pad = "SAME_LOWER", output_shape = [22]', 22), ("output_shape = [24]", 24), ("output_shape = [21]", 21),
     ('auto_pad = "SAME_UPPER"', 22), ('auto_pad = "SAME_LOWER"', 22)],
)  # fmt: skip
def test_openvino_gives_the_numbers_of_a_transposed_convolution(attributes, size):
    graph = transposed(attributes, size)
    x = answer_windows(graph.input_spec)
    assert np.allclose(make_runner(graph, "openvino").infer(x), OnnxruntimeRunner(graph).infer(x), atol=1e-5)


def spectrum(attributes, bins, parts, length=""):
    text = f"""{HEAD}net (float[batch, 2, 11] x) => (float[batch, {2 * bins * parts}] y)
    <int64[1] last = {{3}}, int64 axis = {{2}}, int64 n = {{16}}, int64[2] flat = {{0, -1}}>
    {{ u = Unsqueeze (x, last)  p = DFT <{attributes}> (u, {length}, axis)  y = Reshape (p, flat) }}"""
    return Graph.from_bytes(onnx.parser.parse_model(text).SerializeToString())


@pytest.mark.needs("openvino")
@pytest.mark.parametrize(
    ("attributes", "bins", "length"), [("onesided = 1", 6, ""), ("inverse = 1", 11, ""), ("onesided = 1", 9, "n")]
)
def test_openvino_gives_the_numbers_of_a_fourier_transform(attributes, bins, length):
    graph = spectrum(attributes, bins, 2, length)
    x = answer_windows(graph.input_spec)
    assert np.allclose(make_runner(graph, "openvino").infer(x), OnnxruntimeRunner(graph).infer(x), atol=2e-5)


def recurrences(kinds, *, apart):
    """Two recurrences on one signal, or on two that are computed alike."""
    rng, nodes, constants = np.random.default_rng(0), [], [numpy_helper.from_array(np.array([1]), "one")]
    for k, (kind, direction) in enumerate(kinds):
        if apart or k == 0:
            nodes.append(helper.make_node("Transpose", ["x"], [f"t{k}"], perm=[2, 0, 1]))
        rows = {"GRU": 9, "LSTM": 12, "RNN": 3}[kind]
        constants += [numpy_helper.from_array((0.5 * rng.standard_normal((1, rows, width))).astype("f4"), f"{name}{k}")
                      for name, width in (("w", 4), ("r", 3))]  # fmt: skip
        read = [f"t{k if apart else 0}", f"w{k}", f"r{k}"]
        nodes.append(helper.make_node(kind, read, [f"h{k}"], hidden_size=3, direction=direction))
        nodes.append(helper.make_node("Squeeze", [f"h{k}", "one"], [f"s{k}"]))
    constants += [numpy_helper.from_array(np.array([0]), "zero")]
    nodes.append(helper.make_node("Concat", [f"s{k}" for k in range(len(kinds))], ["c"], axis=2))
    nodes.append(helper.make_node("ReduceMean", ["c", "zero"], ["y"], keepdims=0))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3 * len(kinds)])
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], constants),
                              opset_imports=[helper.make_opsetid("", 20)], ir_version=9)  # fmt: skip
    return Graph.from_bytes(model.SerializeToString())


@pytest.mark.needs("openvino")
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    "kinds",
    [(("GRU", "forward"), ("GRU", "forward")), (("LSTM", "forward"), ("LSTM", "reverse")),
     (("RNN", "reverse"), ("GRU", "forward"), ("LSTM", "forward"))],
)  # fmt: skip
def test_openvino_gives_the_numbers_of_recurrences_on_one_signal(kinds, apart):
    graph = recurrences(kinds, apart=apart)
    again, changed = lower(graph.model)
    assert changed == len(kinds)
    assert lower(again)[1] == 0
    runner = make_runner(graph, "openvino")
    for batch in (1, 2, 5):
        x = np.random.default_rng(batch).standard_normal((batch, 4, 16)).astype("f4")
        truth = OnnxruntimeRunner(graph).infer(x)
        assert np.allclose(runner.infer(x), truth, atol=1e-5)


@pytest.mark.needs("openvino")
def test_what_openvino_cannot_compile_is_an_error_of_ours():
    graph = recurrences((("LSTM", "forward"),), apart=False)
    next(node for node in graph.model.graph if node.op_type == "LSTM").attributes["activations"] = ir.AttrStrings(
        "activations", ["HardSigmoid", "Tanh", "Tanh"]
    )
    with pytest.raises(ExportError, match="OpenVINO cannot load the graph"):
        make_runner(graph, "openvino")


@pytest.mark.needs("openvino")
def test_one_recurrence_alone_is_left_as_it_is():
    assert lower(recurrences((("GRU", "forward"),), apart=False).model)[1] == 0


@pytest.mark.needs("openvino")
def test_what_openvino_cannot_compute_is_refused_by_name():
    body = 'p = Resize <mode = "linear", antialias = 1, axes = [2]> (x, , , size)'
    graph = parsed(body, weights=", int64[1] size = {5}")
    with pytest.raises(ExportError, match=r"OpenVINO does not compute Resize .* with antialias"):
        fuse_with_report([graph], engine="openvino")


def test_a_graph_laid_out_for_torch_is_compared_in_the_executor():
    _, report, _ = fuse_with_report([parsed("p = Elu (x)")], engine="torch")
    assert "the torch executor on the fused graph against the plan in float64: equal" in report.laid_out.summary()


def test_reference_answers_travel_and_catch_an_engine_that_gives_other_numbers(tmp_path, monkeypatch):
    fused, _, _ = fuse_with_report([parsed("p = Elu (x)")])
    again = Graph.load(fused.save(tmp_path / "f.onnx"))
    assert again.answers == fused.answers is not None
    assert again.digest == fused.digest
    infer = OnnxruntimeRunner(again).infer
    stated = replace(again, input_spec=replace(again.input_spec, unit="uV"))  # as `rtserve annotate` writes it
    assert require_engine(stated, infer, engine="onnxruntime", name="f.onnx") == ""
    assert require_engine(again, infer, engine="onnxruntime", name="f.onnx") == ""
    with pytest.raises(ParityError, match=r"OpenVINO does not give the numbers of f.onnx: off by"):
        require_engine(again, lambda x: infer(x) * 1.25, engine="OpenVINO", name="f.onnx")
    monkeypatch.setattr(vetting, "_VETTED", {})
    monkeypatch.setattr(OnnxruntimeRunner, "infer", lambda self, x: infer(x) * 1.25)
    with pytest.raises(ParityError, match="onnxruntime does not give the numbers"):
        evaluate(again, windows())


def test_reference_windows_are_the_same_bits_everywhere():
    x = answer_windows(InputSpec(n_chans=2, n_times=3, unit="V"))
    assert (x.dtype, x.shape) == (np.float32, (3, 2, 3))
    assert (x[2] * 2.0**23).astype("i8").ravel().tolist() == (x[2].astype("f8") * 2.0**23).ravel().tolist()
    assert np.abs(x[:2]).max() < 2e-5 < np.abs(x[2]).max() <= 1


def test_answers_are_read_back_and_damage_is_told():
    spec = InputSpec(n_chans=2, n_times=3, unit="uV")
    answers = Answers.of(np.arange(300.0).reshape(3, 100) / 7, 1e-7, spec)
    assert Answers.from_json(answers.to_json()) == answers
    assert (len(answers.outputs), answers.size) == (64, 16.0)
    assert Answers.from_json(json.dumps(json.loads(answers.to_json()) | {"schema": 9})) is None
    with pytest.raises(InputError, match="reference answers"):
        Answers.from_json(answers.to_json().replace("values", "valves"))
    assert Answers.of(np.array([[np.nan]]), 0.0, spec) is None


def test_a_spec_says_that_it_is_coupled_and_an_old_one_keeps_its_bytes():
    assert OutputSpec.from_json(OutputSpec(coupled=True).to_json()).coupled
    assert "coupled" not in OutputSpec().to_json()
