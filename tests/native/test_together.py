"""Few outputs: neighbours in time are computed at once; and two kernels for a channel read its samples where they are."""

import numpy as np
import pytest

from rtserve.native.build import build
from rtserve.native.compiler import levels_here
from rtserve.native.load import NativeModule
from rtserve.native.together import positions_together
from tests.native.test_layout import generated
from tests.runtime.test_batches import in_onnxruntime

SHAPES = [
    (8, 16, "strides = [1], pads = [8, 7]", 2),
    (8, 17, "strides = [2], pads = [8, 8]", 2),
    (8, 17, "strides = [2], pads = [8, 6]", 2),  # 19 positions
    (8, 16, "strides = [2], dilations = [2], pads = [15, 15]", 2),
    (8, 9, "dilations = [2], pads = [8, 8]", 1),
    (8, 12, "strides = [1], pads = [3, 0]", 2),
    (3, 32, "strides = [1], pads = [16, 15]", 4),
    (40, 25, "strides = [1], pads = [12, 12]", 1),
    (40, 3, "strides = [1], pads = [1, 1]", 1),
    (1, 16, "strides = [3], pads = [7, 8]", 1),
]


def runs_like_onnxruntime(found, model):
    rng = np.random.default_rng(2)
    for level in levels_here():
        module = NativeModule.of(build(found, levels=[level]))
        for n in (1, 3):
            x = rng.standard_normal((n, 4, 40)).astype("f4")
            wanted = np.stack([in_onnxruntime(model, one[None]).reshape(-1) for one in x])
            np.testing.assert_allclose(module.infer(x), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.tools
@pytest.mark.parametrize(("outputs", "taps", "places", "at_once"), SHAPES)
def test_positions_at_once_give_the_numbers_of_one_by_one(outputs, taps, places, at_once):
    body = f"a = Conv <{places}> (x, w, b)\n  r = Relu (a)\n  y = Neg (r)"
    found, model = generated(body, f"float[{outputs}, 4, {taps}] w, float[{outputs}] b")
    assert f", {at_once * outputs}, packed" in found.source
    runs_like_onnxruntime(found, model)


@pytest.mark.tools
@pytest.mark.parametrize("kernels", [(8, 1, 16, 1), (5, 1, 10, 2), (6, 1, 18, 1), (12, 3, 24, 2)])
def test_filters_on_rows_then_two_kernels_for_a_channel(kernels):
    """The front of many networks: filters along time on every electrode, then electrodes, and then along time again."""
    filters, spread, outputs, rows = kernels
    body = (
        "u = Unsqueeze (x, k)\n  a = Conv <pads = [0, 7, 0, 8]> (u, w)\n  e = Elu (a)\n"
        f"  s = Conv <group = {filters}, strides = [{rows}, 1]> (e, v, b)\n"
        f"  y = Conv <group = {outputs}, pads = [0, {spread}, 0, {spread}]> (s, h)"
    )
    declared = f"float[{filters}, 1, 1, 16] w, float[{outputs}, 1, {4 // rows * rows}, 1] v, float[{outputs}] b,"
    found, model = generated(body, f"{declared} float[{2 * outputs}, 1, 1, 5] h, int64[1] k = {{1}}")
    assert (", 2)" in found.source) == (outputs == 2 * filters or 2 * outputs > outputs)
    runs_like_onnxruntime(found, model)


@pytest.mark.tools
def test_without_tiles_every_position_reads_its_own_samples_alone():
    """So a window with NaN beside what the answer reads has an answer, in code that is written without tiles."""
    body = "a = Conv <pads = [8, 7]> (x, w, b)\n  y = Slice (a, s, e, k)"
    declared = "float[8, 4, 16] w, float[8] b, int64[1] s = {0}, int64[1] e = {20}, int64[1] k = {2}"
    found, model = generated(body, declared, tiles=False)
    assert ", 16, packed" not in found.source
    x = np.random.default_rng(2).standard_normal((1, 4, 40)).astype("f4")
    x[0, 1, 27] = np.nan  # the last position of the answer reads samples 11 to 26
    module = NativeModule.of(build(found, levels=levels_here()[:1]))
    np.testing.assert_allclose(module.infer(x)[0], in_onnxruntime(model, x).reshape(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "taps", "step", "at_most", "wanted"),
    [(8, 16, 1, 40, 2), (16, 16, 1, 40, 1), (8, 4, 1, 40, 1), (8, 16, 1, 1, 1), (4, 24, 1, 40, 4), (8, 16, 4, 40, 1)],
)
def test_how_many_positions(channels, taps, step, at_most, wanted):
    n, vectors = positions_together(channels, taps, step, at_most)
    assert n == wanted
    assert vectors <= -(-channels // 16)
