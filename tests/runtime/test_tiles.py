"""A convolution by tiles is the convolution, in single precision too, and what is not finite stays where it is."""

import copy
import pickle  # noqa: TID251  (what was just pickled here)

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rtserve.runtime import tiles
from rtserve.runtime.executor import PlanModule
from rtserve.runtime.rows import as_rows
from rtserve.runtime.tiles import Tiles, filters_of, points_of, tiles_of

FILTERS, CHANNELS, TAPS, TIMES = 160, 64, 9, 200
"""A convolution that tiles are ahead for."""


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def never(_x):
    raise AssertionError("torch's own convolution was asked")


@settings(max_examples=60)
@given(st.data())
def test_tiles_are_the_convolution(data):
    whole = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    taps = whole(2, 30)
    stride, batch, steps, before = whole(1, (taps + 1) // 2), whole(1, 3), whole(1, 23), whole(0, 4)
    times = max((steps - 1) * stride + taps - before - whole(0, 4), 1)
    weight, x = noise(6, 3, taps), noise(batch, 3, times, seed=1)
    bias = noise(6, seed=2) if whole(0, 1) else None
    behind = (steps - 1) * stride + taps - before - times
    expected = F.conv1d(F.pad(x, (before, max(behind, 0))), weight, bias, stride)
    steps = expected.shape[2]
    got = Tiles(weight, bias, stride, before)(x.transpose(1, 2), steps)
    torch.testing.assert_close(got.transpose(1, 2), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("taps", [2, 5, 7, 12, 25, 64])
def test_every_tap_is_in_one_filter(taps, stride):
    found = filters_of(taps, stride) if stride <= taps else []
    assert sorted(tap for its in found for tap in its) == (list(range(taps)) if stride <= taps else [])
    assert all(0 < len(its) <= tiles.TAPS and len({tap % stride for tap in its}) == 1 for its in found)
    assert points_of(taps, stride) >= tiles.OUTPUTS


@pytest.mark.parametrize("taps", [4, 7, 25, 60])
def test_single_precision_loses_little(taps):
    weight, x = noise(32, 24, taps, dtype=torch.float32), noise(2, 24, 150, dtype=torch.float32)
    exact = F.conv1d(x.double(), weight.double())
    got = Tiles(weight, None, 1, 0)(x.transpose(1, 2), exact.shape[2]).transpose(1, 2)
    assert (got - exact).abs().max() < 4e-6 * exact.abs().max()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_what_is_not_finite_stays_where_it_is(value):
    weight, x = noise(FILTERS, CHANNELS, TAPS, dtype=torch.float32), noise(1, CHANNELS, TIMES, dtype=torch.float32)
    x[0, 3, 100] = value
    asked = []

    def convolve(x):
        asked.append(x)
        return F.conv1d(x, weight)

    got, expected = as_rows(weight, None, 1, 1, 1, (0, 0), convolve)(x), F.conv1d(x, weight)
    torch.testing.assert_close(torch.isfinite(got), torch.isfinite(expected))
    assert len(asked) == 1


def test_tiles_are_taken_where_they_are_ahead():
    weight, x = noise(FILTERS, CHANNELS, TAPS), noise(1, CHANNELS, TIMES)
    expected = F.conv1d(F.pad(x, (2, 5)), weight, None, 2)
    torch.testing.assert_close(as_rows(weight, None, 1, 2, 1, (2, 5), never)(x), expected)
    found = tiles_of(weight, None, 1, 2, 1, 2)
    assert found.ahead(1, expected.shape[2])
    assert not found.ahead(1, 2)
    assert not found.ahead(1000, expected.shape[2])


@pytest.mark.parametrize(
    ("shape", "groups", "stride", "dilation"),
    [
        ((160, 64, 9), 2, 1, 1),
        ((160, 64, 9), 1, 1, 2),
        ((160, 64, 9), 1, 10, 1),
        ((160, 64, 9), 1, 9, 1),  # one tap of each phase
        ((160, 64, 1), 1, 1, 1),
        ((16, 16, 9), 1, 1, 1),  # little work
        ((400, 300, 25), 1, 1, 1),  # more weights than a cache holds
    ],
)
def test_others_have_none(shape, groups, stride, dilation):
    assert tiles_of(torch.zeros(shape), None, groups, stride, dilation, 0) is None


def test_gradients_copies_traces_and_other_types_are_as_before(monkeypatch):
    plan = {"schema": "rtserve.plan/1", "opset": 20, "input": "x", "output": "y", "tensors": ["w", "b"], "sizes": {}}
    plan["nodes"] = [{"op": "Conv", "inputs": ["x", "w", "b"], "outputs": ["y"], "attrs": {"pads": [4, 4]}}]
    weight, bias = noise(FILTERS, CHANNELS, TAPS, dtype=torch.float32), noise(FILTERS, dtype=torch.float32)
    module, x = PlanModule(plan, {"w": weight, "b": bias}).eval(), noise(1, CHANNELS, TIMES, dtype=torch.float32)
    expected, close = F.conv1d(x, weight, bias, padding=4), {"rtol": 1e-4, "atol": 1e-3}
    served, plain = [], Tiles.__call__
    monkeypatch.setattr(Tiles, "__call__", lambda *given: served.append(1) or plain(*given))
    with torch.inference_mode():
        torch.testing.assert_close(module(x), expected, **close)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(twin(x), expected, **close)
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    module(leaf).square().sum().backward()
    F.conv1d(other, weight, bias, padding=4).square().sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-4, atol=1e-4 * float(other.grad.abs().max()))
    assert len(served) == 4
    traced = torch.jit.trace(module, (torch.cat([x, x]),), check_trace=False)
    torch.testing.assert_close(traced(x), expected, **close)
    both = torch.func.vmap(module)(torch.stack([x, -x]))
    torch.testing.assert_close(both[0], expected, **close)
    torch.testing.assert_close(
        module.double()(x.double()), F.conv1d(x.double(), weight.double(), bias.double(), padding=4)
    )
    assert len(served) == 4
