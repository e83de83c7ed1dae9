"""Plans laid back for torch: which patterns are joined, which are left, and that the numbers stay."""

import numpy as np
import onnx
import pytest
from onnx import parser

from rtserve.graphs.graph import Graph
from rtserve.graphs.plan import graph_to_plan
from rtserve.graphs.runners import PlanRunner, ReferenceRunner

SPLIT = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch, 5, 32] x) => (float[batch, 8] y)
<float[8, 4, 1, 3] w1, float[8] b1, float[8, 1, 1, 3] w2, int64[2] sizes = {4, 1},
 int64[1] two = {2}, int64[2] rest = {2, 3}>
{
  image = Unsqueeze (x, two)
  a, b = Split <axis = 1> (image, sizes)
  c = Conv <pads = [0, 1, 0, 1], strides = [1, 2]> (a, w1, b1)
  d = Conv <pads = [0, 1, 0, 1], strides = [1, 2]> (b, w2)
  e = Add (c, d)
  y = ReduceMean <keepdims = 0> (e, rest)
}
"""
ELU = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch, 5, 32] x) => (float[batch, 5] y)
<float zero = {0.0}, float minus = {-1.0}, int64[1] last = {2}>
{
  low = Clip (x, , zero)
  exp = Exp (low)
  high = Relu (x)
  less = Add (high, minus)
  e = Add (less, exp)
  y = ReduceMean <keepdims = 0> (e, last)
}
"""


def graph_of(text, seed=0):
    model = parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for value in list(model.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(rng.standard_normal(shape).astype("f4"), value.name)
        )
        model.graph.value_info.remove(value)
    return Graph.from_bytes(model.SerializeToString())


def operators(graph):
    return [node["op"] for node in graph_to_plan(graph)[0]["nodes"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SPLIT, ["Unsqueeze", "Conv", "ReduceMean"]),
        (SPLIT.replace("strides = [1, 2]> (b", "strides = [1, 2], dilations = [1, 1]> (b"), None),
        (SPLIT.replace("e = Add (c, d)", "f = Add (c, d) e = Add (f, c)"), None),
        (ELU, ["Elu", "ReduceMean"]),
        (ELU.replace("zero = {0.0}", "zero = {0.5}"), None),
        (ELU.replace("minus = {-1.0}", "minus = {-2.0}"), None),
        (ELU.replace("Relu (x)", "Relu (low)"), None),
    ],
)
def test_pattern_is_joined_only_where_it_is_one(text, expected):
    graph = graph_of(text)
    found = operators(graph)
    if expected is None:
        assert "Elu" not in found
        assert found.count("Conv") != 1
    else:
        assert found == expected
    for batch, scale in ((1, 1.0), (3, 100.0), (700, 1e-3)):
        x = (scale * np.random.default_rng(batch).standard_normal((batch, 5, 32))).astype("f4")
        reference = ReferenceRunner(graph).infer(x)
        np.testing.assert_allclose(
            PlanRunner(graph, double=True).infer(x), reference, rtol=1e-12, atol=1e-12 * max(1, np.abs(reference).max())
        )
        np.testing.assert_allclose(
            PlanRunner(graph).infer(x), reference, rtol=1e-5, atol=1e-6 * max(1, np.abs(reference).max())
        )
