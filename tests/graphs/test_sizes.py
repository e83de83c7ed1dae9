"""Sizes that follow the batch are written as lines only where they are lines at every batch."""

import numpy as np
import pytest
from onnx import parser

from rtserve.graphs.graph import Graph
from rtserve.graphs.plan import graph_to_plan
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner

HEAD = """<ir_version: 9, opset_import: ["" : 20]>
net (float[N, 2, 3] x) => (float[M, 2] y)
<int64 zero = {0}, int64[1] start = {0}, int64 two = {2}, int64 eight = {8}, int64 minus = {-1}, int64[1] last = {2},
 int64[1] front = {0}>
{
  s = Shape (x)
  n = Gather (s, zero)
  BODY
  y = ReduceMax <keepdims = 0> (c, last)
}"""
CUT = "e = Unsqueeze (m, front)\n  c = Slice (x, start, e, front)"
BENT = [f"m = {form}\n  {CUT}" for form in ("Min (n, eight)", "Div (n, eight)", "Mod (n, eight)")]
BENT += [
    f"w = Greater (n, eight)\n  m = Where (w, eight, n)\n  {CUT}",
    f"h = Min (n, eight)\n  m = Sub (n, h)\n  {CUT}",
]
BENT += [f"h = Min (n, eight)\n  i = Unsqueeze (h, front)\n  p = Slice (x, start, i, front)\n  q = Shape (p)\n"
         f"  m = Gather (q, zero)\n  {CUT}"]  # fmt: skip
STRAIGHT = [f"t = Mul (n, two)\n  m = Div (t, two)\n  {CUT}",
            f"w = Equal (n, minus)\n  m = Where (w, eight, n)\n  {CUT}",
            f"t = Mul (n, eight)\n  r = Mod (t, two)\n  m = Add (r, n)\n  {CUT}"]  # fmt: skip


@pytest.mark.parametrize("body", BENT + STRAIGHT)
def test_a_size_is_right_at_every_batch(body):
    graph = Graph.from_bytes(parser.parse_model(HEAD.replace("BODY", body)).SerializeToString())
    plan, engine = PlanRunner(graph), OnnxruntimeRunner(graph)
    for batch in (0, 1, 2, 7, 8, 9, 17):
        x = np.arange(batch * 6, dtype="f4").reshape(batch, 2, 3)
        np.testing.assert_array_equal(plan.infer(x), engine.infer(x), err_msg=f"batch {batch}")


@pytest.mark.parametrize("body", STRAIGHT)
def test_a_line_is_not_computed_in_every_call(body):
    graph = Graph.from_bytes(parser.parse_model(HEAD.replace("BODY", body)).SerializeToString())
    plan, _ = graph_to_plan(graph)
    assert {node["op"] for node in plan["nodes"]} == {"Slice", "ReduceMax"}
