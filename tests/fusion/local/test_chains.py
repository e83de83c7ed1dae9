"""Chains that do the same to every electrode become one; chains that differ stay, with the reason."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.local import chains
from tests.fusion.networks import head, network, require_same

N, T, D = 6, 40, 8
FRAMES = (T - 16) // 8 + 1


def spectrum(emit, row):
    """(batch, 1, time) to (batch, frames, bins): magnitudes of a short-time transform."""
    signal = emit("Unsqueeze", emit("Squeeze", row, [1]), [-1])
    window = np.hanning(16).astype(np.float32)
    frames = emit("STFT", signal, np.array(8, np.int64), window, np.array(16, np.int64), onesided=1)
    return emit("ReduceL2", frames, [-1], keepdims=0)


def _repeated(emit, x, token):
    """The token for every window and frame, as an exporter writes `repeat`."""
    counts = emit("Concat", emit("Shape", x, start=0, end=1), np.array([FRAMES, 1], np.int64), axis=0)
    counts.type = ir.TensorType(ir.DataType.INT64)
    repeated = emit("Tile", token, counts)
    repeated.shape = ir.Shape(["batch", FRAMES, D])  # exporters say so
    return repeated


def joined(*, own=("token",), order=None, axis=1, weights_of_own=False, repeated=False, first=None):
    """A spectrum of each electrode, the same embedding, what is its own, side by side."""

    def body(emit, x, weights):
        kernel, bias = weights(9, D), weights(D)
        parts = []
        for i in order or range(N):
            row = emit.slice(x, 1, i, i + 1)
            row = first(emit, row, i) if first else row
            h = spectrum(emit, row)
            h = emit("Add", emit("MatMul", h, weights(9, D) if weights_of_own else kernel), bias)
            if "token" in own:
                token = weights(1, 1, D)
                h = emit("Add", h, _repeated(emit, x, token) if repeated else token)
            if "factor" in own:
                h = emit("Mul", h, weights(D))
            parts.append(emit("Relu", h))
        return head(emit, emit("Concat", *parts, axis=axis), weights, D if axis == 1 else N * D, axes=(1,))

    return body


def rewritten(graph):
    model = clean(graph.clone_model())
    result = chains.run(model)
    model = clean(model)
    require_same(graph, model, tolerance=1e-9)
    return result, [node.op_type for node in model.graph]


@pytest.mark.parametrize("own", [(), ("token",), ("factor",), ("token", "factor")], ids=str)
@pytest.mark.parametrize("repeated", [False, True])
def test_alike_chains_are_one(own, repeated):
    result, kinds = rewritten(network(joined(own=own, repeated=repeated), n_chans=N, n_times=T))
    assert result.changed >= 1
    assert (kinds.count("STFT"), kinds.count("MatMul"), kinds.count("Slice"), kinds.count("Tile")) == (1, 1, 0, 0)


def differs(emit, row, i):
    return emit("Tanh", row) if i == 2 else emit("Sin", row)


def other_step(emit, row, i):
    return emit("CumSum", row, np.array(0, np.int64))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (joined(order=[1, 0, 2, 3, 4, 5]), "in order"),
        (joined(order=[0, 1, 2, 3, 4]), "every row"),
        (joined(axis=2), "another axis"),
        (joined(weights_of_own=True), "weights of its own"),
        (joined(first=differs), "differ"),
        (joined(first=other_step), "CumSum may mix windows"),
    ],
    ids=["order", "not all", "axis", "weights", "kinds", "across the batch"],
)
def test_other_chains_stay(body, reason):
    result, kinds = rewritten(network(body, n_chans=N, n_times=T))
    assert not result.changed
    assert reason in "".join(map(str, result.refused))
    assert kinds.count("STFT") >= 5


def test_parts_of_one_value_are_no_chains():
    def body(emit, x, weights):
        return head(emit, emit("Concat", *[x] * 5, axis=1), weights, T, axes=(1,))

    result, _ = rewritten(network(body, n_chans=N, n_times=T))
    assert "share a value" in "".join(map(str, result.refused))


def test_it_is_part_of_fusing_and_the_transform_is_one():
    graphs = [network(joined(), n_chans=N, n_times=T, seed=seed) for seed in (0, 1)]
    fused, report, parity = fuse_with_report(graphs, views="identity,roll:+3,scale:1.1")
    assert parity.passed
    assert [o.status for o in report.outcomes if o.name == "chains"] == ["applied", "applied"]
    assert "STFT" not in [node.op_type for node in fused.model.graph]
