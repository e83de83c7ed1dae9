"""Every operator of the table in C, against onnxruntime, on the forms that the executor is tried on, or refused by name."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rtserve.errors import ExportError
from rtserve.graphs.plan import read_model
from rtserve.native.build import build
from rtserve.native.compiler import levels_here
from rtserve.native.draft import REWRITES
from rtserve.native.flow import Unsupported, read_flow
from rtserve.native.generate import generate
from rtserve.native.load import NativeModule
from rtserve.native.writer import OPERATORS
from tests.runtime.test_batches import forms_of, in_onnxruntime, model_of

pytestmark = pytest.mark.tools

CUBE = "s = Constant <value_ints = [0, 2, 2, 2, 6]> ()\n  u = Reshape (x, s)"
TURNED = "t = Transpose <perm = [2, 0, 1]> (x)"
PLANE = "s = Constant <value_ints = [0, 2, 4, 6]> ()\n  u = Reshape (x, s)"
WEIGHTS = {"GRU": 9, "LSTM": 12, "RNN": 3}
MORE = {
    "AveragePool": [
        ("", f"{CUBE}\n  y = AveragePool <kernel_shape = [2, 1, 3], pads = [0, 0, 1, 0, 0, 1]> (u)"),
        ("", "y = AveragePool <kernel_shape = [4], auto_pad = \"SAME_UPPER\", strides = [2]> (x)"),
    ],
    "MaxPool": [
        ("", f"{CUBE}\n  y = MaxPool <kernel_shape = [2, 2, 2], strides = [1, 1, 2]> (u)"),
        ("", "y = MaxPool <kernel_shape = [3], auto_pad = \"SAME_LOWER\", strides = [2]> (x)"),
    ],
    "ConvTranspose": [
        ("<float[4, 3, 5] w, float[3] b>", "c = ConvTranspose <strides = [3], pads = [2, 1], dilations = [2]> (x, w, b)\n"
                                           "  y = Relu (c)"),
        ("<float[4, 2, 1] w, float[4] b>", "y = ConvTranspose <group = 2, strides = [2], output_padding = [1]> (x, w, b)"),
        ("<float[2, 3, 2, 4] w>", f"{PLANE}\n  y = ConvTranspose <strides = [1, 2], pads = [1, 1, 0, 1]> (u, w)"),
        ("<float[4, 3, 3] w>", "y = ConvTranspose <dilations = [2], strides = [2], pads = [1, 1]> (x, w)"),
        ("<float[4, 3, 3] w>", "y = ConvTranspose <pads = [2, 1]> (x, w)"),
        ("<float[4, 3, 2] w, float[3] b>", "c = ConvTranspose <strides = [4]> (x, w, b)\n  y = Relu (c)"),
    ],
    "CastLike": [("<float[2] w>", "y = CastLike (x, w)"),
                 ("<bool c = {1}>", "b = CastLike (x, c)\n  y = Cast <to = 1> (b)")],
    "CumSum": [
        ("<int64 a = {1}>", "y = CumSum (x, a)"), ("<int64 a = {-1}>", "y = CumSum <reverse = 1> (x, a)"),
        ("<int64 a = {2}>", "t = Transpose <perm = [0, 2, 1]> (x)\n  y = CumSum <exclusive = 1> (t, a)"),
    ],
    "DFT": [
        ("<int64 a = {2}, int64 n = {9}>", "l = Unsqueeze (x, three)\n  y = DFT <onesided = 1> (l, n, a)"),
        ("<int64 a = {1}, int64 n = {7}>", "l = Unsqueeze (x, three)\n  y = DFT (l, n, a)"),
        ("<int64 a = {1}>", "s = Constant <value_ints = [0, 4, 6, 2]> ()\n  u = Reshape (x, s)\n"
                            "  y = DFT <inverse = 1> (u, , a)"),
    ],
    "Einsum": [("<float[5, 4] w>", f"y = Einsum <equation = \"{e}\"> (x, w)") for e in ("bct,oc->bot", "...ct,oc->...ot")]
    + [("", f"n = Neg (x)\n  y = Einsum <equation = \"{e}\"> (x, n)") for e in (
        "bct,bdt->bcd", "bct,bcs->bts", "bct,bct->b", "bct,bct->bc", "bct,bds->bctds", "bct,bct", "bct,bds->bt")]
    + [("<float[4] w, float[12] v>", "y = Einsum <equation = \"bct,c,t->b\"> (x, w, v)"),
       ("", "y = Einsum <equation = \"bct->btc\"> (x)"), ("", "y = Einsum <equation = \"bct->bc\"> (x)")],
    **{op: [
        (f"<float[1, {n}, 4] w, float[1, {n}, 3] r, float[1, {2 * n}] b, float[1, 1, 3] h{c}>",
         f"{TURNED}\n  y, last = {op} <hidden_size = 3> (t, w, r, b, , h{d})"),
        (f"<float[2, {n}, 4] w, float[2, {n}, 3] r, float[2, {2 * n}] b>",
         f"{TURNED}\n  all, y = {op} <hidden_size = 3, direction = \"bidirectional\"> (t, w, r, b)"),
        (f"<float[1, {n}, 1] w, float[1, {n}, 3] r>",
         "t = Transpose <perm = [2, 1, 0]> (x)\n"
         f"  y = {op} <hidden_size = 3, direction = \"reverse\"> (t, w, r)"),
    ] for op, n, c, d in (("GRU", 9, "", ""), ("LSTM", 12, ", float[1, 1, 3] c", ", c"), ("RNN", 3, "", ""))},
    "GatherElements": [("<int64[1, 4, 3] i = {0, 2, 1, 3, -1, 5, 0, 0, 7, 11, -12, 4}>",
                        "y = GatherElements <axis = 2> (x, i)")],
    "GatherND": [("<int64[1, 2, 2] i = {0, 3, 0, 1}>", "y = GatherND (x, i)"),
                 ("<int64[1, 3, 1] i = {3, 0, 3}>", "y = GatherND <batch_dims = 1> (x, i)")],
    "ScatterElements": [("<int64[1, 4, 1] i = {0, 2, -1, 5}>",
                         "n = ReduceMin (x, twos)\n  y = ScatterElements <axis = 2> (x, i, n)")],
    "ScatterND": [("<int64[1, 2, 2] i = {0, 3, 0, 1}, float[1, 2, 12] u>", "y = ScatterND (x, i, u)")],
    "Mod": [("<float z = {0.7}>", "y = Mod <fmod = 1> (x, z)")],
    "Clip": [("", "low = ReduceMean <keepdims = 0> (x)\n  y = Clip (x, low)")],
    "Resize": [
        ("<float[3] s = {1.0, 1.0, 1.5}>", "y = Resize <mode = \"cubic\"> (x, , s)"),
        ("<float[3] s = {1.0, 1.0, 0.5}>", "y = Resize <mode = \"linear\"> (x, , s)"),
        ("<float[3] s = {1.0, 1.5, 2.0}>", "y = Resize <mode = \"linear\"> (x, , s)"),
        ("<float[3] s = {1.0, 1.0, 1.5}>", "y = Resize <mode = \"cubic\", exclude_outside = 1> (x, , s)"),
    ],
    "ReduceLogSumExp": [("", "e = Log (x)\n  y = ReduceLogSumExp (e, twos)")],
    "STFT": [
        ("<int64 h = {3}, int64 n = {6}>", "a = Constant <value_ints = [-1, 12, 1]> ()\n  s = Reshape (x, a)\n"
         "  y = STFT <onesided = 0> (s, h, , n)"),
    ],
    "TopK": [("<int64[1] k = {3}>", "y, i = TopK <largest = 0> (x, k)"),
             ("<int64[1] k = {2}>", "y, i = TopK <axis = 1> (x, k)"),
             ("<int64[1] k = {5}>", "r = Floor (x)\n  y, i = TopK (r, k)")],
    "Trilu": [("<int64 k = {-1}>", "e = Log (x)\n  y = Trilu <upper = 0> (e, k)")],

    "Conv": [
        ("<float[40, 4, 3] w, float[40] b>", "c = Conv <pads = [1, 1]> (x, w, b)\n  y = Relu (c)"),
        ("<float[6, 4, 5] w>", "y = Conv <pads = [2, 2], strides = [2]> (x, w)"),
        ("<float[8, 2, 3] w, float[8] b>", "y = Conv <group = 2, pads = [1, 1]> (x, w, b)"),
        ("<float[12, 1, 4] w>", "y = Conv <group = 4, pads = [2, 1]> (x, w)"),
        ("<float[5, 4, 9] w>", "y = Conv <pads = [4, 4]> (x, w)"),
        ("<float[6, 2, 2, 2, 3] w, float[6] b>", f"{CUBE}\n  y = Conv <pads = [1, 0, 1, 0, 1, 1]> (u, w, b)"),
        ("<float[4, 1, 2, 1, 3] w>", f"{CUBE}\n  y = Conv <group = 2, strides = [1, 1, 2]> (u, w)"),
        ("<float[4, 1, 2, 2, 3] w>", f"{CUBE}\n  y = Conv <group = 2> (u, w)"),
        ("<float[5, 4, 4] w>", "y = Conv <auto_pad = \"SAME_UPPER\", strides = [3]> (x, w)"),
        ("<float[5, 4, 3] w>", "t = Transpose <perm = [0, 2, 1]> (x)\n  u = Transpose <perm = [0, 2, 1]> (t)\n"
                               "  y = Conv <pads = [1, 1], dilations = [1]> (u, w)"),
    ],
    "MatMul": [
        ("<float[12, 33] w>", "y = MatMul (x, w)"),
        ("<float[5, 4] w>", "y = MatMul (w, x)"),
        ("<float[1, 12, 3] w>", "y = MatMul (x, w)"),
        ("", "t = Transpose <perm = [0, 2, 1]> (x)\n  y = MatMul (x, t)"),
        ("<float[12] v>", "y = MatMul (x, v)"),
        ("<float[4] v>", "y = MatMul (v, x)"),
    ],
    "Gemm": [("", "f = Flatten (x)\n  y = Gemm <transB = 1, alpha = 0.5> (f, f)"),
             ("<float[48, 3] w>", "f = Flatten (x)\n  m = Gemm (f, w)\n  y = Gemm <beta = 2.0> (f, w, m)")],
    "Pad": [
        ("<int64[6] p = {0, 0, 2, 0, 1, 3}>", "y = Pad (x, p)"),
        ("<int64[6] p = {0, 0, 2, 0, 0, 3}>", "y = Pad <mode = \"reflect\"> (x, p)"),
        ("<int64[6] p = {0, 0, 2, 0, 0, 3}>", "y = Pad <mode = \"edge\"> (x, p)"),
        ("<int64[6] p = {0, -1, -2, 0, 0, 1}>", "y = Pad (x, p)"),
        ("<int64[6] p = {0, 0, 2, 0, 0, 1}, float v = {1.5}, float[5, 4, 3] w>",
         "c = Pad (x, p, v)\n  y = Conv <pads = [1, 1]> (c, w)"),
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
TOLERANCE = {"DFT": 5e-5, "Gelu": 3e-6, "Mish": 3e-6, "Pow": 1e-5, "STFT": 5e-5}
OTHER_NAMES = {"Scatter", "Upsample"}
"""What ScatterElements and Resize were called in older opsets than these forms are of."""


def forms(op):
    """Return (declarations, body) of every form of an operator that is tried."""
    return [*forms_of(op), *MORE.get(op, [])]


def flow_of(model, shape=(4, 12)):
    """Return what one window of a model from x (N, *shape) goes through."""
    reader, plan = read_model(ir.serde.deserialize_model(model))
    return read_flow(plan, reader.tensors, shape)


def compiled(flow):
    """Return a flow at work on one and on two threads: the plainest instruction set, little optimised, quick to build."""
    built = build(generate(flow, shared=True), levels=levels_here()[:1], extra=("-O1",))
    return NativeModule.of(built), NativeModule.of(built, threads=2)


@pytest.mark.parametrize("op", sorted((OPERATORS | REWRITES).keys() - OTHER_NAMES))
def test_operator_gives_what_onnxruntime_does(op):
    tried = 0
    for declared, body in forms(op):
        model = onnx.shape_inference.infer_shapes(model_of(declared, body))
        try:
            module, together = compiled(flow_of(model))
        except (Unsupported, ExportError):
            assert (declared, body) not in MORE.get(op, []), f"{body} is refused"
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
        ("<int64[1] k = {3}>", "v, i = TopK (x, k)\n  y = Cast <to = 1> (i)", "TopK gives int64"),
        (
            "<float[4, 2, 2, 2, 2] w>",
            "s = Constant <value_ints = [0, 4, 2, 2, 3]> ()\n  u = Reshape (x, s)\n"
            "  y = Conv <group = 2, pads = [0, 1, 0, 0, 0, 0]> (u, w)",
            "Conv over 3",
        ),
    ],
)
def test_what_is_not_written_in_c_is_refused_by_name(declared, body, why):
    with pytest.raises(Unsupported, match=why):
        generate(flow_of(model_of(declared, body)))
