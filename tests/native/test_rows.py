"""Softmax of many short rows, which are taken side by side."""

import numpy as np
import pytest

from rtserve.native.build import build
from rtserve.native.compiler import best_level, levels_here
from rtserve.native.load import NativeModule
from tests.native.test_layout import generated
from tests.runtime.test_batches import in_onnxruntime

pytestmark = pytest.mark.tools


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
@pytest.mark.parametrize("n", [2, 7, 16])
def test_every_row_is_as_it_is_alone(n, level):
    if levels_here().index(level) > levels_here().index(best_level()):
        pytest.skip(f"this processor has no {level.name}")
    rows = 160 // n
    declared = f"int64[1] z = {{0}}, int64[1] m = {{{rows * n}}}, int64[1] k = {{1}}, int64[2] f = {{1, 160}}"
    found, model = generated(
        "a = Reshape (x, f)\n  b = Slice (a, z, m, k)\n  c = Reshape (b, s)\n  d = Softmax <axis = -1> (c)\n  y = Neg (d)",
        f"{declared}, int64[3] s = {{1, {rows}, {n}}}", shared=True,
    )  # fmt: skip
    assert "rt_softmax_rows(" in found.source
    x = np.random.default_rng(3).standard_normal((1, 4, 40)).astype("f4") * 20
    x[0, 0, 0], x[0, 1, 3], x[0, 2, 2] = np.nan, np.inf, -np.inf
    built = build(found, levels=[level])
    got = NativeModule.of(built).infer(x)
    np.testing.assert_allclose(got.reshape(-1), in_onnxruntime(model, x).reshape(-1), rtol=1e-5, atol=1e-7)
    assert NativeModule.of(built, threads=2).infer(x).tobytes() == got.tobytes()
