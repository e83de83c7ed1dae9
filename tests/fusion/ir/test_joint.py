"""What assembly hands over of the views is what the graph computes, behind every pass in front of those that read it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from rtserve.fusion.fuse import fuse
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.ir.joint import ends_of, joints, sources
from rtserve.fusion.ir.passes import Pass, PassResult
from rtserve.fusion.lower.onnxruntime import paired
from rtserve.fusion.plan import make_plan
from rtserve.fusion.program import build
from rtserve.fusion.program.build import assemble
from rtserve.fusion.run.order import PASSES
from rtserve.fusion.run.running import run_passes
from rtserve.graphs.double import double_model
from rtserve.spec import InputSpec
from tests.fusion.networks import N_CHANS, N_TIMES, head, network

C = 16
SPEC = InputSpec(n_chans=N_CHANS, n_times=N_TIMES, sfreq=100.0)
VIEWS = ("identity", "roll:+3", "roll:-5", "crop-shift:+4", "scale:1.5", "sign-flip", "time-reverse", "drop:1+4")
BEHIND = [one for one in PASSES if one.name in ("layout", "channel-step", "paired")]
"""They may move sources."""


@pytest.fixture(autouse=True, scope="module")
def _shared():
    """Let views share their first stage, however small the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "pays", lambda stage, views: True)
        yield


def assembled(names, *, taps=7, stride=2, pads=(3, 3), activation="Relu", seed=0):
    """Return a network and the views of it as they are assembled."""

    def body(emit, x, weights):
        h = emit("Conv", x, weights(C, N_CHANS, taps), weights(C), strides=[stride], pads=list(pads))
        h = emit(activation, h) if activation else h
        y = emit("Relu", emit("Conv", h, weights(8, C, 3), weights(8), pads=[1, 1]))
        return head(emit, y, weights, 8, axes=(2,))

    graph = network(body, seed=seed)
    plan = make_plan(["a"], names, "mean", None)
    plan = replace(plan, views=tuple(view.bind(SPEC) for view in plan.views))
    return graph, clean(assemble({"a": clean(graph.clone_model())}, plan, n_outputs=1)[0])


def value_of(model, value, x):
    """Return what a value of a model is for some windows."""
    model = model.clone()
    kept = next(out for node in model.graph for out in node.outputs if out.name == value.name)
    model.graph.outputs[:] = [kept]
    proto = ir.serde.serialize_model(clean(model))
    return ReferenceEvaluator(double_model(proto)).run(None, {"x": x.astype(np.float64)})[0]


def require_true(model):
    """Require every joined view to be, sample by sample, what its places say."""
    x = np.random.default_rng(1).standard_normal((1, N_CHANS, N_TIMES)).astype(np.float32)
    now = sources(model)
    for node, joint in joints(model):
        got = value_of(model, node.outputs[0], x)
        got = got.reshape(*got.shape[:2], -1)
        made = np.concatenate([rows(model, source, *now[source.name], x) for source in joint.sources])
        np.testing.assert_allclose(got, made[joint.index].transpose(0, 2, 1), rtol=1e-9, atol=1e-9)
    return len(joints(model))


def rows(model, source, value, first, x):
    """Return a source's samples, (samples, channels)."""
    y = value_of(model, value, x)
    y = y if source.flat else y.reshape(y.shape[1], -1).T
    return y[first : first + source.samples]


@settings(max_examples=12, deadline=None)
@given(
    names=st.lists(st.sampled_from(VIEWS), min_size=2, max_size=5, unique=True),
    taps=st.integers(1, 8),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    activation=st.sampled_from(["Relu", ""]),
)
def test_every_sample_of_every_view_is_where_assembly_says(names, taps, stride, pads, activation):
    graph, model = assembled(names, taps=taps, stride=stride, pads=pads, activation=activation)
    assert require_true(model) >= 1
    assert {apart.group for _, apart in ends_of(model, 0)} == {0}


def test_sources_that_are_one_computation_are_one_value():
    """One tap has no direction: the convolution of the window read backwards is that of the window."""
    graph, model = assembled(("time-reverse", "identity", "roll:+3"), taps=1, stride=1, pads=(0, 0))
    assert require_true(model) == 1
    ((_, joint),) = joints(model)
    assert len(joint.sources) > len({sources(model)[source.name][0] for source in joint.sources})


@pytest.mark.parametrize("activation", ["Relu", ""])
def test_passes_that_move_sources_say_where_they_are_now(monkeypatch, activation):
    monkeypatch.setattr(paired, "_pays", lambda first, second: True)
    graph, model = assembled(("identity", "roll:+3", "roll:+4", "scale:1.5"), activation=activation)
    model, outcomes = run_passes(model, BEHIND, subject="whole")
    assert {o.name for o in outcomes if o.status == "applied"} >= {"layout", "paired"}
    assert require_true(model) == 1 + (not activation)
    assert any(first for _, first in sources(model).values())


def test_a_fused_graph_keeps_nothing_of_what_was_handed_over():
    graph, _ = assembled(VIEWS[:4])
    fused = fuse([graph], views=VIEWS[:4], parity=False)
    assert not any(value.meta for node in fused.model.graph for value in node.outputs)


def test_what_is_undone_leaves_the_hand_over_as_it_was():
    graph, model = assembled(VIEWS[:4])

    def forget(trial):
        for node in trial.graph:
            for value in node.outputs:
                value.meta.clear()
        return PassResult(changed=1)

    one = Pass(name="forgets", run=forget, why="a check undoes it")
    for verdict, kept in (("wrong", 1), ("", 0)):
        after, _ = run_passes(model, [one], subject="whole", check=lambda trial, verdict=verdict: verdict)
        assert len(joints(after)) == kept
    assert require_true(model) == 1
