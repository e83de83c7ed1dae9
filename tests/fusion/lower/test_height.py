"""Views one above the other: the plan's numbers for any views, layers and merges, and left alone elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.lower.onnxruntime import height
from tests.fusion.networks import N_CHANS, N_TIMES, fused_with, head, kinds, network

C = 16
VIEWS = "identity,roll:+3,roll:-3,scale:1.02,scale:0.98"


def net(*, taps=7, stride=2, activation="Relu", behind=lambda emit, h, w: h, twice=False, n_outputs=1):
    """A first stage, a second layer, what `behind` adds, and a head."""

    def body(emit, x, weights):
        pads = [taps // 2, (taps - 1) // 2]
        h = emit("Conv", x, weights(C, N_CHANS, taps), weights(C), strides=[stride], pads=pads)
        h = emit(activation, h) if activation else h
        y = emit("Relu", emit("Conv", h, weights(8, C, 3), weights(8), pads=[1, 1]))
        if twice:
            y = emit("Add", y, emit("Conv", h, weights(8, C, 1)))
        y = behind(emit, y, weights)
        if n_outputs == 1:
            return head(emit, y, weights, 8, axes=(2,))
        pooled = emit("ReduceMean", y, [2], keepdims=0)
        return emit("Gemm", pooled, weights(n_outputs, 8), weights(n_outputs), transB=1)

    return body


def fused(body, views=VIEWS, **options):
    return fused_with("views", body, views, **options)


@pytest.fixture
def always(monkeypatch):
    """Rewrite wherever it can be done: the networks here are too small to gain."""
    monkeypatch.setattr(height, "_pays", lambda plan: bool(plan.whole))


moving = st.one_of(
    st.integers(-45, 45).filter(bool).map(lambda k: f"roll:{k:+d}"),
    st.integers(-30, 30).filter(bool).map(lambda k: f"crop-shift:{k:+d}"),
)
whole = st.sampled_from(["identity", "sign-flip", "scale:0.5", "scale:-1.5", "scale:1.02"])
others = st.sampled_from(["time-reverse", "drop:1+4"])


@settings(max_examples=12, deadline=None)
@given(
    names=st.lists(st.one_of(whole, whole, moving, others), min_size=2, max_size=6, unique=True),
    taps=st.integers(2, 8),
    stride=st.integers(1, 3),
    activation=st.sampled_from(["Relu", "Elu", "Tanh", ""]),
    seed=st.integers(0, 3),
)
def test_any_views(names, taps, stride, activation, seed):
    body = net(taps=taps, stride=stride, activation=activation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(height, "_pays", lambda plan: bool(plan.whole))
        _, report, parity = fuse_with_report([network(body, seed=seed)], views=names, force=True)
    assert parity.passed
    outcome = next(o for o in report.outcomes if o.name == "views")
    assert outcome.status in ("applied", "refused", "nothing"), outcome.reason


def test_whole_views_cost_no_node(always):
    few, first = fused(net(), "identity,scale:1.02,roll:+3")
    many, second = fused(net(), "identity,scale:1.02,roll:+3,scale:0.98,sign-flip,scale:0.9,roll:-3")
    assert "above each other" in first.reason
    assert kinds(many) == kinds(few)
    assert "5 whole views and 2 gathered ones" in second.reason


def test_whole_views_alone_need_no_gather(always):
    graph, outcome = fused(net(), "identity,scale:1.02,scale:0.98")
    assert "above each other" in outcome.reason
    assert "Gather" not in kinds(graph)
    assert "Concat" not in kinds(graph)


def test_the_batch_stays_the_batch_up_to_the_dense_layers(always):
    graph, _ = fused(net())
    tall = [node for node in graph.model.graph if node.op_type == "Conv" and node.outputs[0].shape[2] == 5]
    assert len(tall) == 3
    assert all(str(node.outputs[0].shape[0]) == "batch" for node in tall)


BEHIND = {
    "a pool": lambda emit, h, w: emit("AveragePool", h, kernel_shape=[3], strides=[2], pads=[1, 1]),
    "the largest": lambda emit, h, w: emit("MaxPool", h, kernel_shape=[2], strides=[2]),
    "a residual": lambda emit, h, w: emit("Add", h, emit("Elu", emit("Conv", h, w(8, 8, 3), pads=[1, 1]))),
    "a clip": lambda emit, h, w: emit("Clip", h, np.float32(-0.5), np.float32(0.5)),
    "a factor": lambda emit, h, w: emit("Mul", h, w(1, 8, 1)),
    "depthwise": lambda emit, h, w: emit("Conv", h, w(8, 1, 5), w(8), group=8, dilations=[2], pads=[4, 4]),
    "attention": lambda emit, h, w: emit("Mul", h, emit("Sigmoid", emit("ReduceMean", h, [2], keepdims=1))),
    "turned": lambda emit, h, w: emit(
        "Transpose", emit("Softmax", emit("Transpose", h, perm=[0, 2, 1])), perm=[0, 2, 1]
    ),
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
def test_layers_behind(always, behind):
    _, outcome = fused(net(behind=behind))
    assert "above each other" in outcome.reason


def test_time_flattened_into_the_dense_layer(always):
    def body(emit, x, weights):
        h = emit("Relu", emit("Conv", x, weights(C, N_CHANS, 7), weights(C), strides=[2], pads=[3, 3]))
        h = emit("Relu", emit("Conv", h, weights(8, C, 3), weights(8), strides=[2], pads=[1, 1]))
        h = emit("Flatten", h, axis=1)
        hidden = emit("Relu", emit("Gemm", h, weights(4, 8 * N_TIMES // 4), weights(4), transB=1))
        return emit("Gemm", hidden, weights(1, 4), weights(1) + np.float32(8.0), transB=1)

    _, outcome = fused(body)
    assert "above each other" in outcome.reason


@pytest.mark.parametrize("merge", ["median", "trimmed:0.2"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_merges_that_need_every_branch(always, merge, n_outputs):
    _, outcome = fused(net(n_outputs=n_outputs), members=2, merge=merge, n_outputs=n_outputs)
    assert "above each other" in outcome.reason


@pytest.mark.parametrize("weights", [[0.4, 0.1, 0.05, 0.25, 0.2], [0.5, -0.1, 0.2, 0.3, 0.3]])
def test_weighted_views_in_another_order(always, tmp_path, weights):
    path = tmp_path / "w.json"
    path.write_text(repr(weights))
    graph, outcome = fused(net(), merge=f"weighted:{path}")
    assert "above each other" in outcome.reason
    assert "ReduceSum" not in kinds(graph)


@pytest.mark.parametrize(
    ("body", "views", "why"),
    [
        (net(twice=True), VIEWS, "one convolution"),
        (net(), "roll:+3,roll:-3", "too few"),
    ],
    ids=["two readers", "nothing whole"],
)
def test_others_are_left_alone(body, views, why):
    _, outcome = fused(body, views)
    assert "above each other" not in outcome.reason
    assert why in outcome.reason


def test_offsets_of_a_sum_are_counted():
    def body(emit, x, weights):
        x = emit("Unsqueeze", x, [2])
        first = emit("Conv", x, weights(C, N_CHANS, 1, 3), weights(C), pads=[0, 1, 0, 1])
        both = emit("Add", first, emit("Conv", x, weights(C, N_CHANS, 1, 1), weights(C)))
        return head(emit, emit("Squeeze", emit("Relu", both), [2]), weights, C, axes=(2,))

    model = clean(network(body).clone_model())
    total = next(node for node in model.graph if node.op_type == "Add").outputs[0]
    biases = [node.inputs[2].const_value.numpy() for node in model.graph if node.op_type == "Conv"]
    np.testing.assert_allclose(np.sum(height._offsets(total), axis=0), np.sum(biases, axis=0), rtol=1e-6)
