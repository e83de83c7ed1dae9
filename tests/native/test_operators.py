"""Every operator of the table in C, against onnxruntime, on the forms that the executor is tried on, or refused by name."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rtserve.errors import ExportError
from rtserve.graphs.plan import read_model
from rtserve.native.build import build
from rtserve.native.compiler import levels_here
from rtserve.native.flow import Unsupported, read_flow
from rtserve.native.generate import generate
from rtserve.native.load import NativeModule
from rtserve.native.writer import OPERATORS
from tests.runtime.test_batches import forms_of, in_onnxruntime, model_of

pytestmark = pytest.mark.tools

MORE = {
    "Conv": [
        ("<float[40, 4, 3] w, float[40] b>", "c = Conv <pads = [1, 1]> (x, w, b)\n  y = Relu (c)"),
        ("<float[6, 4, 5] w>", "y = Conv <pads = [2, 2], strides = [2]> (x, w)"),
        ("<float[8, 2, 3] w, float[8] b>", "y = Conv <group = 2, pads = [1, 1]> (x, w, b)"),
        ("<float[12, 1, 4] w>", "y = Conv <group = 4, pads = [2, 1]> (x, w)"),
        ("<float[5, 4, 9] w>", "y = Conv <pads = [4, 4]> (x, w)"),
        ("<float[5, 4, 3] w>", "t = Transpose <perm = [0, 2, 1]> (x)\n  u = Transpose <perm = [0, 2, 1]> (t)\n"
                               "  y = Conv <pads = [1, 1], dilations = [1]> (u, w)"),
    ],
    "MatMul": [
        ("<float[12, 33] w>", "y = MatMul (x, w)"),
        ("<float[5, 4] w>", "y = MatMul (w, x)"),
        ("<float[1, 12, 3] w>", "y = MatMul (x, w)"),
        ("", "t = Transpose <perm = [0, 2, 1]> (x)\n  y = MatMul (x, t)"),
    ],
    "Pad": [
        ("<int64[6] p = {0, 0, 2, 0, 1, 3}>", "y = Pad (x, p)"),
        ("<int64[6] p = {0, 0, 2, 0, 0, 3}>", "y = Pad <mode = \"reflect\"> (x, p)"),
        ("<int64[6] p = {0, 0, 2, 0, 0, 3}>", "y = Pad <mode = \"edge\"> (x, p)"),
        ("<int64[6] p = {0, -1, -2, 0, 0, 1}>", "y = Pad (x, p)"),
    ],
    "Cast": [("", "y = Cast <to = 1> (x)")],
    **{op: [("<float[12] z>", f"b = {op} (x, z)\n  n = Neg (x)\n  y = Where (b, x, n)")]
       for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{op: [("<float z = {0.5}>", f"a = Greater (x, z)\n  n = Neg (x)\n  b = Greater (n, x)\n  c = {op} (a, b)\n"
             "  y = Cast <to = 1> (c)")] for op in ("And", "Or", "Xor")},
    "Not": [("<float z = {0.5}>", "a = Greater (x, z)\n  b = Not (a)\n  y = Cast <to = 1> (b)")],
    **{op: [("", f"e = Log (x)\n  b = {op} (e)\n  y = Cast <to = 1> (b)")] for op in ("IsInf", "IsNaN")},
    "Where": [("<bool[12] c = {1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 1}>", "n = Neg (x)\n  y = Where (c, x, n)")],
    "Softmax": [("", "y = Softmax <axis = 1> (x)"), ("", "y = Softmax <axis = -1> (x)")],
}  # fmt: skip
"""Forms beside those of the executor's tests."""
TOLERANCE = {"Gelu": 3e-6, "Mish": 3e-6, "Pow": 1e-5}


def flow_of(model):
    """Return what one window of a model from x (N, 4, 12) goes through."""
    reader, plan = read_model(ir.serde.deserialize_model(model))
    return read_flow(plan, reader.tensors, (4, 12))


def compiled(flow):
    """Return a flow at work on one and on two threads: the plainest instruction set, little optimised, quick to build."""
    built = build(generate(flow, shared=True), levels=levels_here()[:1], extra=("-O1",))
    return NativeModule.of(built), NativeModule.of(built, threads=2)


@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_operator_gives_what_onnxruntime_does(op):
    tried = 0
    for declared, body in [*forms_of(op), *MORE.get(op, [])]:
        model = onnx.shape_inference.infer_shapes(model_of(declared, body))
        try:
            module, together = compiled(flow_of(model))
        except (Unsupported, ExportError):
            continue
        x = np.random.default_rng(5).uniform(-2, 2, (5, 4, 12)).astype("f4")
        expected = [in_onnxruntime(model, window[None]) for window in x]
        if any(answer is None for answer in expected):
            continue
        got = module.infer(x)
        wanted = np.stack([answer.reshape(-1) for answer in expected])
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=TOLERANCE.get(op, 2e-6), err_msg=body, equal_nan=True)
        assert module.infer(x[:0]).shape == (0, wanted.shape[1])
        assert all(together.infer(x[k : k + 1]).tobytes() == got[k].tobytes() for k in range(5)), body
        tried += 1
    assert tried, f"no form of {op} was compared"


@pytest.mark.parametrize(
    ("declared", "body", "why"),
    [
        ("", "y = Cast <to = 7> (x)", "gives int64"),
        ("<float[4, 3, 3] w>", "y = ConvTranspose (x, w)", "ConvTranspose"),
        ("<float[5, 4, 4] w>", 'y = Conv <auto_pad = "SAME_LOWER"> (x, w)', "auto_pad"),
    ],
)
def test_what_is_not_written_in_c_is_refused_by_name(declared, body, why):
    with pytest.raises(Unsupported, match=why):
        generate(flow_of(model_of(declared, body)))
