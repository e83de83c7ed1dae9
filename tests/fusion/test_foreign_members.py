"""Members as other people's exporters write them: open dimensions by number, amounts of padding computed, branches."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper, parser

from rtserve.fusion.fuse import fuse
from rtserve.fusion.join import empty_model, prepare_member
from rtserve.fusion.views import parse_views
from rtserve.graphs.emit import Emitter, inline_many
from rtserve.graphs.graph import Graph
from rtserve.graphs.parity import relative_error
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner

C, T = 4, 24
CAUSAL = f"""<ir_version: 9, opset_import: ["": 18]>
causal (float[BATCH,{C},{T}] x) => (float[BATCH,1] y)
<int64 two={{2}}, int64[1] zero={{0}}, int64[1] axis={{2}}>
{{
 a = Conv(x, first)
 b = Conv<pads=[3,3]>(a, w)
 size = Shape(a)
 n = Gather(size, two)
 end = Unsqueeze(n, zero)
 c = Slice(b, zero, end, axis)
 d = Relu(c)
 e = Add(a, d)
 f = Conv<pads=[3,3]>(e, w)
 size2 = Shape(e)
 n2 = Gather(size2, two)
 end2 = Unsqueeze(n2, zero)
 g = Slice(f, zero, end2, axis)
 h = Relu(g)
 i = Add(e, h)
 m = ReduceMean<keepdims=0>(i, axis)
 y = Gemm(m, last)
}}"""


def member(text, **weights):
    """A graph of onnx's text, and weights by name."""
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(w.astype("f4"), name) for name, w in weights.items())
    return Graph.from_bytes(model.SerializeToString())


def causal(width, *, batch="N", seed=0):
    """Causal convolutions as torch's older exporter leaves them: the conversion of the opset numbers what is open."""
    sizes = {"first": (width, C, 1), "w": (width, width, 4), "last": (width, 1)}
    rng = np.random.default_rng(seed)
    return member(CAUSAL.replace("BATCH", batch), **{k: 0.3 * rng.standard_normal(size) for k, size in sizes.items()})


@pytest.mark.parametrize(("batch", "kept"), [("N", "batch"), ("unk__2", "batch"), ("?", None)])
def test_of_the_open_dimensions_of_a_member_the_batch_alone_keeps_a_name(batch, kept):
    emit = Emitter(empty_model(C, T).graph, prefix="m0")
    inline_many(emit, prepare_member(causal(6, batch=batch), "a").graph, emit.graph.inputs)
    shapes = [node.outputs[0].shape for node in emit.graph]
    dims = [dim for shape in shapes for dim in shape or () if not isinstance(dim, int)]
    assert {dim.value for dim in dims} <= {"batch", None}
    assert list(shapes[0]) == [kept, 6, T]


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("views", ["identity", "identity,roll:+3,time-reverse"])
def test_members_whose_open_dimensions_are_called_the_same_fuse_and_fuse_again(optimize, views):
    graphs, names = [causal(width, seed=width) for width in (6, 10, 7)], views.split(",")
    fused = fuse(graphs, views=views, optimize=optimize)
    again = fuse([fused, causal(5, seed=3)], merge="mean", optimize=optimize)
    x = np.random.default_rng(0).standard_normal((3, C, T))
    seen = [view.linear(C, T).torch(torch.from_numpy(x)).numpy() for view in parse_views(names)]
    wanted = np.mean([PlanRunner(graph, double=True).infer(one) for graph in graphs for one in seen], axis=0)
    assert relative_error(OnnxruntimeRunner(fused).infer(x.astype("f4")), wanted) < 1e-5
    wanted = (wanted + PlanRunner(causal(5, seed=3), double=True).infer(x)) / 2
    assert relative_error(OnnxruntimeRunner(again).infer(x.astype("f4")), wanted) < 1e-5
