"""A scaled copy of what a convolution gives becomes one depthwise step, and nothing else does."""

from __future__ import annotations

import pytest

from tests.fusion.networks import N_CHANS, fused_with, head, kinds


def net(*, channels=16, taps=5, biased=True):
    def body(emit, x, weights):
        bias = [weights(channels)] if biased else []
        h = emit("Relu", emit("Conv", x, weights(channels, N_CHANS, taps), *bias))
        h = emit("Relu", emit("Conv", h, weights(8, channels, 3), weights(8)))
        return head(emit, h, weights, 8, axes=(2,))

    return body


def fused(body, views):
    graph, outcome = fused_with("channel-step", body, views, passes=("layout", "channel-step"), force=True)
    groups = [node.attributes.get_int("group", 1) for node in graph.model.graph if node.op_type == "Conv"]
    return graph, outcome, groups


def test_one_depthwise_step_for_every_copy():
    graph, outcome, groups = fused(net(), "identity,scale:1.02,roll:+3,scale:0.5")
    assert outcome.reason == "2 steps"
    assert groups.count(16) == 2
    assert "Mul" not in kinds(graph)


@pytest.mark.parametrize(
    "body",
    [net(channels=20), net(biased=False), net(taps=1)],
    ids=["no whole blocks", "no offset", "not in rank 4"],
)
def test_other_copies_are_left_alone(body):
    graph, outcome, groups = fused(body, "identity,scale:1.02")
    assert outcome.status == "nothing"
    assert set(groups) == {1}
    assert "Mul" in kinds(graph)


def test_what_is_no_copy_is_left_alone():
    _, outcome, _ = fused(net(), "identity,roll:+3")
    assert outcome.status == "nothing"


def test_a_copy_whose_offset_differs_along_time_is_refused():
    def body(emit, x, weights):
        h = emit("Conv", x, weights(16, N_CHANS, 5), weights(16))
        h = emit("Relu", emit("Conv", h, weights(16, 16, 3), pads=[1, 1]))
        return head(emit, emit("Relu", emit("Conv", h, weights(8, 16, 3), weights(8))), weights, 8, axes=(2,))

    graph, outcome, _ = fused(body, "identity,scale:1.02")
    assert outcome.status == "refused"
    assert "its offset is not one number for a channel" in outcome.reason
    assert "Mul" in kinds(graph)
