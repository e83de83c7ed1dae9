"""The torch executor against onnx's reference evaluator, operator by operator and network by network."""

import copy
import io
import pickle  # noqa: TID251  (our own module, made a line above)

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from onnx.reference import ReferenceEvaluator

from rtserve.errors import ExportError
from rtserve.graphs.graph import Graph
from rtserve.graphs.plan import graph_to_plan
from rtserve.runtime.executor import KEPT_BYTES, PlanModule
from rtserve.runtime.node import OPERATORS

CONVNET = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch, 3, 16] x) => (float[batch, 2] y)
<float[4, 1, 1, 5] w1, float[4] b1, float[4, 1, 3, 1] w2, float[4] s, float[4] o, float[4] m, float[4] v,
 int64[4] four = {-1, 1, 3, 16}, int64[2] flat = {0, -1}, float[8, 2] w3, float[2] b3>
{
  image = Reshape (x, four)
  a = Conv <pads = [0, 2, 0, 1]> (image, w1, b1)
  b = Conv <group = 4> (a, w2)
  n = BatchNormalization (b, s, o, m, v)
  e = Elu (n)
  p = AveragePool <kernel_shape = [1, 4], strides = [1, 7], pads = [0, 1, 0, 1], count_include_pad = 1> (e)
  f = Reshape (p, flat)
  y = Gemm (f, w3, b3)
}
"""


def with_weights(text, seed=0):
    """Parse a model and fill its empty initializers with seeded numbers."""
    model = parser.parse_model(text)
    rng = np.random.default_rng(seed)
    inputs = [value for value in model.graph.input if value.name == "x"]
    known = {tensor.name for tensor in model.graph.initializer}
    for value in list(model.graph.value_info):
        if value.name not in known and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
            array = rng.uniform(0.5, 1.5, shape) if value.name == "v" else rng.standard_normal(shape)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype("f4"), value.name))
            model.graph.value_info.remove(value)
    assert inputs
    return model


@pytest.fixture(scope="module")
def convnet():
    return Graph.from_bytes(with_weights(CONVNET).SerializeToString())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_network_equals_the_reference(convnet, batch):
    x = np.random.default_rng(batch).standard_normal((batch, 3, 16)).astype("f4")
    expected = ReferenceEvaluator(with_weights(CONVNET)).run(None, {"x": x})[0]
    module = PlanModule(*graph_to_plan(convnet))
    with torch.inference_mode():
        got = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert got.shape == (batch, 2)


def test_double_computes_in_double(convnet):
    from rtserve.graphs.runners import ReferenceRunner

    x = np.random.default_rng(3).standard_normal((2, 3, 16)).astype("f4")
    module = PlanModule(*graph_to_plan(convnet)).double()
    with torch.inference_mode():
        got = module(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(got, ReferenceRunner(convnet).infer(x), rtol=1e-12)


def test_copies_pickles_and_state_dicts_give_the_same_numbers(convnet):
    module = PlanModule(*graph_to_plan(convnet)).eval()
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    expected = module(x)
    others = [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    plan, tensors = graph_to_plan(convnet)
    fresh = PlanModule(plan, {name: torch.zeros_like(tensor) for name, tensor in tensors.items()})
    assert not torch.equal(fresh(x), expected)
    fresh.load_state_dict(module.state_dict())
    for other in [*others, fresh]:
        assert torch.equal(other(x), expected)


def test_input_is_not_changed(convnet):
    module = PlanModule(*graph_to_plan(convnet))
    x = torch.randn(2, 3, 16)
    before = x.clone()
    module(x)
    assert torch.equal(x, before)


def test_gradients_flow_to_the_input(convnet):
    module = PlanModule(*graph_to_plan(convnet))
    x = torch.randn(2, 3, 16, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("op", ["Conv", "Pad", "AveragePool", "Resize"])
def test_first_call_in_inference_mode_leaves_gradients_possible(op):
    """What a copy derives from its weights at its first call, and what an operator keeps, is no inference tensor."""
    plan = {"schema": "rtserve.plan/1", "opset": 20, "input": "x", "output": "y", "tensors": ["w", "up"]}
    plan["sizes"] = {"sides": {"scalar": False, "values": [0, 0, 2, 0, 0, 1]}}
    inputs, attrs = {
        "Conv": (["x", "w"], {"pads": [2, 2]}),
        "Pad": (["x", "sides"], {"mode": "reflect"}),
        "AveragePool": (["x"], {"kernel_shape": [4], "pads": [1, 2], "count_include_pad": 0}),
        "Resize": (["x", "", "up"], {"mode": "linear"}),
    }[op]
    plan["nodes"] = [{"op": op, "inputs": inputs, "outputs": ["y"], "attrs": attrs}]
    weights = {"w": torch.randn(4, 3, 5), "up": torch.tensor([1.0, 1.0, 2.0])}
    module = copy.deepcopy(PlanModule(plan, weights))
    with torch.inference_mode():
        module(torch.zeros(1, 3, 16))
    x = torch.randn(2, 3, 16, requires_grad=True)
    module(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_trace_keeps_what_is_wanted_and_stops_behind_it():
    graph = Graph.from_bytes(with_weights(CONVNET).SerializeToString())
    program = PlanModule(*graph_to_plan(graph)).eval().program
    x = torch.randn(2, 3, 16)
    whole, part = program.trace(x), program.trace(x, {"n", "e"})
    torch.testing.assert_close(torch.nn.functional.elu(part["n"]), part["e"])
    torch.testing.assert_close(part["e"], whole["e"])
    assert "y" in whole
    assert not {"a", "p", "y"} & set(part)


def test_nodes_that_read_one_weight_share_what_it_is_laid_out_as():
    text = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 2, 9] x) => (float[N, 4] y)
<float[4, 2, 3] w, float[4] b, float[4, 4, 3] v, int64[1] last = {2}>
{
  a = Conv <pads = [1, 1]> (x, w, b)
  c = Conv <pads = [2, 0]> (x, w, b)
  e = Add (a, c)
  f = Conv (e, v)
  y = ReduceMean <keepdims = 0> (f, last)
}
"""
    graph = Graph.from_bytes(with_weights(text).SerializeToString())
    turned = []
    plain = torch.Tensor.contiguous

    def contiguous(tensor, **form):
        turned.append(tuple(tensor.shape))
        return plain(tensor, **form)

    plan, tensors = graph_to_plan(graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "contiguous", contiguous)
        module = PlanModule(plan, tensors).eval()
    assert turned == [(4, 2, 1, 3), (4, 4, 1, 3)]
    x = torch.randn(3, 2, 9)
    expected = ReferenceEvaluator(onnx.load_model_from_string(graph.to_bytes())).run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_nodes_of_the_same_constants_and_attributes_are_one_convolution():
    text = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 2, 9] x) => (float[N, 4] y)
<float[4, 2, 3] w, float[4] b, int64[1] last = {2}>
{
  r = Relu (x)
  a = Conv <pads = [1, 1]> (x, w, b)
  c = Conv <pads = [1, 1]> (r, w, b)
  d = Conv <pads = [2, 0]> (x, w, b)
  e = Conv <pads = [1, 1]> (x, w)
  z = Sum (a, c, d, e)
  y = ReduceMean <keepdims = 0> (z, last)
}
"""
    graph = Graph.from_bytes(with_weights(text).SerializeToString())
    module = PlanModule(*graph_to_plan(graph)).eval()
    x = torch.randn(3, 2, 9)
    expected = ReferenceEvaluator(onnx.load_model_from_string(graph.to_bytes())).run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    calls = [call for call, *_ in module.program.steps]
    assert len(calls) == 7
    assert len({id(call) for call in calls}) == 6


ISLAND = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 2, 3] x) => (float[N, 2] y)
<double[3] w = {0.1, 0.2, 0.3}, float[3] v = {0.1, 0.2, 0.3}, int64[1] last = {2}>
{
  wide = Cast <to = 11> (x)
  product = Mul (wide, w)
  total = ReduceSum <keepdims = 0> (product, last)
  narrow = Cast <to = 1> (total)
  other = Mul (x, v)
  plain = ReduceSum <keepdims = 0> (other, last)
  y = Add (narrow, plain)
}
"""


def test_what_is_double_on_purpose_stays_double_in_every_module():
    module = PlanModule(*graph_to_plan(Graph.from_bytes(parser.parse_model(ISLAND).SerializeToString())))
    x = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = ReferenceEvaluator(parser.parse_model(ISLAND)).run(None, {"x": x.numpy()})[0]
    for turned in (module, copy.deepcopy(module).double().float()):
        y = turned(x)
        assert y.dtype == torch.float32
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
    kinds = {tensor.dtype for name, tensor in module.half().named_buffers()}
    assert kinds == {torch.float64, torch.float16}


FORMS = {
    "text": ('c = Constant <value_string = "a"> ()\n  z = Where (x, c, c)', "text"),
    "antialias": ('z = Resize <antialias = 1, mode = "linear"> (x, , up)', "Resize with antialias"),
    "training": ("t = Constant <value = bool {1}> ()\n  z = Dropout (x, , t)", "Dropout in training"),
    "operator": ("z = LpPool <kernel_shape = [2]> (x)", "no operator LpPool"),
    "kernel": ("z = MaxPool <kernel_shape = [9]> (x)", "cannot run MaxPool (value z)"),
    "type": ("h = Cast <to = 13> (x)\n  z = Cast <to = 1> (h)", "Cast to"),
}  # fmt: skip


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_form_that_is_lacking_is_refused_by_name_when_the_plan_is_made(form):
    from rtserve.errors import ExportError

    body, told = FORMS[form]
    text = '<ir_version: 10, opset_import: ["" : 20]>\nnet (float[N, 2, 3] x) => (float[N, 2] y)\n'
    text += "<int64[1] last = {2}, float[3] up = {1.0, 1.0, 0.5}>\n"
    text += f"{{\n  {body}\n  y = ReduceMax <keepdims = 0> (z, last)\n}}"
    with pytest.raises(ExportError) as refusal:
        graph_to_plan(Graph.from_bytes(parser.parse_model(text).SerializeToString()))
    assert told in refusal.value.message
    assert refusal.value.hint


UNREAD = {
    "Dropout": "d, mask = Dropout (x)",
    "MaxPool": "d, where = MaxPool <kernel_shape = [1]> (x)",
    "LayerNormalization": "d, mean, inverse = LayerNormalization <axis = -1> (x, ones)",
    "Split": "d, rest = Split <axis = 2> (twice, parts)",
    "TopK": "d, where = TopK <axis = 2> (x, four)",
}


@pytest.mark.parametrize("op", UNREAD)
@pytest.mark.parametrize("batch", [1, 3])
def test_an_operators_further_outputs_may_be_named_and_not_read(op, batch):
    """Of a node with one result, the first window was taken for the first output."""
    text = f"""
    <ir_version: 10, opset_import: ["" : 20]>
    net (float[batch, 2, 4] x) => (float[batch, 8] y)
    <float[4] ones = {{1, 1, 1, 1}}, int64[2] parts = {{4, 4}}, int64[1] four = {{4}}>
    {{
      twice = Concat <axis = 2> (x, x)
      {UNREAD[op]}
      y = Flatten (d)
    }}
    """
    model = parser.parse_model(text)
    x = np.random.default_rng(0).standard_normal((batch, 2, 4)).astype("f4")
    module = PlanModule(*graph_to_plan(Graph.from_bytes(model.SerializeToString()))).eval()
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    with torch.no_grad():
        assert np.allclose(module(torch.from_numpy(x)).numpy(), expected, atol=1e-6)


def test_an_answer_of_another_shape_is_refused_when_the_plan_is_made(monkeypatch):
    model = parser.parse_model("""
    <ir_version: 10, opset_import: ["" : 20]>
    net (float[batch, 2, 4] x) => (float[batch, 8] y)
    { y = Flatten (x) }
    """)
    monkeypatch.setitem(OPERATORS, "Flatten", lambda node: lambda x: x[0])
    with pytest.raises(ExportError, match=r"gives \(2, 4\) for \d windows, not \(\d, 8\)"):
        graph_to_plan(Graph.from_bytes(model.SerializeToString()))


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_a_resize_to_the_size_that_is_there_takes_an_empty_batch(batch):
    model = parser.parse_model("""
    <ir_version: 10, opset_import: ["" : 20]>
    net (float[batch, 2, 4] x) => (float[batch, 8] y)
    <int64[1] four = {4}>
    {
      two = Shape <start = 0, end = 2> (x)
      sizes = Concat <axis = 0> (two, four)
      d = Resize <mode = "linear"> (x, , , sizes)
      y = Flatten (d)
    }
    """)
    module = PlanModule(*graph_to_plan(Graph.from_bytes(model.SerializeToString()))).eval()
    x = torch.randn(batch, 2, 4)
    with torch.no_grad():
        assert torch.equal(module(x), x.flatten(1))


def test_where_little_memory_is_allowed_a_model_still_answers(monkeypatch):
    """What is taken to be kept for later calls is no condition."""
    asked = []

    def refuse(size, **options):
        asked.append(size)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    plan = {"schema": "rtserve.plan/1", "opset": 20, "input": "x", "output": "y", "tensors": [], "sizes": {}}
    plan["nodes"] = [{"op": "Abs", "inputs": ["x"], "outputs": ["y"], "attrs": {}}]
    monkeypatch.setattr(torch, "empty", refuse)
    module = PlanModule(plan, {})
    assert asked == [KEPT_BYTES]
    assert torch.equal(module(torch.tensor([[-1.0, 2.0]])), torch.tensor([[1.0, 2.0]]))
