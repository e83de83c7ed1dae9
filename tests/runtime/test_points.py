"""Tiles of a filter give the filter's outputs, exactly."""

from fractions import Fraction

import numpy as np
import pytest

from rtserve.runtime.points import MOST_POINTS, tile_of

SIZES = [(m, q) for m in range(2, 8) for q in range(1, 8) if 3 <= m + q - 1 <= MOST_POINTS]


@pytest.mark.parametrize(("m", "q"), SIZES)
def test_tile_is_the_filter_in_exact_numbers(m, q):
    rng = np.random.default_rng([m, q])
    one = tile_of(m, q)
    g = [Fraction(int(v)) for v in rng.integers(-9, 10, q)]
    d = [Fraction(int(v)) for v in rng.integers(-9, 10, m + q - 1)]
    products = [
        sum(a * b for a, b in zip(taps, g, strict=True)) * sum(a * b for a, b in zip(window, d, strict=True))
        for taps, window in zip(one.taps, one.window, strict=True)
    ]
    got = [sum(a * b for a, b in zip(row, products, strict=True)) for row in one.outputs]
    assert got == [sum(g[k] * d[i + k] for k in range(q)) for i in range(m)]


@pytest.mark.parametrize(("m", "q"), SIZES)
def test_tile_loses_little_in_single_precision(m, q):
    rng = np.random.default_rng([m, q])
    window, taps, outputs = (
        np.array([[float(v) for v in row] for row in rows])
        for rows in (tile_of(m, q).window, tile_of(m, q).taps, tile_of(m, q).outputs)
    )
    g, d = rng.standard_normal((q, 64)).astype("f4"), rng.standard_normal((m + q - 1, 64)).astype("f4")
    products = ((taps @ g).astype("f4") * (window.astype("f4") @ d)).sum(axis=1, dtype="f4")
    wanted = np.array([(g.astype("f8") * d[i : i + q]).sum() for i in range(m)])
    assert np.abs(outputs.astype("f4") @ products - wanted).max() < 1e-5 * np.sqrt(64 * q)
