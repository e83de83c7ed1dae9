"""A GroupNormalization keeps its digits on windows with a large offset, and means what it meant."""

import numpy as np
import onnx.parser
import pytest

from rtserve.fusion.fuse import fuse_with_report
from rtserve.graphs.graph import Graph
from rtserve.graphs.plain_forms import keep_digits
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner

HEAD = '<ir_version: 9, opset_import: ["" : 20]> net (float[batch, 4, 24] x) => (float[batch, 96] y)'


def normalised(scale="{1, 2}", bias="{0, 1}"):
    text = f"""{HEAD} <int64[2] flat = {{0, -1}}, float[2] s = {scale}, float[2] b = {bias}>
    {{ g = GroupNormalization <num_groups = 2, epsilon = 0.01> (x, s, b) y = Reshape (g, flat) }}"""
    return Graph.from_bytes(onnx.parser.parse_model(text).SerializeToString())


def by_hand(x):
    grouped = x.astype("f8").reshape(len(x), 2, 48)
    z = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 0.01)
    return (z * np.array([1.0, 2.0])[:, None] + np.array([0.0, 1.0])[:, None]).reshape(len(x), 96)


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_a_fused_group_normalisation_keeps_its_digits(batch):
    graph = normalised()
    fused, report, _ = fuse_with_report([graph])
    assert "GroupNormalization" not in {node.op_type for node in fused.model.graph}
    assert report.parity.verdict == "equal"
    x = (1000 + np.random.default_rng(0).standard_normal((batch, 4, 24))).astype("f4")
    for runner in (PlanRunner(fused), *([OnnxruntimeRunner(fused)] if batch else [])):  # its Reshape takes no empty one
        assert np.allclose(runner.infer(x), by_hand(x), atol=2e-3)  # float32 itself is off by some 1e-4 of the answer
    if batch:
        assert np.abs(OnnxruntimeRunner(graph).infer(x) - by_hand(x)).max() > 2e-2


def test_what_is_scaled_by_channel_is_left():
    text = f"""{HEAD.replace("20", "21").replace("9,", "10,")} <int64[2] flat = {{0, -1}}, float[4] s = {{1, 2, 3, 4}}>
    {{ g = GroupNormalization <num_groups = 2> (x, s, s) y = Reshape (g, flat) }}"""
    graph = Graph.from_bytes(onnx.parser.parse_model(text).SerializeToString())
    assert keep_digits(graph.clone_model()) == 0


def mean_of(n, body):
    text = f"""<ir_version: 9, opset_import: ["" : 20]> net (float[batch, 2, {n}] x) => (float[batch, 2] y)
    <int64[1] last = {{-1}}, int64[1] high = {{2}}> {{ {body} }}"""
    return Graph.from_bytes(onnx.parser.parse_model(text).SerializeToString())


MEANS = {
    "ReduceMean": "r = Relu (x) y = ReduceMean <keepdims = 0> (r, last)",
    "kept axes": "m = ReduceMean (x, last) y = Flatten (m)",
    "GlobalAveragePool": "r = Relu (x) m = GlobalAveragePool (r) y = Flatten (m)",
    "a row": "u = Unsqueeze (x, high) m = GlobalAveragePool (u) y = Flatten (m)",
}


@pytest.mark.parametrize("body", MEANS.values(), ids=MEANS)
def test_the_mean_of_many_samples_keeps_its_digits(body):
    n, x = 30_000, np.full((2, 2, 30_000), np.float32(0.103))
    graph = mean_of(n, body)
    fused, report, _ = fuse_with_report([graph])
    assert report.parity.verdict == "equal"
    error = {
        name: np.abs(OnnxruntimeRunner(one).infer(x) / x[0, 0, 0] - 1).max()
        for name, one in (("plain", graph), ("fused", fused))
    }
    assert error["fused"] < 3e-6 < 2e-5 < error["plain"]
    x[0, 0, 17] = np.inf
    assert np.isfinite(OnnxruntimeRunner(fused).infer(x)).tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("n", [2000, 30_011])  # few; a prime number
def test_a_mean_of_few_samples_or_of_no_stretches_is_left(n):
    assert [keep_digits(mean_of(n, body).clone_model()) for body in MEANS.values()] == [0, 0, 0, 0]
