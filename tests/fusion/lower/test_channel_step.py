"""A factor and an offset per channel behind a convolution become one depthwise step, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.fusion.ir.clean import clean
from rtserve.fusion.lower.onnxruntime import channel_step
from tests.fusion.networks import head, network, require_same


def scaled(factor, offset, *, channels=16, between=None, twice=False):
    def body(emit, x, weights):
        h = emit("Conv", emit("Unsqueeze", x, [2]), weights(channels, 16, 1, 3), weights(channels))
        h = h if between is None else emit(between, h)
        product = emit("Mul", h, factor)
        h = emit("Add", product, offset)
        h = emit("Sub", h, emit("Tanh", product)) if twice else h
        return head(emit, h, weights, channels, axes=(2, 3))

    return body


def rewritten(body, n_chans=16):
    graph = network(body, n_chans=n_chans, n_times=40)
    model = clean(graph.clone_model())
    result = channel_step.run(model)
    model = clean(model)
    require_same(graph, model)
    return result, [(node.op_type, node.attributes.get_int("group", 1)) for node in model.graph]


CHANNELS = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16, 1, 1)


@pytest.mark.parametrize(
    ("factor", "offset"),
    [(np.float32(1.02), CHANNELS), (CHANNELS[0], CHANNELS), (CHANNELS, np.float32(0.5)), (CHANNELS, CHANNELS[0])],
    ids=["number, channels", "channels", "channels, number", "other ranks"],
)
@pytest.mark.parametrize("between", [None, "Relu"])
def test_one_depthwise_step(factor, offset, between):
    result, nodes = rewritten(scaled(factor, offset, between=between))
    assert result.changed == 1
    assert ("Conv", 16) in nodes
    assert "Mul" not in [kind for kind, _ in nodes]


@pytest.mark.parametrize(
    "body",
    [
        scaled(np.float32(2.0), np.linspace(0, 1, 38, dtype=np.float32)),
        scaled(np.linspace(0, 1, 38, dtype=np.float32), CHANNELS),
        scaled(np.float32(2.0), np.float32(1.0), channels=20),
        scaled(np.float32(2.0), CHANNELS, between="Tanh"),
        scaled(np.float32(2.0), CHANNELS, twice=True),
    ],
    ids=["offset in time", "factor in time", "channels", "no convolution", "read twice"],
)
def test_other_steps_are_left_alone(body):
    result, nodes = rewritten(body)
    assert not result.changed
    assert "Mul" in [kind for kind, _ in nodes]
