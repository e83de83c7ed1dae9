"""A convolution along time as one product of its windows is the convolution."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from rtserve.runtime.linear import LEAST_TERMS, MOST_GROUPS, MOST_ROWS, Window, along_time, conv, on_cuda
from rtserve.runtime.node import Node


def window(kernel, **attrs):
    node = Node("Conv", attrs, [None, None], [True, True], [True], 20, torch.float64, torch.device("cpu"))
    return Window(node, kernel)


class Fallback:
    """Stands for torch's convolution: says how often it was asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x


@given(st.data())
def test_the_product_is_the_convolution(data):
    whole = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    groups, filters, taps, rank = whole(1, 3), whole(1, 4), whole(1, 9), whole(1, 3)
    per_group = -(-LEAST_TERMS[groups > 1] // taps) + whole(0, 3)
    stride, dilation, begin, end, batch = whole(1, 3), whole(1, 3), whole(0, 5), whole(0, 5), whole(1, 3)
    times = max(1, dilation * (taps - 1) + 1 - begin - end) + whole(0, 20)
    generator = torch.Generator().manual_seed(whole(0, 99))
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    axis = whole(0, rank - 1)
    there = lambda number, other: tuple(number if a == axis else other for a in range(rank))  # noqa: E731
    weight, x = draw(groups * filters, per_group, *there(taps, 1)), draw(batch, groups * per_group, *there(times, 1))
    bias = draw(groups * filters) if whole(0, 1) else None
    if whole(0, 1):  # channels innermost, as a product leaves them
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    strides, dilations, pads = there(stride, 1), there(dilation, whole(1, 2)), there(begin, 0) + there(end, 0)
    geometry = window(there(taps, 1), strides=strides, dilations=dilations, pads=pads)
    got = on_cuda(weight, bias, geometry, groups)(x)
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    order = [side for a in reversed(range(rank)) for side in (there(begin, 0)[a], there(end, 0)[a])]
    expected = function(F.pad(x, order), weight, bias, strides, 0, dilations, groups)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    fallback, line = Fallback(), geometry.along(axis)
    flat = along_time(weight.reshape(*weight.shape[:2], -1), bias, line, groups, fallback)
    torch.testing.assert_close(flat(x.reshape(*x.shape[:2], -1)).reshape(got.shape), got, rtol=1e-13, atol=1e-13)
    assert fallback.calls == 0


def test_gradients_go_through_it():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 32, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 64, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    along_time(weight, None, window((3,)), 2, Fallback())(x).square().sum().backward()
    got, x.grad = x.grad, None
    F.conv1d(x, weight, groups=2).square().sum().backward()
    torch.testing.assert_close(got, x.grad)


@pytest.mark.parametrize(
    ("shape", "kernel", "groups"),
    [
        ((MOST_ROWS, 90, 9), (8, 90, 3), 1),  # many windows
        ((0, 90, 9), (64, 90, 3), 1),  # none
        ((2, 4, 9), (4, 4, 3), 1),  # few terms
        ((2, 32, 9), (4, 16, 3), 2),
        ((2, 64 * (MOST_GROUPS + 1), 9), (MOST_GROUPS + 1, 64, 3), MOST_GROUPS + 1),
    ],
)
def test_what_it_does_not_serve_is_convolved(shape, kernel, groups):
    fallback, x = Fallback(), torch.zeros(shape)
    assert along_time(torch.zeros(kernel), None, window(kernel[2:]), groups, fallback)(x) is x
    assert fallback.calls == 1


@pytest.mark.parametrize(
    ("shape", "kernel", "attrs"),
    [
        ((2, 90, 9), (64, 90, 3), {"auto_pad": "SAME_UPPER"}),
        ((2, 90, 2, 9), (64, 90, 1, 3), {}),  # lines below one another
        ((2, 90, 4, 9), (64, 90, 2, 3), {}),
        ((2, 90, 1, 9), (64, 90, 1, 3), {"pads": (1, 0, 0, 0)}),
        ((2, 90, 3, 1), (64, 90, 3, 1), {"strides": (1, 2)}),
    ],
)
def test_what_runs_along_several_axes_is_torchs_own(shape, kernel, attrs):
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in (shape, kernel))
    node = Node("Conv", attrs, [None, weight], [True, True], [True], 20, torch.float64, torch.device("cpu"))
    expected = conv(node)(x, weight)
    torch.testing.assert_close(on_cuda(weight, None, window(kernel[2:], **attrs), 1)(x), expected)
