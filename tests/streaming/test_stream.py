"""The step graph: its answers are the windows', and it remembers nothing that is over."""

import dataclasses

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.errors import InputError, ParityError
from rtserve.fusion.fuse import fuse
from rtserve.graphs.emit import Emitter
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.spec import OutputSpec
from rtserve.streaming import build
from rtserve.streaming.build import stream
from rtserve.streaming.check import answers_of, check_step, windows_of
from rtserve.streaming.runner import StepRunner
from rtserve.streaming.step_graph import NEXT, StepGraph
from tests.fusion.random_graphs import network, off
from tests.streaming.making import SPEC, deep, graph_of, made, normed, shallow

CASES = [("shallow", 6), ("shallow", 4), ("deep", 4), ("deep", 3)]


def recording(hops, hop, streams=2, seed=0):
    return np.random.default_rng(seed).standard_normal((streams, 3, hops * hop)).astype("f4")


def window_answers(graph, step, x):
    """Answers (windows, streams, outputs) of the window's graph, computed one window at a time by numpy's slices."""
    infer, n = OnnxruntimeRunner(graph).infer, x.shape[2] // step.hop - step.first_answer + 1
    return np.stack([infer(windows_of(step, one, range(n))) for one in x], 1)


@pytest.mark.parametrize(("kind", "hop"), CASES)
def test_every_answer_is_the_window_s(kind, hop):
    graph, step, report = made(kind, hop)
    x = recording(step.first_answer * 2 + 5, hop)
    assert off(answers_of(step, x).astype("f8"), window_answers(graph, step, x).astype("f8")) < 1e-5
    assert report.macs_step < report.macs_window
    assert report.parity.passed


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(1, 13))
def test_random_networks_are_streamed_exactly(seed, hop):
    graph, _ = network(4, 40, 2, seed, seed + 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_shares", lambda plan, window: True)  # what shares little must be right as well
        patch.setattr(build, "check_step", lambda step, graph, seed: None)  # what follows says it without our own rule
        step, _ = stream(graph, hop=hop)
    x = np.random.default_rng(seed).standard_normal((2, 4, (step.first_answer + 4) * hop)).astype("f4")
    found, wanted = answers_of(step, x).astype("f8"), window_answers(graph, step, x).astype("f8")
    assert off(found, wanted) < 2e-4


@pytest.mark.parametrize(("kind", "hop"), [("shallow", 6), ("deep", 3)])
def test_after_ten_thousand_hops_the_answer_is_that_of_a_fresh_stream(kind, hop):
    _, step, _ = made(kind, hop)
    x = np.tile(recording(100, hop, streams=1), 100)
    x[0, 1, 5000:5100] = np.nan
    x[0, 0], x[0, 2, -2000:-1900] = 0.0, 1e4
    long = answers_of(step, x)
    fresh = answers_of(step, x[:, :, -step.first_answer * hop :])
    assert len(long) == 10_000 - step.first_answer + 1
    assert np.array_equal(long[-1], fresh[-1])


@pytest.mark.parametrize(("kind", "hop"), CASES)
def test_nan_is_gone_after_exactly_a_window(kind, hop):
    _, step, _ = made(kind, hop)
    x = recording(step.first_answer * 3, hop, streams=1)
    at = step.first_answer * hop + 1
    x[0, 1, at] = np.nan
    answers = answers_of(step, x)
    ends = (step.first_answer + np.arange(len(answers))) * hop
    holds = (ends - SPEC.n_times <= at) & (at < ends)
    assert holds.any()
    assert not np.isfinite(answers[holds]).any()
    assert np.isfinite(answers[~holds]).all()


def test_streams_side_by_side_are_as_they_are_alone():
    _, step, _ = made("deep", 4)
    x = recording(30, 4, streams=3)
    together = answers_of(step, x)
    for k in range(3):
        assert np.allclose(together[:, k], answers_of(step, x[k : k + 1])[:, 0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "hop"), [("shallow", 6), ("deep", 3), ("by_channel", 4)])
def test_streams_may_change_places_with_their_states(kind, hop):
    _, step, _ = made(kind, hop)
    x, turned = recording(step.first_answer + 4, hop, streams=3), [2, 0, 1]
    runner = StepRunner(step, batch=3)
    for k in range(0, x.shape[2], hop):
        if k == x.shape[2] // 2 // hop * hop:
            x = x[turned]
            for name, shape in step.states:
                runner._state[name] = np.take(runner._state[name], turned, axis=shape.index("batch"))
        y = runner.push(np.ascontiguousarray(x[:, :, k : k + hop]))
    assert off(y.astype("f8"), answers_of(step, x)[-1].astype("f8")) < 1e-6


def test_states_are_named_fixed_and_in_the_order_of_the_outputs():
    _, step, _ = made("shallow", 6)
    names = [value.name for value in step.model.graph.inputs]
    assert names[0] == "x"
    assert all(name.startswith("state.") for name in names[1:])
    assert [v.name for v in step.model.graph.outputs] == ["y", *(f"{name}.next" for name in names[1:])]
    assert all(shape.count("batch") == 1 for _, shape in step.states)


def test_a_plain_step_and_one_laid_out_answer_alike_and_are_called_alike():
    graph, step, _ = made("deep", 4)
    plain, _ = stream(graph, hop=4, engine="native")
    x = recording(20, 4)
    assert off(answers_of(plain, x).astype("f8"), answers_of(step, x).astype("f8")) < 1e-5
    for one, other in (
        (plain.model.graph.inputs, step.model.graph.inputs),
        (plain.model.graph.outputs, step.model.graph.outputs),
    ):
        assert [(v.name, v.shape) for v in one] == [(v.name, v.shape) for v in other]


def test_a_layout_that_changes_the_answers_is_taken_back(monkeypatch):
    graph, _, _ = made("deep", 4)
    laid_out = build._laid_out

    def wrong(step, engine):
        model = laid_out(step, engine).model.clone()
        emit, y = Emitter(model.graph), model.graph.outputs[0]
        y.name = "before"
        off_by = emit("Mul", y, np.float32(1.01), name="y")
        off_by.name, off_by.shape = "y", y.shape
        model.graph.outputs[0] = off_by
        return dataclasses.replace(step, model=model)

    monkeypatch.setattr(build, "_laid_out", wrong)
    step, report = stream(graph, hop=4)
    assert report.parity.passed
    assert step.digest == stream(graph, hop=4, engine="native")[0].digest


def test_a_runner_has_no_answer_before_a_whole_window_and_after_a_reset():
    _, step, _ = made("shallow", 6)
    runner, x = StepRunner(step), recording(20, 6, streams=1)
    first = [runner.push(x[:, :, k * 6 : k * 6 + 6]) for k in range(20)]
    assert [y is None for y in first] == [True] * 7 + [False] * 13
    runner.reset()
    again = [runner.push(x[:, :, k * 6 : k * 6 + 6]) for k in range(20)]
    assert all(np.array_equal(a, b) for a, b in zip(first[7:], again[7:], strict=True))
    with pytest.raises(InputError, match="samples came for a step"):
        runner.push(x[:, :, :5])
    assert runner.steps == 20


def test_members_and_views_are_streamed():
    graph = fuse([graph_of(shallow), graph_of(deep)], views="identity,roll:+3,scale:0.9", force=True)
    step, report = stream(graph, hop=6)
    x = recording(20, 6)
    assert off(answers_of(step, x).astype("f8"), window_answers(graph, step, x).astype("f8")) < 1e-5
    assert report.macs_step < report.macs_window


@pytest.mark.parametrize("hop", [0, -3, 48, 100])
def test_a_hop_that_shares_no_sample_is_refused(hop):
    with pytest.raises(InputError, match="share no sample"):
        stream(graph_of(shallow), hop=hop)


def test_what_shares_nothing_is_refused_with_the_reason():
    with pytest.raises(InputError, match=r"share nothing.*ReduceMean.*sums over time"):
        stream(graph_of(normed), hop=6)


def test_a_graph_that_mixes_its_batch_is_refused():
    graph = graph_of(shallow)
    coupled = dataclasses.replace(graph, output_spec=OutputSpec(n_outputs=2, target="score", coupled=True))
    with pytest.raises(InputError, match="depends on the others in its batch"):
        stream(coupled, hop=6)


def test_a_wrong_step_does_not_pass():
    _, step, _ = made("shallow", 6)
    other = graph_of(lambda emit, x, rng: shallow(emit, emit("Mul", x, np.float32(1.001)), rng))
    with pytest.raises(ParityError, match="NOT EQUAL"):
        check_step(step, other)


def test_a_step_that_remembers_does_not_pass():
    graph, step, _ = made("shallow", 6)
    remembering = dataclasses.replace(step, model=with_memory(step.model.clone()))
    with pytest.raises(ParityError, match="remembers what is over"):
        check_step(remembering, graph)


def test_a_step_that_keeps_nan_does_not_pass():
    graph, step, _ = made("shallow", 6)
    remembering = dataclasses.replace(step, model=with_memory(step.model.clone(), drops_nan=False))
    with pytest.raises(ParityError, match="NaN is still in answer"):
        check_step(remembering, graph)


def with_memory(model, *, drops_nan=True):
    """A step whose answers drift by less than parity sees: a millionth of the sum of all samples so far."""
    import onnx_ir as ir

    emit, y = Emitter(model.graph), model.graph.outputs[0]
    total = ir.Value(name="state.sum", shape=ir.Shape(["batch", 1]), type=ir.TensorType(ir.DataType.FLOAT))
    model.graph.inputs.append(total)
    x = model.graph.inputs[0]
    x = emit("Where", emit("IsNaN", x), np.float32(0), x) if drops_nan else x
    after = emit("Add", total, emit("ReduceMean", emit("ReduceMean", x, [2], keepdims=0), [1]))
    after.name, after.shape = "state.sum.next", ir.Shape(["batch", 1])
    off_by = emit("Add", y, emit("Mul", after, np.float32(1e-6)))
    y.name, off_by.name, off_by.shape = "before", "y", ir.Shape(["batch", 2])
    model.graph.outputs[0] = off_by
    model.graph.outputs.append(after)
    return model


def test_a_step_goes_to_a_file_and_back(tmp_path):
    _, step, _ = made("deep", 4)
    path = step.save(tmp_path / "S.onnx")
    back = StepGraph.load(path)
    assert (back.hop, back.digest, back.first_answer) == (4, step.digest, 12)
    x = recording(15, 4)
    assert np.array_equal(answers_of(back, x), answers_of(step, x))
    with pytest.raises(InputError, match="is the step of a stream"):
        Graph.load(path)
    graph_path = graph_of(deep).save(tmp_path / "F.onnx")
    with pytest.raises(InputError, match="no step graph"):
        StepGraph.load(graph_path)


def test_the_same_graph_gives_the_same_step():
    graph, step, _ = made("deep", 4)
    assert stream(graph, hop=4)[0].digest == step.digest


def test_states_and_what_they_become_stand_in_the_same_order(tmp_path):
    step = made("deep", 4)[1]
    pairs = zip(step.model.graph.inputs[1:], step.model.graph.outputs[1:], strict=True)
    assert len(step.states) > 1
    assert all((b.name, list(b.shape)) == (f"{a.name}{NEXT}", list(a.shape)) for a, b in pairs)
    path = step.save(tmp_path / "S.onnx")
    proto = onnx.load(path)
    swapped = [proto.graph.output[k] for k in (0, 2, 1, *range(3, len(proto.graph.output)))]
    swapped = [type(value).FromString(value.SerializeToString()) for value in swapped]
    del proto.graph.output[:]
    proto.graph.output.extend(swapped)
    onnx.save(proto, path)
    with pytest.raises(InputError, match="in its place among the outputs state"):
        StepGraph.load(path)


def test_a_step_of_more_products_than_the_fused_window_is_refused(monkeypatch):
    monkeypatch.setattr(build, "_window_macs", lambda graph, engine: 10)
    with pytest.raises(InputError, match=r"a step does [\d,]+ multiply-adds, the window's fused graph 10"):
        stream(graph_of(shallow), hop=6)
