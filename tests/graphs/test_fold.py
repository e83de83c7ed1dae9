"""What is put right in a graph before anything else reads it."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from rtserve.graphs.fold import add_initializer, fold_constants, name_every_axis
from rtserve.graphs.sessions import cpu_session

PADDED = """<ir_version: 9, opset_import: ["": 20]>
g (float[N,3,8] x) => (float[N,3,11] y) <int64[2] pads={1,2}, int64[1] axes={AXIS}, float filled={0.5}> {
 t = Transpose<perm=[0,2,1]>(x)
 p = Pad(t, pads, VALUE, axes)
 u = Transpose<perm=[0,2,1]>(p)
 y = Relu(u)
}"""


@pytest.mark.parametrize("axis", ["1", "-2"])
@pytest.mark.parametrize(("value", "zero"), [("", 0.0), ("filled", 0.5)])
def test_a_pad_of_some_axes_behind_a_transpose_runs_in_onnxruntime(axis, value, zero):
    model = ir.from_proto(parser.parse_model(PADDED.replace("AXIS", axis).replace("VALUE", value)))
    next(node for node in model.graph if node.op_type == "Pad").inputs[0].shape = ir.Shape(["N", 8, 3])
    name_every_axis(model)
    x = np.abs(np.random.default_rng(0).standard_normal((2, 3, 8))).astype("f4")
    y = cpu_session(ir.to_proto(model).SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), (1, 2)), constant_values=zero))


def test_a_pad_whose_input_has_no_known_rank_is_left():
    model = ir.from_proto(parser.parse_model(PADDED.replace("AXIS", "1").replace("VALUE", "")))
    name_every_axis(model)
    assert next(node for node in model.graph if node.op_type == "Pad").inputs[1].const_value.numpy().tolist() == [1, 2]


FOLDED = """<ir_version: 9, opset_import: ["": 20]>
g (float[N,4] x) => (float[N,4] y)
<float[4] a={4,1,3,2}, int64[1] four={4}, int64[1] two={2}, int64 zero={0}, int64 stop={4}, int64 one={1},
 uint8[4] q={1,2,3,4}, float scale={0.5}> {
 STEPS
 y = Add(x, c)
}"""
KNOWN = {
    "several outputs": "l, r = Split<num_outputs=2>(a) c = Concat<axis=0>(r, l)",
    "ranks": "c, i = TopK(a, four)",
    "a shape": "c = ConstantOfShape<value=float[1] {2.5}>(four)",
    "a range": "i = Range(zero, stop, one) c = Cast<to=1>(i)",
    "where": "n = NonZero(a) m = Shape(n) t = Slice(m, one1, two) c0 = Cast<to=1>(t) c = Mul(a, c0)",
    "scatter": "i = Unsqueeze(four3, one1) c = ScatterElements<axis=0>(a, four3, a3)",
    "an activation": "c = Selu(a)",
}
KEPT = {
    "draws": "c = RandomNormalLike(a)",
    "draws of another kind": "b = Bernoulli(p) c = Mul(a, b)",
    "what is quantized": "c = DequantizeLinear(q, scale)",
}
MORE = ", int64[1] one1={1}, int64[1] four3={3}, float[1] a3={7}, float[4] p={0.5,0.5,0.5,0.5}> {"


def stepping(steps):
    return ir.from_proto(parser.parse_model(FOLDED.replace("> {", MORE).replace("STEPS", steps)))


@pytest.mark.parametrize("steps", KNOWN.values(), ids=KNOWN)
def test_what_is_computed_of_constants_alone_is_one(steps):
    model, x = stepping(steps), np.arange(8, dtype="f4").reshape(2, 4)
    wanted = cpu_session(ir.to_proto(model).SerializeToString()).run(None, {"x": x})[0]
    fold_constants(model)
    assert [node.op_type for node in model.graph] == ["Add"]
    np.testing.assert_array_equal(cpu_session(ir.to_proto(model).SerializeToString()).run(None, {"x": x})[0], wanted)


@pytest.mark.parametrize("steps", KEPT.values(), ids=KEPT)
def test_what_draws_and_what_is_quantized_stays(steps):
    model = stepping(steps)
    before = [node.op_type for node in model.graph]
    fold_constants(model)
    assert [node.op_type for node in model.graph] == before


def test_whole_numbers_alone_are_folded_where_that_is_asked():
    model = stepping("i = Range(zero, stop, one) j = Add(i, one) m = Cast<to=1>(j) k, l = TopK(a, four) c = Mul(m, k)")
    fold_constants(model, whole=True)
    assert [node.op_type for node in model.graph] == ["Cast", "TopK", "Mul", "Add"]


def test_a_constant_of_rank_0_stays_one():
    model = stepping("c = Selu(a)")
    value = add_initializer(model, "n", np.array(3))
    assert list(value.shape) == list(value.const_value.shape) == []
    assert value.const_value.numpy().shape == ()


UNTOLD = """<ir_version: 9, opset_import: ["": 20]>
g (float[N,4] x) => (float[N,4] y) <float[1,2,8] a, float[1,2,4] four> {
 STEPS
 w = ReduceSum<keepdims=0>(c)
 y = Mul(x, w)
}"""


@pytest.mark.parametrize("steps", [
    "m, i = MaxPool<kernel_shape=[3], strides=[2]>(a) c = Cast<to=1>(i)",
    "c = AveragePool<kernel_shape=[3], ceil_mode=1, strides=[2]>(a)",
])  # fmt: skip
def test_what_the_evaluator_may_get_wrong_is_left_to_the_engine(steps):
    text = UNTOLD.replace("STEPS", steps)
    model = parser.parse_model(text)
    model.graph.ClearField("initializer")
    weights = np.random.default_rng(0).standard_normal((1, 2, 8)).astype("f4")
    model.graph.initializer.append(numpy_helper.from_array(weights, "a"))
    x = np.random.default_rng(1).standard_normal((3, 4)).astype("f4")
    expected = cpu_session(model.SerializeToString()).run(None, {"x": x})[0]
    for whole in (True, False):
        folded = ir.from_proto(model)
        fold_constants(folded, whole=whole)
        assert steps.partition("<")[0].split()[-1] in {node.op_type for node in folded.graph}
        got = cpu_session(ir.to_proto(folded).SerializeToString()).run(None, {"x": x})[0]
        np.testing.assert_allclose(got, expected, rtol=1e-6)
