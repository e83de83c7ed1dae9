"""Members as other people's exporters write them: open dimensions by number, amounts of padding computed, branches."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper, parser

from rtserve.errors import InputError
from rtserve.fusion.fuse import fuse, fuse_with_report
from rtserve.fusion.join import empty_model, prepare_member
from rtserve.fusion.report import fuse_text, fuse_to_file
from rtserve.fusion.views import parse_views
from rtserve.graphs.describe import describe_graph
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


PADDED = f"""<ir_version: 9, opset_import: ["": 18]>
padded (float[N,{C},{T}] x) => (float[N,1] y)
<int64[2] ends={{3,2}}, int64[1] rest={{4}}, int64[2] pairs={{-1,2}}, int64[1] zero={{0}}, int64[1] back={{-1}},
 int64[1] least={{-9223372036854775807}}, int64[1] flat={{-1}}, int64[1] axis={{1}}, int64[2] mean={{2,3}}>
{{
 zeros = ConstantOfShape<value=int64[1] {{0}}>(rest)
 all = Concat<axis=0>(ends, zeros)
 table = Reshape(all, pairs)
 turned = Slice(table, back, least, zero, back)
 columns = Transpose<perm=[1,0]>(turned)
 row = Reshape(columns, flat)
 pads = Cast<to=7>(row)
 p = Pad<mode="MODE">(x, pads)
 u = Unsqueeze(p, axis)
 t = Conv(u, temporal)
 s = Conv<group=6>(t, spatial)
 r = Elu(s)
 m = ReduceMean<keepdims=0>(r, mean)
 y = Gemm(m, last)
}}"""
SIZES = {"temporal": (6, 1, 1, 5), "spatial": (12, 1, C, 1), "last": (12, 1)}


def weights(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return {name: 0.3 * rng.standard_normal(size) for name, size in sizes.items()}


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_amounts_of_padding_that_are_computed_are_as_good_as_written(mode):
    padded = member(PADDED.replace("MODE", mode), **weights(SIZES))
    assert next(iter(prepare_member(padded, "a").graph)).op_type == "Pad"
    fused, report, _ = fuse_with_report([padded], views="identity,roll:+3")
    assert report.macs_before == 2 * (6 * C * 5 * (T + 1) + 12 * C * (T + 1) + 12)
    assert report.macs_after < 0.75 * report.macs_before
    assert "linear-prefix" in fused.provenance.details["passes"]
    x = np.random.default_rng(1).standard_normal((3, C, T)).astype("f4")
    wanted = (OnnxruntimeRunner(padded).infer(x) + OnnxruntimeRunner(padded).infer(np.roll(x, 3, -1))) / 2
    assert relative_error(OnnxruntimeRunner(fused).infer(x), wanted) < 1e-5


def test_what_a_file_says_of_inner_shapes_is_not_believed():
    text = f"""<ir_version: 9, opset_import: ["": 20]>
told (float[N,{C},{T}] x) => (float[N,1] y) <int64[1] end={{-1}}, float[2,{C},{T}] r, float[2,{C * T}] f>
{{
 r = Relu(x)
 batch = Shape<start=0, end=1>(r)
 target = Concat<axis=0>(batch, end)
 f = Reshape(r, target)
 y = Gemm(f, last)
}}"""
    kinds = [node.op_type for node in prepare_member(member(text, **weights({"last": (C * T, 1)})), "a").graph]
    assert kinds == ["Relu", "Shape", "Concat", "Reshape", "Gemm"]


BRANCHES = f"""<ir_version: 9, opset_import: ["": 20]>
branches (float[N,{C},{T}] x) => (float[N,1] y)
<int64 four={{4}}, int64 three={{3}}, int64[2] mean={{1,2}}, int64[1] one={{1}}>
{{
 b = If(CONDITION)<
  then_branch = then1 () => (float[N,{C},{T}] z) {{ h = Relu(x)  z = Neg(h) }},
  else_branch = else1 () => (float[N,{C},{T}] z) {{ h = Abs(x)  z = Sqrt(h) }}>
 rank = Shape(b)
 size = Size(rank)
 full = Equal(size, four)
 c = If(full)<
  then_branch = then2 () => (float[N,{C},{T}] z) {{ h = Exp(b)  z = Neg(h) }},
  else_branch = else2 () => (float[N,{C},{T}] z) {{ h = Tanh(b)  z = Mul(h, h) }}>
 m = ReduceMean<keepdims=0>(c, mean)
 u = Unsqueeze(m, one)
 y = Gemm(u, last)
}}"""


def branching(condition):
    text = BRANCHES.replace("If(CONDITION)", "If(k)").replace("{\n b", "{\n " + condition + "\n b")
    return member(text, **weights({"last": (1, 1)}))


def test_branches_that_do_not_depend_on_the_windows_are_taken():
    graph = branching("n = Shape<start=1, end=2>(x) n0 = Squeeze(n) k = Greater(n0, three)")
    kinds = [node.op_type for node in prepare_member(graph, "a").graph]
    assert kinds == ["Relu", "Neg", "Tanh", "Mul", "ReduceMean", "Unsqueeze", "Gemm"]
    x = np.random.default_rng(1).standard_normal((3, C, T)).astype("f4")
    for optimize in (True, False):
        fused = fuse([graph], optimize=optimize)
        assert relative_error(OnnxruntimeRunner(fused).infer(x), OnnxruntimeRunner(graph).infer(x)) < 1e-5


def test_a_branch_on_the_windows_is_refused_by_name():
    graph = branching("v = ReduceMax<keepdims=0>(x) w = Cast<to=7>(v) k = Greater(w, three)")
    with pytest.raises(InputError, match=r"a.onnx has control flow .*: If b \(of k\)") as caught:
        prepare_member(graph, "a.onnx")
    assert "torch.where" in caught.value.hint


def test_work_whose_shapes_are_not_known_is_said_to_be_so(tmp_path):
    text = f"""<ir_version: 9, opset_import: ["": 20]>
chosen (float[N,{C},{T}] x) => (float[N,1] y) <int64[1] mean={{2}}>
{{ t = Compress<axis=2>(x, kept) c = Conv(t, w) r = Relu(c) m = ReduceMean<keepdims=0>(r, mean) y = Gemm(m, last) }}"""
    model = parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.arange(T) % 3 > 0, "kept"))
    for name, array in weights({"w": (6, C, 3), "last": (6, 1)}).items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype("f4"), name))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    report = fuse_to_file([tmp_path / "m.onnx"], tmp_path / "new" / "f.onnx", views="identity,roll:+3")
    said = fuse_text(report, explain=True)
    assert "  work    not counted: the shapes at Conv " in said
    assert " M ->" not in said
    assert "Conv" in report["uncounted"]
    assert describe_graph(tmp_path / "new" / "f.onnx")["multiply_adds"] is None
    assert not all(row[-1] for row in report["stages"]["rows"])
