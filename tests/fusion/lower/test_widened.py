"""Networks of rank 3 stay in rank 4 from the first convolution to the last, and keep their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.fusion.ir.clean import clean
from rtserve.fusion.lower.onnxruntime import layout
from tests.fusion.networks import N_CHANS, head, network, require_same

RANKS = {"Squeeze", "Unsqueeze"}


def between(emit, h, weights, step):
    """One step on (batch, 16, time)."""
    if step == "norm":
        return emit("BatchNormalization", h, *(part.astype(np.float32) for part in weights.norm(16)))
    if step == "pad":
        return emit("Pad", h, [0, 0, 1, 0, 0, 2], np.float32(0.5))
    if step == "resize":
        nearest = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return emit("Resize", h, None, np.array([1.0, 1.0, 2.0], np.float32), **nearest)
    if step == "gate":
        gate = emit("Sigmoid", emit("Gemm", emit("ReduceMean", h, [2], keepdims=0), weights(16, 16), transB=1))
        return emit("Mul", h, emit("Unsqueeze", gate, [2]))
    assert step == "slice"
    return emit.slice(h, 2, 1, 9)


def laid(steps):
    """A network of two convolutions with steps between them, as exported and in rank 4."""

    def body(emit, x, weights):
        h = emit("Relu", emit("Conv", x, weights(16, N_CHANS, 5), weights(16), pads=[2, 2]))
        for step in steps:
            h = between(emit, h, weights, step)
        h = emit("Relu", emit("Conv", h, weights(16, 16, 3), weights(16)))
        return head(emit, h, weights, 16, axes=(2,))

    graph = network(body)
    model = clean(graph.clone_model())
    layout.run(model)
    model = clean(model)
    require_same(graph, model)
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("steps", [["norm"], ["pad"], ["resize"], ["slice"], ["norm", "resize", "pad", "slice"]])
def test_what_stands_between_convolutions_changes_no_rank(steps):
    kinds = laid(steps)
    convs = [k for k, kind in enumerate(kinds) if kind == "Conv"]
    assert not RANKS & set(kinds[convs[0] : convs[1]])


def test_a_gate_is_opened_once_and_the_convolutions_stay():
    kinds = laid(["gate"])
    convs = [k for k, kind in enumerate(kinds) if kind == "Conv"]
    inside = kinds[convs[0] : convs[1]]
    assert [inside.count(kind) for kind in ("Squeeze", "Unsqueeze")] == [1, 1]  # around the dense layer alone


def test_a_sum_that_no_convolution_reads_opens_nothing():
    def body(emit, x, weights):
        h = emit("Conv", x, weights(16, N_CHANS, 5), pads=[2, 2])
        y = emit("MatMul", x, weights(40, 40))
        rest = emit("Slice", y, [0], [1], [1])
        return head(emit, emit("Relu", emit("Add", h, rest)), weights, 16, axes=(2,))

    graph = network(body)
    model = clean(graph.clone_model())
    layout.run(model)
    model = clean(model)
    require_same(graph, model)
    kinds = [node.op_type for node in model.graph]
    assert (kinds.count("Unsqueeze"), kinds.count("Squeeze")) == (1, 1)
