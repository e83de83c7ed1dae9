"""Every operator of the table at batch 0, 1 and 5, against onnxruntime, on small graphs as exporters write them."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from rtserve.runtime.node import OPERATORS
from rtserve.runtime.pointwise import BINARY, UNARY
from rtserve.runtime.reduction import REDUCTIONS
from tests.runtime.onnx_nodes import program_of
from tests.runtime.test_executor import with_weights
from tests.versions import release

LOGICAL = {"And", "Or", "Xor"}
WHOLE = "i = Cast <to = 7> (x)"
UPS = "<float[3] up = {1.0, 1.0, 2.0}>"
IMAGE = "one = Constant <value_ints = [0, 1, 4, 12]> ()\n  u = Reshape (x, one)"
FORMS = {
    "ArgMax": ["y = ArgMax <axis = 2, keepdims = 0> (x)", "y = ArgMax <axis = -1, select_last_index = 1> (x)"],
    "ArgMin": ["y = ArgMin <axis = 1> (x)"],
    "AveragePool": [
        "y = AveragePool <kernel_shape = [3], strides = [2], pads = [0, 2]> (x)",
        "y = AveragePool <kernel_shape = [5], strides = [3], pads = [4, 4], ceil_mode = 1> (x)",
        "y = AveragePool <kernel_shape = [5], strides = [4], pads = [1, 3], ceil_mode = 1, count_include_pad = 1> (x)",
        "y = AveragePool <kernel_shape = [3], dilations = [2], pads = [1, 2]> (x)",
    ],
    "BatchNormalization": [("<float[4] s, float[4] o, float[4] m, float[4] v>", "y = BatchNormalization (x, s, o, m, v)")],
    "BitwiseAnd": [(f"{WHOLE}\n  y = BitwiseAnd (i, i)")],
    "BitwiseNot": [(f"{WHOLE}\n  y = BitwiseNot (i)")],
    "BitwiseOr": [(f"{WHOLE}\n  j = Neg (i)\n  y = BitwiseOr (i, j)")],
    "BitwiseXor": [(f"{WHOLE}\n  j = Neg (i)\n  y = BitwiseXor (i, j)")],
    "BlackmanWindow": [("<int64 n = {12}>", "w = BlackmanWindow (n)\n  y = Mul (x, w)")],
    "HammingWindow": [("<int64 n = {12}>", "w = HammingWindow (n)\n  y = Mul (x, w)")],
    "HannWindow": [("<int64 n = {12}>", "w = HannWindow <periodic = 0> (n)\n  y = Mul (x, w)")],
    "Cast": ["y = Cast <to = 7> (x)", "y = Cast <to = 11> (x)", "b = Cast <to = 9> (x)\n  y = Cast <to = 1> (b)"],
    "CastLike": [f"{WHOLE}\n  y = CastLike (x, i)"],
    "Celu": ["y = Celu <alpha = 0.5> (x)"],
    "Clip": [
        ("<float low = {-0.5}>", "y = Clip (x, low)"),
        "high = ReduceMax <keepdims = 0> (x)\n  half = Constant <value_float = 0.25> ()\n  h = Mul (high, half)\n"
        "  y = Clip (x, , h)",
    ],
    "Concat": ["y = Concat <axis = -1> (x, x)", "y = Concat <axis = 0> (x, x)"],
    "Constant": ["c = Constant <value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1.0, 1.0, 2.0]> ()\n"
                 "  y = Add (x, c)"],
    "ConstantOfShape": ["s = Shape (x)\n  z = ConstantOfShape <value = float[1] {2.0}> (s)\n  y = Add (x, z)"],
    "Conv": [
        ("<float[6, 4, 3] w, float[6] b>", "y = Conv <pads = [1, 0]> (x, w, b)"),
        ("<float[4, 1, 3] w>", "y = Conv <group = 4, dilations = [2], strides = [2], pads = [3, 1]> (x, w)"),
        ("<float[5, 4, 4] w>", "y = Conv <auto_pad = \"SAME_LOWER\", strides = [3]> (x, w)"),
        ("<float[2, 1, 4, 1] w>", f"{IMAGE}\n  y = Conv (u, w)"),
    ],
    "ConvTranspose": [
        ("<float[4, 3, 3] w, float[3] b>", "y = ConvTranspose <strides = [2], pads = [1, 0]> (x, w, b)"),
        ("<float[4, 1, 2] w>", "y = ConvTranspose <group = 4, strides = [3], output_padding = [1]> (x, w)"),
    ],
    "CumSum": [("<int64 a = {2}>", "y = CumSum <exclusive = 1, reverse = 1> (x, a)")],
    "DFT": [("<int64 a = {2}>", "l = Unsqueeze (x, three)\n  y = DFT <onesided = 1> (l, , a)")],
    "DepthToSpace": [("<int64[4] s = {0, 4, 3, 4}>", "i = Reshape (x, s)\n  y = DepthToSpace <blocksize = 2> (i)")],
    "SpaceToDepth": [("<int64[4] s = {0, 4, 2, 6}>", "i = Reshape (x, s)\n  y = SpaceToDepth <blocksize = 2> (i)")],
    "Div": ["y = Div (x, x)", f"{WHOLE}\n  half = Constant <value_int = 2> ()\n  y = Div (i, half)"],
    "Dropout": ["y = Dropout (x)"],
    "Einsum": [("<float[4, 5] w>", "y = Einsum <equation = \"bct,cd->bdt\"> (x, w)")],
    "Elu": ["y = Elu <alpha = 0.7> (x)"],
    "Expand": [("<int64[4] s = {3, 1, 4, 12}>", "y = Expand (x, s)"), ("<int64[1] s = {12}>", "y = Expand (x, s)")],
    "EyeLike": ["m = ReduceMax <keepdims = 0> (x, two)\n  e = EyeLike <k = 1> (m)\n  y = Add (m, e)"],
    "Flatten": [f"y = Flatten <axis = {axis}> (x)" for axis in (1, 0, -1, 3)],
    "GRU": [
        ("<float[1, 9, 12] w, float[1, 9, 3] r>", "t = Transpose <perm = [1, 0, 2]> (x)\n"
         "  h, y = GRU <hidden_size = 3, linear_before_reset = 1> (t, w, r)"),
        ("<float[2, 9, 12] w, float[2, 9, 3] r, float[2, 18] b>", "t = Transpose <perm = [1, 0, 2]> (x)\n"
         "  y = GRU <hidden_size = 3, direction = \"bidirectional\"> (t, w, r, b)"),
    ],
    "LSTM": [
        ("<float[1, 12, 12] w, float[1, 12, 3] r, float[1, 24] b>", "t = Transpose <perm = [1, 0, 2]> (x)\n"
         "  h, l, y = LSTM <hidden_size = 3> (t, w, r, b)"),
        ("<float[2, 12, 12] w, float[2, 12, 3] r>", "t = Transpose <perm = [1, 0, 2]> (x)\n"
         "  y = LSTM <hidden_size = 3, direction = \"bidirectional\"> (t, w, r)"),
    ],
    "RNN": [
        ("<float[1, 3, 12] w, float[1, 3, 3] r, float[1, 6] b>", "t = Transpose <perm = [1, 0, 2]> (x)\n"
         "  y = RNN <hidden_size = 3, direction = \"reverse\"> (t, w, r, b)"),
        ("<float[1, 3, 12] w, float[1, 3, 3] r>", "t = Transpose <perm = [1, 0, 2]> (x)\n"
         "  y = RNN <hidden_size = 3, activations = [\"Relu\"]> (t, w, r)"),
    ],
    "Gather": [
        ("<int64[3] i = {2, 0, -1}>", "y = Gather <axis = 1> (x, i)"),
        ("<int64 i = {-1}>", "y = Gather <axis = 2> (x, i)"),
    ],
    "GatherElements": ["i = ArgMax <axis = 2> (x)\n  y = GatherElements <axis = 2> (x, i)"],
    "GatherND": ["i = ArgMax <axis = 2> (x)\n  y = GatherND <batch_dims = 2> (x, i)"],
    "Gelu": ["y = Gelu (x)", "y = Gelu <approximate = \"tanh\"> (x)"],
    "Gemm": [("<float[48, 3] w, float[3] b>", "f = Flatten (x)\n  y = Gemm <alpha = 0.5, beta = 2.0> (f, w, b)")],
    "GlobalAveragePool": ["y = GlobalAveragePool (x)"],
    "GlobalMaxPool": ["y = GlobalMaxPool (x)"],
    "GroupNormalization": [("<float[2] s, float[2] o>", "y = GroupNormalization <num_groups = 2> (x, s, o)")],
    "HardSigmoid": ["y = HardSigmoid <alpha = 0.3> (x)"],
    "Hardmax": ["y = Hardmax (x)", "y = Hardmax <axis = 1> (x)"],
    "Identity": ["y = Identity (x)"],
    "InstanceNormalization": [("<float[4] s, float[4] o>", "y = InstanceNormalization (x, s, o)")],
    "IsInf": ["y = IsInf (x)", "y = IsInf <detect_negative = 0> (x)"],
    "LayerNormalization": [("<float[12] s, float[12] o>", "y = LayerNormalization (x, s, o)"),
                           ("<float[4, 12] s>", "y = LayerNormalization <axis = 1> (x, s)")],
    "LeakyRelu": ["y = LeakyRelu <alpha = 0.2> (x)"],
    "LogSoftmax": ["y = LogSoftmax (x)", "y = LogSoftmax <axis = 1> (x)"],
    "LpNormalization": ["y = LpNormalization <axis = 1, p = 1> (x)"],
    "MatMul": [("<float[12, 5] w>", "y = MatMul (x, w)"), "t = Transpose <perm = [0, 2, 1]> (x)\n  y = MatMul (x, t)"],
    "Max": ["y = Max (x, x)"],
    "MaxPool": [
        "y = MaxPool <kernel_shape = [3], strides = [2], pads = [0, 2]> (x)",
        "y = MaxPool <kernel_shape = [5], strides = [3], pads = [4, 4], ceil_mode = 1> (x)",
        "y = MaxPool <kernel_shape = [3], dilations = [2], ceil_mode = 1, strides = [4]> (x)",
    ],
    "Mean": ["y = Mean (x, x, x)"],
    "MeanVarianceNormalization": ["y = MeanVarianceNormalization <axes = [2]> (x)"],
    "Min": ["n = Neg (x)\n  y = Min (x, n)"],
    "Mod": ["y = Mod <fmod = 1> (x, x)", f"{WHOLE}\n  part = Constant <value_int = 3> ()\n  y = Mod (i, part)"],
    "OneHot": [("<int64 d = {12}, float[2] v>", "i = ArgMax <axis = 2, keepdims = 0> (x)\n  y = OneHot (i, d, v)")],
    "PRelu": [("<float[4, 1] s>", "y = PRelu (x, s)")],
    "Pad": [
        ("<int64[6] p = {0, 1, 2, 0, 0, -1}, float v = {1.5}>", "y = Pad (x, p, v)"),
        ("<int64[2] p = {3, 2}, int64[1] a = {-1}>", "y = Pad <mode = \"reflect\"> (x, p, , a)"),
        ("<int64[2] p = {3, 2}, int64[1] a = {2}>", "y = Pad <mode = \"edge\"> (x, p, , a)"),
        ("<int64[2] p = {3, 2}, int64[1] a = {2}>", "y = Pad <mode = \"wrap\"> (x, p, , a)"),
    ],
    "Pow": [("<float e = {2.0}>", "y = Pow (x, e)"), ("<int64 e = {3}>", "y = Pow (x, e)"),
            ("<float[2] e = {2.0, 3.0}>", "t = Unsqueeze (x, three)\n  y = Pow (t, e)")],
    "Range": [("<int64 a = {0}, int64 n = {12}, int64 d = {1}>",
               "r = Range (a, n, d)\n  f = Cast <to = 1> (r)\n  y = Add (x, f)")],
    "Reshape": [
        ("<int64[2] s = {0, 48}>", "y = Reshape (x, s)"),
        ("<int64[2] s = {0, -1}>", "y = Reshape (x, s)"),
        ("<int64[3] s = {-1, 2, 24}>", "y = Reshape (x, s)"),
        ("<int64[3] s = {0, 2, -1}>", "y = Reshape (x, s)"),
        "s = Shape <start = 0, end = 1> (x)\n  n = Constant <value_ints = [-1]> ()\n"
        "  w = Concat <axis = 0> (s, n)\n  y = Reshape (x, w)",
    ],
    "Resize": [
        (UPS, "y = Resize <mode = \"linear\"> (x, , up)"),
        (UPS, "y = Resize <coordinate_transformation_mode = \"asymmetric\", nearest_mode = \"floor\"> (x, , up)"),
        ("<int64[1] s = {5}>", "y = Resize <axes = [2], mode = \"nearest\"> (x, , , s)"),
    ],
    "ReverseSequence": [("<int64[4] l = {4, 1, 3, 2}>", "t = Transpose <perm = [1, 2, 0]> (x)\n"
                         "  y = ReverseSequence <batch_axis = 0, time_axis = 1> (t, l)")],
    "STFT": [("<int64 h = {4}, float[8] w>", "a = Constant <value_ints = [-1, 12, 1]> ()\n  s = Reshape (x, a)\n"
              "  y = STFT (s, h, w)")],
    "Scatter": [],  # deprecated since opset 11: the node tests have it
    "ScatterElements": ["i = ArgMax <axis = 2> (x)\n  n = ReduceMin (x, twos)\n  y = ScatterElements <axis = 2> (x, i, n)"],
    "LogMatrix": [],  # a function of our own: tests/graphs/test_functions.py
    "ScatterND": [],  # its indices count from the first axis, the batch: see test_scatter_nd
    "Selu": ["y = Selu (x)"],
    "Shape": ["y = Shape (x)", "y = Shape <start = 1> (x)"],
    "Shrink": ["y = Shrink <lambd = 0.3, bias = 0.1> (x)"],
    "Size": ["y = Size (x)"],
    "Slice": [
        ("<int64[1] a = {1}, int64[1] b = {9}, int64[1] c = {2}, int64[1] d = {3}>", "y = Slice (x, a, b, c, d)"),
        ("<int64[1] a = {-1}, int64[1] b = {-99}, int64[1] c = {2}, int64[1] d = {-2}>", "y = Slice (x, a, b, c, d)"),
    ],
    "Softmax": ["y = Softmax (x)", "y = Softmax <axis = 1> (x)"],
    "Softplus": ["y = Softplus (x)"],
    "Split": [("<int64[2] s = {3, 9}>", "a, y = Split <axis = 2> (x, s)"), "y, a = Split <axis = 1, num_outputs = 2> (x)"],
    "Squeeze": ["m = ReduceMax (x, twos)\n  y = Squeeze (m, twos)"],
    "Sum": ["y = Sum (x, x, x)"],
    "ThresholdedRelu": ["y = ThresholdedRelu <alpha = 0.3> (x)"],
    "Tile": [("<int64[3] r = {1, 2, 3}>", "y = Tile (x, r)")],
    "TopK": [("<int64[1] k = {3}>", "y, i = TopK (x, k)"),
             ("<int64[1] k = {2}>", "v, y = TopK <largest = 0, axis = 1> (x, k)")],
    "Transpose": ["y = Transpose (x)", "y = Transpose <perm = [0, 2, 1]> (x)"],
    "Trilu": ["y = Trilu (x)", "y = Trilu <upper = 0> (x)"],
    "Unsqueeze": [("<int64[2] a = {0, -1}>", "y = Unsqueeze (x, a)")],
    "Upsample": [],  # deprecated since opset 10: the node tests have it
    "Where": [("<float z = {0.0}>", "c = Greater (x, z)\n  y = Where (c, x, z)")],
}  # fmt: skip
NOT_IN_ENGINE = {"BitwiseNot", "HardSwish"}
TOLERANCE = {"DFT": 5e-5, "STFT": 5e-5}  # onnxruntime sums them naively in float32
ABORTS_ON_NOTHING = {"GRU", "LSTM", "RNN"}  # onnxruntime 1.32 ends the process on an empty batch
OLD = release(onnxruntime.__version__) < (1, 32)
UNASKED = {"ArgMax", "Einsum", "OneHot", "TopK"} if OLD else set()  # there it ends on these too, or gives another shape
KINDS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}


def forms_of(op):
    """Return (declarations, body) of each small graph of an operator."""
    if op in UNARY:
        forms = ["z = Cast <to = 9> (x)\n  y = Not (z)" if op == "Not" else f"y = {op} (x)"]
    elif op in LOGICAL:
        forms = [f"b = Cast <to = 9> (x)\n  n = Not (b)\n  y = {op} (b, n)"]
    elif op in BINARY:
        forms = [f"y = {op} (x, x)", f"m = ReduceMax (x, twos)\n  y = {op} (x, m)"]
    elif op in REDUCTIONS:
        forms = [f"y = {op} (x, twos)", f"y = {op} <keepdims = 0> (x, both)"]
    else:
        forms = FORMS[op]
    return [("", form) if isinstance(form, str) else form for form in forms]


def model_of(declared, body):
    """Return a model from x (batch, 4, 12) to y, whose type onnx infers."""
    wanted = {"two", "twos", "both", "three"} & set(body.replace(",", " ").replace(")", " ").split())
    values = {"two": "{2}", "twos": "{2}", "both": "{1, 2}", "three": "{3}"}
    sizes = {"both": 2}
    more = [f"int64[{sizes.get(name, 1)}] {name} = {values[name]}" for name in sorted(wanted)]
    inner = ", ".join([*([declared[1:-1]] if declared else []), *more])
    text = '<ir_version: 9, opset_import: ["" : 20]>\n'
    text += f"one (float[N, 4, 12] x) => (y)\n<{inner}>\n{{\n  {body}\n}}" if inner else (
        f"one (float[N, 4, 12] x) => (y)\n{{\n  {body}\n}}")  # fmt: skip
    return with_weights(text)


def in_onnxruntime(model, x):
    """Return onnxruntime's answer, or None where it has none."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, {"x": x})[0]
    except Exception:
        return None


@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_operator_at_every_batch(op):
    for declared, body in forms_of(op):
        model = onnx.shape_inference.infer_shapes(model_of(declared, body))
        program, _, (name,) = program_of(model)
        sizes = ()
        for batch in (5, 1) if op in UNASKED else (5, 1, 0):
            x = np.random.default_rng(batch).uniform(-2, 2, (batch, 4, 12)).astype("f4")
            with torch.inference_mode():
                got = program.trace(torch.from_numpy(x))[name].numpy()
            expected = None if batch == 0 and op in ABORTS_ON_NOTHING else in_onnxruntime(model, x)
            if expected is None:  # an operator, or an empty batch, that onnxruntime does not take: the shape is known
                assert batch == 0 or op in NOT_IN_ENGINE, (body, batch)
                expected = np.empty([0 if n == 5 else n for n in sizes], got.dtype) if batch == 0 else got
            sizes = sizes or got.shape
            assert got.shape == expected.shape, (body, batch)
            assert got.dtype == expected.dtype, (body, batch)
            tolerance = TOLERANCE.get(op, 2e-6)
            np.testing.assert_allclose(got, expected, rtol=2e-5, atol=tolerance, err_msg=f"{body} at batch {batch}")
