"""Long filters by waves: the transforms as they are written, and convolutions that are computed so."""

import re

import numpy as np
import onnx
import pytest

from rtserve.native.build import build
from rtserve.native.compiler import best_level, levels_here
from rtserve.native.costs import CACHE_BYTES
from rtserve.native.fast import choose
from rtserve.native.flow import Operation
from rtserve.native.generate import generate
from rtserve.native.load import NativeModule
from rtserve.native.waves import LENGTHS, Wave, cosines, outputs_text, window_text
from tests.native.test_operators import flow_of
from tests.runtime.test_batches import in_onnxruntime, with_weights

FORMS = {
    "one line": ("y = Conv <pads = [12, 12]> (u, w, b)", "float[40, 20, 25] w, float[40] b"),
    "no tile is whole": ("y = Conv (u, w)", "float[33, 20, 25] w"),
    "phases": ("y = Conv <strides = [3], pads = [20, 19]> (u, w, b)", "float[32, 20, 40] w, float[32] b"),
    "groups": ("y = Conv <group = 2, pads = [9, 0]> (u, w)", "float[50, 10, 24] w"),
    "lines": (
        "v = Reshape (u, s)\n  c = Conv <pads = [0, 8, 0, 8]> (v, w, b)\n  y = Relu (c)",
        "int64[4] s = {1, 20, 3, 80}, float[48, 20, 1, 20] w, float[48] b",
    ),
}
"""Convolutions of 20 channels of 240 samples."""


def model_of(how):
    body, declared = FORMS[how]
    return onnx.shape_inference.infer_shapes(with_weights(
        '<ir_version: 9, opset_import: ["" : 20]>\none (float[N, 4, 240] x) => (y)\n'
        f"<float[20, 4, 1] first, {declared}>\n{{\n  u = Conv (x, first)\n  {body}\n}}"
    ))  # fmt: skip


def written(model, **options):
    return generate(flow_of(model, (4, 240)), **options)


def run(lines, numbers):
    """Run statements on Python's numbers: every one is a name and what it is."""
    for line in lines:
        exec(re.sub(r"(\d)f\b", r"\1", line.removeprefix("const rt_vec ")), numbers)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("taps", [1, 7])
def test_the_statements_are_a_filter(n, taps):
    wave, rng = Wave(n=n, q=taps), np.random.default_rng(n)
    x, w = rng.standard_normal(n), rng.standard_normal(taps)
    parts, products, found = {}, [], {}
    kept = {"rt_load": lambda at: x[at], "rt_store": parts.__setitem__, "p": 0, "v": 0, "step": 1, "point": 1}
    run(window_text(n), kept)
    table = cosines(n)
    for k in range(wave.waves):
        angles = [(4 * k + 1) * j % (2 * n) for j in range(taps)]
        factor = sum(one * (table[a] + 1j * table[a - n // 2]) for one, a in zip(w, angles, strict=True)) / wave.waves
        product = (parts[2 * k] + 1j * parts[2 * k + 1]) * factor
        products += [product.real, product.imag]
    kept |= {"rt_load": lambda at: products[at], "rt_put": lambda q, ldo, t, value, *_: found.__setitem__(t, value)}
    run(outputs_text(n, wave.m), kept | {"q": 0, "ldo": 1, "offset": 0.0, "part": 0, "relu": 0, "n": n})
    np.testing.assert_allclose([found[t] for t in range(wave.m)], np.correlate(x, w, "valid"), rtol=0, atol=1e-12)


@pytest.mark.tools
@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
@pytest.mark.parametrize("how", FORMS)
def test_convolutions_by_waves_give_onnxruntimes_numbers(how, level):
    if levels_here().index(level) > levels_here().index(best_level()):
        pytest.skip(f"this processor has no {level.name}")
    model = model_of(how)
    found = written(model, shared=True)
    assert "rt_pack_wave(" in found.source
    assert "RT_WAVES(" not in written(model, tiles=False).source
    built = build(found, levels=[level])
    module, pair = NativeModule.of(built), NativeModule.of(built, threads=2)
    for scale in (1e-6, 1.0, 1e2):
        x = scale * np.random.default_rng(2).standard_normal((2, 4, 240)).astype("f4")
        wanted = np.stack([in_onnxruntime(model, one[None]).reshape(-1) for one in x])
        np.testing.assert_allclose(module.infer(x), wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())
        assert pair.infer(x[:1]).tobytes() == module.infer(x[:1]).tobytes()


def planned(*, streamed):
    operation = Operation(op="Conv", inputs=("x", "w"), outputs=("y",), attrs={})
    return choose(operation, np.zeros((40, 129, 25), np.float32), (1, 40, 176), 2, tiles=True, streamed=streamed)


def test_tiles_of_waves_are_shorter_where_their_weights_have_to_arrive():
    near, far = planned(streamed=False), planned(streamed=True)
    assert isinstance(near.fast.tile, Wave)
    assert isinstance(far.fast.tile, Wave)
    assert far.fast.tile.n < near.fast.tile.n
    assert near.packed > CACHE_BYTES
    assert near.packed / far.packed == near.fast.tile.n / far.fast.tile.n
