"""A convolution on a CPU as one product of its windows is the convolution, and stands aside where torch's own is ahead."""

import copy
import pickle  # noqa: TID251  (what was just pickled here)

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rtserve.runtime import rows
from rtserve.runtime.executor import PlanModule
from rtserve.runtime.linear import conv
from rtserve.runtime.node import Node
from rtserve.runtime.rows import (
    LEAST_FILTERS,
    LEAST_ROWS,
    LEAST_WORK,
    MOST_COPIED,
    MOST_SHARED_ROWS,
    MOST_SHARES,
    MOST_VIEWED,
    as_rows,
)


@pytest.fixture(autouse=True, scope="module")
def _by_one_product():
    """Leave out tiles, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "tiles_of", lambda *given: None)
        yield


def never(_x):
    raise AssertionError("torch's own convolution was asked")


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=30)  # each is of 50,000 multiply-adds or more
@given(st.data())
def test_the_product_is_the_convolution(data):
    whole = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    groups, stride, dilation = whole(1, 3), whole(1, 3), whole(1, 3)
    taps = whole(1 + (groups == 1), 7)
    begin, end, batch, steps = whole(0, 5), whole(0, 5), whole(1, 3), whole(LEAST_ROWS, 15)
    per_group = whole(24, 30)
    filters = -(-LEAST_WORK // (steps * taps * per_group)) if groups == 1 else LEAST_FILTERS * groups * whole(1, 2)
    filters = max(filters, LEAST_FILTERS)
    times = (steps - 1) * stride + dilation * (taps - 1) + 1 - begin - end + whole(0, stride - 1)
    if times < 1:
        begin, times = 0, times + begin + end
        end = 0
    weight, x = noise(filters, per_group, taps), noise(batch, groups * per_group, times, seed=whole(0, 9))
    bias = noise(filters) if whole(0, 1) else None
    if whole(0, 1):  # as another product leaves them
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    broken = whole(0, times - 1)
    x[0, 0, broken] = (float("nan"), float("inf"), 1.0)[whole(0, 2)]
    got = as_rows(weight, bias, groups, stride, dilation, (begin, end), never)(x)
    expected = F.conv1d(F.pad(x, (begin, end)), weight, bias, stride, 0, dilation, groups)
    torch.testing.assert_close(torch.isfinite(got), torch.isfinite(expected))
    finite = torch.isfinite(expected)
    torch.testing.assert_close(got[finite], expected[finite], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("batch", [0, 1, 2, 5, 64])
def test_convolutions_of_either_axis_and_any_batch(rank, axis, batch):
    there = lambda number, other: (number,) if rank == 1 else tuple(number if a == axis else other for a in (0, 1))  # noqa: E731
    weight, bias = noise(64, 40, *there(5, 1), dtype=torch.float32), noise(64, dtype=torch.float32)
    attrs = {"strides": there(2, 1), "pads": there(2, 0) + there(1, 0)}
    node = Node("Conv", attrs, [None, weight, bias], [True] * 3, [True], 20, torch.float32, torch.device("cpu"))
    for across in (1, 2) if rank == 2 else (1,):  # lines beside one another are torch's own
        x = noise(batch, 40, *there(50, across), dtype=torch.float32)
        order = [side for pair in reversed(list(zip(there(2, 0), there(1, 0), strict=True))) for side in pair]
        expected = {1: F.conv1d, 2: F.conv2d}[rank](F.pad(x, order), weight, bias, there(2, 1))
        torch.testing.assert_close(conv(node)(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "kernel", "groups"),
    [
        ((1, 128, MOST_VIEWED // 256 + 3), (32, 128, 2), 1),  # more than a cache holds
        ((2, 128, MOST_COPIED // 512 + 3), (32, 128, 2), 1),  # or is copied
        ((0, 100, 50), (32, 100, 3), 1),
        ((1, 100, 2), (32, 100, 3), 1),  # no window at all: torch says so
        ((1, 101, 100), (32, 100, 3), 1),  # channels that are not the kernel's: torch says so
        ((1, 100, 100), (32, 100, 1), 1),  # one tap
        ((1, 4, LEAST_WORK // 256), (16, 4, 2), 1),  # little work
        ((1, 400, LEAST_ROWS), (200, 400, 2), 1),  # few rows
        ((1, 100, 100), (LEAST_FILTERS - 1, 100, 3), 1),
        ((1, 16 * (MOST_SHARES + 1), 9), (16 * (MOST_SHARES + 1), 16, 3), MOST_SHARES + 1),
        ((1, 64, MOST_SHARED_ROWS + 1), (64, 32, 1), 2),
    ],
)
def test_what_it_does_not_serve_is_convolved(shape, kernel, groups):
    asked = []
    assert as_rows(torch.zeros(kernel), None, groups, 1, 1, (0, 0), asked.append)(torch.zeros(shape)) is None
    assert len(asked) == 1


def plan_module(kernel=(3,), pads=(1, 1)):
    plan = {"schema": "rtserve.plan/1", "opset": 20, "input": "x", "output": "y", "tensors": ["w"], "sizes": {}}
    plan["nodes"] = [{"op": "Conv", "inputs": ["x", "w"], "outputs": ["y"], "attrs": {"pads": list(pads)}}]
    return PlanModule(plan, {"w": noise(64, 40, *kernel, dtype=torch.float32)}).eval()


def test_gradients_traces_copies_and_other_types_are_as_before():
    module, x = plan_module(), noise(1, 40, 60, dtype=torch.float32)
    weight = module.get_buffer("w")
    expected = F.conv1d(x, weight, padding=1)
    with torch.inference_mode():  # what is made at a first call in inference mode must serve later ones
        torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(twin(x), expected, rtol=1e-4, atol=1e-4)
    leaf = x.clone().requires_grad_()
    module(leaf).square().sum().backward()
    other = x.clone().requires_grad_()
    F.conv1d(other, weight, padding=1).square().sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-4, atol=1e-3)
    traced = torch.jit.trace(module, (torch.cat([x, x]),), check_trace=False)
    torch.testing.assert_close(traced(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.func.vmap(module)(torch.stack([x, -x])), torch.stack([expected, -expected]),
                               rtol=1e-4, atol=1e-4)  # fmt: skip
    torch.testing.assert_close(module.double()(x.double()), F.conv1d(x.double(), weight.double(), padding=1))


def test_a_trace_of_a_convolution_over_two_axes_is_that_convolution():
    module = plan_module((1, 3), (0, 1, 0, 1))
    x = noise(1, 40, 1, 60, dtype=torch.float32)
    traced = torch.jit.trace(module, (torch.cat([x, x]),), check_trace=False)  # a warning would fail the test
    assert "squeeze" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x), F.conv2d(x, module.get_buffer("w"), padding=(0, 1)), rtol=1e-4, atol=1e-4)
