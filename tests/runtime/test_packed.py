"""A convolution of several groups with its kernel laid out once is torch's convolution, and torch's own where it must be."""

import copy
import pickle  # noqa: TID251  (what was just pickled here)
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rtserve.runtime import packed
from rtserve.runtime.executor import PlanModule
from rtserve.runtime.packed import prepacked, serves

needed = pytest.mark.skipif(not serves(), reason="this torch lacks the operators")


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def module(groups=5, kernel=(16, 32, 5), pads=(2, 2)):
    plan = {"schema": "rtserve.plan/1", "opset": 20, "input": "x", "output": "y", "tensors": ["w", "b"], "sizes": {}}
    attrs = {"group": groups, "pads": list(pads), "strides": [2]}
    plan["nodes"] = [{"op": "Conv", "inputs": ["x", "w", "b"], "outputs": ["y"], "attrs": attrs}]
    weight = noise(groups * kernel[0], *kernel[1:])
    return PlanModule(plan, {"w": weight, "b": noise(len(weight))}).eval()


def expected(module, x, groups=5):
    return F.conv1d(x, module.get_buffer("w"), module.get_buffer("b"), stride=2, padding=2, groups=groups)


@pytest.fixture
def asked(monkeypatch):
    """Return how often torch's own convolution is asked."""
    serves()  # asks by itself, once
    calls, convolve = [], F.conv2d
    monkeypatch.setattr(packed.F, "conv2d", lambda *given: calls.append(1) or convolve(*given))
    return calls


@settings(max_examples=30)
@given(st.data())
def test_the_numbers_are_torchs(data):
    whole = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    groups, stride, dilation, taps, pad = whole(1, 9), whole(1, 3), whole(1, 2), whole(1, 7), whole(0, 4)
    weight, bias = noise(groups * whole(1, 20), whole(1, 20), 1, taps), None
    bias = noise(len(weight)) if whole(0, 1) else None
    sides = ((0, pad), (1, stride), (1, dilation), groups)
    call = prepacked(weight, bias, *sides)
    for batch in (whole(1, 5), whole(1, 5)):  # laid out for the first
        x = noise(batch, groups * weight.shape[1], whole(1, 3), whole(dilation * (taps - 1) + 1, 50), seed=batch)
        x[0, 0, 0, -1] = (float("nan"), float("inf"), 1.0)[whole(0, 2)]
        x = x.contiguous(memory_format=torch.channels_last) if whole(0, 1) else x
        got, wanted = call(x), F.conv2d(x, weight, bias, sides[1], sides[0], *sides[2:])
        torch.testing.assert_close(torch.isfinite(got), torch.isfinite(wanted))
        finite = torch.isfinite(wanted)
        torch.testing.assert_close(got[finite], wanted[finite], rtol=1e-4, atol=1e-4)


@needed
@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_no_call_lays_a_kernel_out_again(batch, asked):
    one, x = module(), noise(batch, 160, 400)
    torch.testing.assert_close(one(x), expected(one, x), rtol=1e-4, atol=1e-4)
    assert not asked


def test_nothing_wrong_channels_and_short_windows_are_torchs(asked):
    one = module()
    assert one(noise(0, 160, 400)).shape == (0, 80, 200)
    for wrong in (noise(2, 161, 400), noise(2, 160, 0)):
        with pytest.raises(RuntimeError):
            one(wrong)
    assert len(asked) == 3


def test_copies_gradients_traces_and_other_types():
    one, x = module(), noise(3, 160, 400)
    with torch.inference_mode():  # what is made at a first call in inference mode must serve later ones
        torch.testing.assert_close(one(x), expected(one, x), rtol=1e-4, atol=1e-4)
    for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), torch.jit.trace(one, x)):
        torch.testing.assert_close(twin(x), one(x), rtol=1e-4, atol=1e-4)
    given_ = x.clone().requires_grad_()
    one(given_).sum().backward()
    assert given_.grad is not None
    assert given_.grad.abs().sum() > 0
    torch.testing.assert_close(torch.func.vmap(one)(x[None])[0], one(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.double()(x.double()).float(), expected(module(), x), rtol=1e-4, atol=1e-4)


def test_threads_at_a_first_call_get_the_same():
    one, x = module(), noise(2, 160, 400)
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(one, [x] * 8):
            assert torch.equal(y, one(x))


@pytest.mark.parametrize("broken", ["missing", "wrong"])
def test_torch_is_asked_where_the_operators_are_not_as_they_were(broken, monkeypatch, asked):
    monkeypatch.setattr(
        packed,
        "_convolved",
        (lambda *given: torch.zeros(())) if broken == "wrong" else lambda *given: torch.ops.mkldnn.no,
    )
    serves.cache_clear()
    try:
        assert not serves()
        asked.clear()
        one, x = module(), noise(3, 160, 400)
        torch.testing.assert_close(one(x), expected(one, x), rtol=1e-4, atol=1e-4)
        assert len(asked) == 1
    finally:
        serves.cache_clear()
