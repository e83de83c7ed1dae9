"""What is put right in a graph before anything else reads it."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from rtserve.graphs.fold import name_every_axis
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
