"""Views put together by one Gather: the plan's numbers for any views and merges, fewer nodes, and left alone elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.lower import apart
from rtserve.fusion.lower.onnxruntime import height
from rtserve.fusion.lower.torch import gathered as rows
from rtserve.fusion.program import stage
from tests.fusion.networks import N_CHANS, N_TIMES, fused_with, head, kinds, network

C = 16
VIEWS = "identity,roll:+3,roll:-3,scale:1.02,scale:0.98"


@pytest.fixture(autouse=True, scope="module")
def _gathered():
    """Leave the views to this pass: `height` comes first and takes those with whole copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(height, "_pays", lambda plan: False)
        yield


def net(*, channels=C, taps=7, stride=2, pads=(3, 3), activation="Relu", twice=False, n_outputs=1):
    def body(emit, x, weights):
        kernel, offset = weights(channels, N_CHANS, taps), weights(channels)
        h = emit("Conv", x, kernel, offset, strides=[stride], pads=list(pads))
        h = emit(activation, h) if activation else h
        y = emit("Conv", h, weights(8, channels, 3), weights(8), pads=[1, 1])
        if twice:
            y = emit("Add", y, emit("Conv", h, weights(8, channels, 1)))
        if n_outputs == 1:
            return head(emit, emit("Relu", y), weights, 8, axes=(2,))
        pooled = emit("ReduceMean", emit("Relu", y), [2], keepdims=0)
        return emit("Gemm", pooled, weights(n_outputs, 8), weights(n_outputs), transB=1)

    return body


def fused(body, views=VIEWS, **options):
    return fused_with("views", body, views, **options)


moving = st.one_of(
    st.integers(-45, 45).filter(bool).map(lambda k: f"roll:{k:+d}"),
    st.integers(-30, 30).filter(bool).map(lambda k: f"crop-shift:{k:+d}"),
)
others = st.sampled_from(["identity", "sign-flip", "time-reverse", "scale:0.5", "scale:-1.5", "drop:1+4"])


@settings(max_examples=15, deadline=None)
@given(
    names=st.lists(st.one_of(moving, others), min_size=1, max_size=5, unique=True),
    taps=st.integers(2, 8),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    activation=st.sampled_from(["Relu", "Elu", "Tanh", ""]),
    seed=st.integers(0, 3),
)
def test_any_views(names, taps, stride, pads, activation, seed):
    body = net(taps=taps, stride=stride, pads=pads, activation=activation)
    graph, report, parity = fuse_with_report([network(body, seed=seed)], views=names, force=True)
    assert parity.passed
    outcome = next(o for o in report.outcomes if o.name == "views")
    assert outcome.status in ("applied", "refused", "nothing"), outcome.reason


def test_every_further_roll_costs_no_node():
    few, first = fused(net(), "identity,roll:+3")
    many, second = fused(net(), "identity,roll:+3,roll:-3,roll:+5,roll:+7,roll:-9")
    assert (first.status, second.status) == ("applied", "applied")
    assert len(kinds(many)) == len(kinds(few))
    gathers = [node for node in many.model.graph if node.op_type == "Gather"]
    assert [6, N_TIMES // 2] in [list(node.inputs[1].shape) for node in gathers]


@pytest.mark.parametrize(
    "activation", ["Selu", "HardSwish", "Mish", "Softsign", "HardSigmoid", "Celu", "ThresholdedRelu"]
)
def test_what_acts_on_every_sample_by_itself_keeps_views_together(activation):
    graph, outcome = fused(net(activation=activation))
    assert outcome.status == "applied", outcome.reason
    assert kinds(graph).count(activation) == 1


def seam_windows(graph):
    """Return the seam windows as they are gathered, (windows, taps)."""
    picked = [n for n in graph.model.graph if n.op_type == "Gather" and n.inputs[1].const_value.numpy().ndim == 1]
    return next(n.inputs[1].const_value.numpy().reshape(-1, 7) for n in picked if n.inputs[1].shape[0] % 7 == 0)


@pytest.mark.parametrize(("node_us", "once"), [(0.0, True), (1e9, False)])
def test_a_window_that_several_rolls_read_is_computed_once_where_that_pays(monkeypatch, node_us, once):
    monkeypatch.setattr(stage, "COSTS", replace(stage.COSTS, node_us=node_us))
    monkeypatch.setattr(rows, "SEAMS_US", -1e9)  # torch's layout keeps the seams then
    for engine in ("onnxruntime", "torch"):
        graph, _, parity = fuse_with_report([network(net())], views="identity,roll:+5,roll:+7,roll:+9", engine=engine)
        assert parity.passed
        windows = seam_windows(graph)
        assert (len(np.unique(windows, axis=0)) == len(windows)) == once


def test_the_mean_over_views_is_part_of_the_dense_layer():
    graph, _ = fused(net(), members=3)
    assert "ReduceMean" not in kinds(graph)
    last = next(node for node in reversed(list(graph.model.graph)) if node.op_type == "Gemm")
    assert list(last.inputs[1].shape) == [5 * 3 * 5, 1]


def test_a_mean_that_would_cost_more_in_the_dense_layer_stays(monkeypatch):
    monkeypatch.setattr(apart, "MOST_WEIGHTS", 24)
    graph, outcome = fused(net())
    assert outcome.status == "applied"
    assert "ReduceMean" in kinds(graph)


@pytest.mark.parametrize("merge", ["median", "trimmed:0.2"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_merges_that_need_every_branch(merge, n_outputs):
    _, outcome = fused(net(n_outputs=n_outputs), members=2, merge=merge, n_outputs=n_outputs)
    assert outcome.status == "applied"


@pytest.mark.parametrize("weights", [[0.4, 0.1, 0.1, 0.2, 0.2], [0.5, -0.1, 0.2, 0.3, 0.3]])
def test_weighted_views(tmp_path, weights):
    path = tmp_path / "w.json"
    path.write_text(repr(weights))
    graph, outcome = fused(net(), merge=f"weighted:{path}")
    assert outcome.status == "applied"
    assert "ReduceSum" not in kinds(graph)


def test_weights_that_are_no_product_of_members_and_views(tmp_path):
    path = tmp_path / "w.json"
    path.write_text("[0.5, 0.1, 0.1, 0.3]")
    _, outcome = fused(net(), "identity,roll:+3", members=2, merge=f"weighted:{path}")
    assert outcome.status == "applied"


@pytest.mark.parametrize(
    ("body", "views", "why"),
    [
        (net(channels=12), VIEWS, "whole blocks"),
        (net(twice=True), VIEWS, "one convolution"),
        (net(), "identity,scale:1.1", "out of pieces"),
    ],
    ids=["channels", "two readers", "nothing moved"],
)
def test_others_are_left_alone(body, views, why):
    _, outcome = fused(body, views)
    assert outcome.status == "refused"
    assert why in outcome.reason


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_other_engines_get_no_such_step(engine):
    _, report, _ = fuse_with_report([network(net())], views=VIEWS, engine=engine)
    assert "views" not in {o.name for o in report.outcomes}


def behind(between):
    """A network whose views are shared, with `between` on (batch, 8, 20) before they are put apart."""

    def body(emit, x, weights):
        h = emit("Relu", emit("Conv", x, weights(C, N_CHANS, 7), weights(C), strides=[2], pads=[3, 3]))
        y = emit("Conv", h, weights(8, C, 3), weights(8), pads=[1, 1])
        return head(emit, between(emit, y, weights), weights, 8, axes=(2,))

    return body


KEPT = {
    "elementwise": lambda emit, v, w: emit("Mul", emit("Add", v, w(1, 8, 1)), np.float32(2.0)),
    "two of them": lambda emit, v, w: emit("Sub", v, emit("Relu", v)),
    "rows reshaped": lambda emit, v, w: emit("Reshape", emit("Tanh", emit("Reshape", v, [-1, 20, 8])), [-1, 8, 20]),
    "a product": lambda emit, v, w: emit("MatMul", v, w(20, 20)),
    "attention": lambda emit, v, w: emit(
        "MatMul", emit("Softmax", emit("MatMul", v, emit("Transpose", v, perm=[0, 2, 1])), axis=-1), v
    ),
    "cut and joined": lambda emit, v, w: emit("Concat", emit.slice(v, 2, 9, None), emit.slice(v, 2, 0, 9), axis=2),
    "picked": lambda emit, v, w: emit("Gather", v, np.arange(20)[::-1].copy(), axis=2),
    "summed along time": lambda emit, v, w: emit("CumSum", v, np.array(2)),
}
CROSSED = {
    "softmax over the batch": lambda emit, v, w: emit("Softmax", v, axis=0),
    "mean over the batch": lambda emit, v, w: emit("Sub", v, emit("ReduceMean", v, [0], keepdims=1)),
    "first window picked": lambda emit, v, w: emit("Sub", v, emit.slice(v, 0, 0, 1)),
    "joined on the batch": lambda emit, v, w: emit.slice(emit("Concat", v, v, axis=0), 0, 0, None, 2),
    "summed along the batch": lambda emit, v, w: emit("CumSum", v, np.array(0)),
}


@pytest.mark.parametrize("between", KEPT.values(), ids=KEPT)
def test_views_are_gathered_in_front_of_whatever_keeps_windows_apart(between):
    _, outcome = fused(behind(between), "identity,roll:+3,roll:-3")
    assert outcome.status == "applied", outcome.reason


@pytest.mark.parametrize("between", CROSSED.values(), ids=CROSSED)
def test_no_view_is_gathered_where_a_network_looks_across_windows(between):
    _, report, parity = fuse_with_report([network(behind(between))], views="identity,roll:+3,roll:-3")
    assert parity.passed
    assert "views" not in {o.name for o in report.outcomes if o.status == "applied"}
