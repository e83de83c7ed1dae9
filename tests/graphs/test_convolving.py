"""Lean convolutions in float64 against torch's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rtserve.graphs import convolving
from rtserve.graphs.convolving import LeanConvolutions


def both(x, w, *rest):
    """Torch's own answer and the lean one."""
    function = F.conv1d if w.dim() == 3 else F.conv2d
    with torch.inference_mode():
        plain = function(x, w, *rest)
        with LeanConvolutions():
            return plain, function(x, w, *rest)


def drawn(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(
    seed=st.integers(0, 99),
    rows=st.integers(1, 5),
    channels=st.integers(1, 9),
    filters=st.integers(1, 9),
    taps=st.integers(1, 70),
    gap=st.integers(1, 3),
    pad=st.integers(0, 40),
    extra=st.integers(0, 60),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
    flat=st.booleans(),
    biased=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_they_are_torchs_sums(seed, rows, channels, filters, taps, gap, pad, extra, scale, flat, biased):
    width = max(1, gap * (taps - 1) + 1 - 2 * pad) + extra
    x, w = scale * drawn(seed, 2, channels, rows, width), drawn(seed + 1, filters, channels, 1, taps)
    x[0, :, 0, : width // 2] = 0.0
    bias = drawn(seed + 2, filters) if biased else None
    rest = (1, pad, gap) if flat else (1, (0, pad), (1, gap))
    plain, lean = both(*((x[:, :, 0], w[:, :, 0]) if flat else (x, w)), bias, *rest)
    assert plain.shape == lean.shape
    assert (plain - lean).abs().max() <= 1e-13 * (1 + x.abs().max()) * w.abs().sum()


@given(
    seed=st.integers(0, 99),
    groups=st.integers(1, 4),
    per_group=st.integers(1, 3),
    filters=st.integers(1, 3),
    taps=st.integers(1, 9),
    stride=st.integers(1, 3),
    gap=st.integers(1, 3),
    pad=st.integers(0, 4),
    extra=st.integers(0, 20),
    rows=st.integers(1, 3),
    upright=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_strides_groups_and_either_axis(seed, groups, per_group, filters, taps, stride, gap, pad, extra, rows, upright):
    width = max(1, gap * (taps - 1) + 1 - 2 * pad) + extra
    x, w = drawn(seed, 3, groups * per_group, rows, width), drawn(seed + 1, groups * filters, per_group, 1, taps)
    rest = ((1, stride), (0, pad), (1, gap))
    if upright:
        x, w, rest = x.transpose(2, 3), w.transpose(2, 3), tuple(pair[::-1] for pair in rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolving, "UNFOLDED", 300)
        plain, lean = both(x, w, drawn(seed + 2, groups * filters), *rest, groups)
    assert plain.shape == lean.shape
    assert torch.allclose(plain, lean, rtol=0, atol=1e-12 * (1 + w.abs().sum()))


def long_kernel(x):
    """A kernel for which the spectrum pays."""
    return both(x, drawn(1, 32, 8, 1, 64), None, 1, (0, 32))


def test_a_window_of_zeros_gives_zero_and_the_spectrum_was_used(monkeypatch):
    used = []
    spectrum = convolving._by_spectrum
    monkeypatch.setattr(convolving, "_by_spectrum", lambda *given: used.append(1) or spectrum(*given))
    x = drawn(0, 2, 8, 3, 300)
    x[0, :, 1, 100:250] = 0.0
    plain, lean = long_kernel(x)
    assert used
    assert torch.equal(plain == 0, lean == 0)
    assert (lean[0, :, 1] == 0).any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_where_it_is(bad):
    x = drawn(0, 2, 8, 3, 300)
    x[1, 4, 2, 150] = bad
    plain, lean = long_kernel(x)
    assert torch.equal(plain.isnan(), lean.isnan())
    assert torch.equal(plain.isinf(), lean.isinf())
    fine = plain.isfinite()
    assert torch.allclose(plain[fine], lean[fine], rtol=0, atol=1e-10)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_few_filters_are_computed_in_blocks_where_all_is_finite(monkeypatch, bad):
    used = []
    blocks = convolving._in_blocks
    monkeypatch.setattr(convolving, "_in_blocks", lambda *given: used.append(1) or blocks(*given))
    monkeypatch.setattr(convolving, "UNFOLDED", 20_000)
    x, w = drawn(0, 3, 1, 5, 203), drawn(1, 8, 1, 1, 64)
    x[1, 0, 2, 150] = bad
    plain, lean = both(x, w, drawn(2, 8), 1, (0, 31))
    assert len(used) == (bad == 0.0)
    assert torch.equal(plain.isfinite(), lean.isfinite())
    fine = plain.isfinite()
    assert torch.allclose(plain[fine], lean[fine], rtol=0, atol=1e-11)


@pytest.mark.parametrize("loud", [1e8, 1e12])
def test_a_spike_is_not_heard_in_windows_that_do_not_hold_it(loud):
    x = 1e-3 * drawn(0, 1, 8, 2, 400)
    x[0, 3, 0, 20] = loud
    plain, lean = long_kernel(x)
    assert (plain[..., 200:] - lean[..., 200:]).abs().max() <= 1e-12


def test_a_large_batch_goes_in_parts_and_a_whole_column_is_one_product(monkeypatch):
    monkeypatch.setattr(convolving, "UNFOLDED", 1000)
    plain, lean = both(drawn(0, 7, 4, 5, 30), drawn(1, 6, 2, 3, 4), drawn(2, 6), (2, 1), (1, 2), (1, 2), 2)
    assert torch.allclose(plain, lean, rtol=0, atol=1e-12)
    plain, lean = both(drawn(0, 3, 4, 5, 30), drawn(1, 8, 2, 5, 1), drawn(2, 8), 1, 0, 1, 2)
    assert torch.allclose(plain, lean, rtol=0, atol=1e-12)


def test_transforms_have_the_next_length_that_is_fast():
    from scipy.fft import next_fast_len

    lengths = range(1, 700)
    assert [convolving._fast_length(n) for n in lengths] == [next_fast_len(n, real=True) for n in lengths]
