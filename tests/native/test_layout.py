"""Where values and weights lie: whole vectors, one copy for all that read it, no more weights than the processor holds."""

import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rtserve.graphs.plan import read_model
from rtserve.native.build import build
from rtserve.native.compiler import best_level, levels_here
from rtserve.native.costs import BYTES_PER_NS, CACHE_BYTES, MACS_PER_NS
from rtserve.native.fast import choose
from rtserve.native.flow import Operation, read_flow
from rtserve.native.generate import generate
from rtserve.native.load import NativeModule
from tests.runtime.test_batches import in_onnxruntime, with_weights


def generated(body, declared="", **options):
    """Return the C of a graph from x (batch, 4, 40) to y, with its weights."""
    inner = f"<{declared}>" if declared else ""
    model = with_weights(
        f'<ir_version: 9, opset_import: ["" : 20]>\none (float[N, 4, 40] x) => (y)\n{inner}\n{{\n  {body}\n}}'
    )
    reader, plan = read_model(ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(model)))
    return generate(read_flow(plan, reader.tensors, (4, 40)), **options), model


def written(body, declared=""):
    return generated(body, declared)[0].source


def test_windows_put_together_are_each_whole_in_memory():
    """Views become one batch by a Concat over an axis of one sample; its neighbours' channels lie inside."""
    source = written(
        "t = Transpose <perm = [0, 2, 1]> (x)\n  a = Mul (t, t)\n  b = Transpose <perm = [0, 2, 1]> (a)\n"
        "  c = Unsqueeze (b, k)\n  d = Concat <axis = 1> (c, c, c)\n  y = ReduceMean <keepdims = 0> (d, k)",
        "int64[1] k = {1}",
    )
    assert "* 3]" not in source
    assert "+ 160)[i0]" in source  # the second begins behind the whole first


def test_a_relu_behind_parts_is_computed_on_the_way():
    source = written("a = Mul (x, x)\n  b = Concat <axis = 1> (a, x)\n  y = Relu (b)")
    assert source.count("= rt_relu(") == 2
    assert re.search(r"rt_relu\(+x\[\w+\] \* x", source)  # of the product itself, which is written nowhere else


@pytest.mark.tools
def test_parts_that_lie_differently_are_each_found():
    """A sum of one is an expression that is a view alone; beside a longer part of another order it is copied as it lies."""
    body = "a = Sum (x)\n  b = Conv <pads = [1, 1]> (x, w)\n  c = Abs (x)\n  y = Concat <axis = 1> (a, b, c)"
    found, model = generated(body, "float[8, 4, 3] w")
    module = NativeModule.of(build(found, levels=levels_here()[:1]))
    x = np.random.default_rng(2).standard_normal((2, 4, 40)).astype("f4")
    wanted = np.stack([in_onnxruntime(model, one[None]).reshape(-1) for one in x])
    np.testing.assert_allclose(module.infer(x), wanted, rtol=1e-5, atol=1e-5)  # the convolution is by tiles


def test_convolutions_of_one_value_share_its_copy_and_equal_weights():
    declared = "float[96, 4, 7] w, int64[1] s = {3}, int64[1] e = {37}, int64[1] k = {2}"
    body = (
        "a = Conv <pads = [0, 0]> (x, w)\n  b = Conv <pads = [3, 3]> (x, w)\n  c = Slice (b, s, e, k)\n  y = Add (a, c)"
    )
    equal, one = written(body, declared), written("y = Conv <pads = [3, 3]> (x, w)", declared)
    assert equal.count("rt_transpose(x") == one.count("rt_transpose(x") == 1
    assert equal.count("rt_pack_point(") == one.count("rt_pack_point(") > 0


def planned(n_windows, *, streamed, tiles=True):
    operation = Operation(op="Conv", inputs=("x", "w"), outputs=("y",), attrs={"strides": [2], "group": 5})
    weight = np.zeros((640, 64, 3), np.float32)
    return choose(operation, weight, (n_windows, 640, 25), 2, tiles=tiles, streamed=streamed)


def test_tiles_are_not_taken_where_their_weights_take_longer_to_arrive():
    tiled, direct = planned(1, streamed=False), planned(1, streamed=True)
    assert tiled.fast is not None
    assert direct.fast is None
    assert planned(1, streamed=False, tiles=False) == direct
    assert tiled.packed / direct.packed == pytest.approx(11 / 3)  # points of tiles for three taps at a stride of two
    assert tiled.packed / BYTES_PER_NS > direct.packed * 25 / 4 / MACS_PER_NS  # 25 samples: all of direct's arithmetic
    assert planned(20, streamed=True).fast is not None  # many windows at once read them once
    assert direct.packed == 640 * 64 * 3 * 4
    assert tiled.packed > CACHE_BYTES


FEW = {
    "a head": ("f = Flatten (x)\n  y = Gemm <transB = 1> (f, w, b)", "float[3, 160] w, float[3] b"),
    "with a relu": ("f = Flatten (x)\n  g = Gemm <transB = 1> (f, w, b)\n  y = Relu (g)", "float[4, 160] w, float[4] b"),
    "of every channel": ("s = Constant <value_ints = [0, 2, 80]> ()\n  u = Reshape (x, s)\n  y = MatMul (u, w)",
                         "float[80, 2] w"),
}  # fmt: skip


@pytest.mark.tools
@pytest.mark.parametrize("how", FEW)
@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
def test_few_channels_take_their_k_a_vector_at_a_time(how, level):
    found, model = generated(*FEW[how])
    assert "RT_FEW(" in found.source
    assert "RT_LAYER(" not in found.source
    if levels_here().index(level) > levels_here().index(best_level()):
        pytest.skip(f"this processor has no {level.name}")
    module = NativeModule.of(build(found, levels=[level]))
    x = np.random.default_rng(1).standard_normal((5, 4, 40)).astype("f4")
    wanted = np.concatenate([in_onnxruntime(model, one[None]).reshape(1, -1) for one in x])
    np.testing.assert_allclose(module.infer(x), wanted, rtol=1e-5, atol=1e-5)
    x[2, 1, 7] = np.nan
    assert np.isnan(module.infer(x)).any(axis=1).tolist() == [False, False, True, False, False]
