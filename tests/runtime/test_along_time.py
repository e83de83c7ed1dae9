"""A convolution along time as one product of its windows is the convolution."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from rtserve.runtime.linear import LEAST_TERMS, MOST_GROUPS, MOST_ROWS, Window, along_time
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
    groups, filters, taps, rank = whole(1, 3), whole(1, 4), whole(1, 9), whole(1, 2)
    per_group = -(-LEAST_TERMS[groups > 1] // taps) + whole(0, 3)
    stride, dilation, begin, end, batch = whole(1, 3), whole(1, 3), whole(0, 5), whole(0, 5), whole(1, 3)
    times = max(1, dilation * (taps - 1) + 1 - begin - end) + whole(0, 20)
    generator = torch.Generator().manual_seed(whole(0, 99))
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    middle = (1,) * (rank - 1)
    weight, x = draw(groups * filters, per_group, *middle, taps), draw(batch, groups * per_group, *middle, times)
    bias = draw(groups * filters) if whole(0, 1) else None
    none = (0,) * (rank - 1)
    geometry = window(
        (*middle, taps), strides=(*middle, stride), dilations=(*middle, dilation), pads=(*none, begin, *none, end)
    )
    fallback = Fallback()
    got = along_time(weight, bias, geometry, groups, fallback)(x)
    function = F.conv1d if rank == 1 else F.conv2d
    padded = F.pad(x, (begin, end))
    expected = function(padded, weight, bias, (*middle, stride), 0, (*middle, dilation), groups)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    assert fallback.calls == 0


@pytest.mark.parametrize(
    ("shape", "kernel", "groups", "attrs"),
    [
        ((MOST_ROWS, 90, 9), (64, 90, 3), 1, {}),  # many windows
        ((0, 90, 9), (64, 90, 3), 1, {}),  # none
        ((2, 4, 9), (4, 4, 3), 1, {}),  # few terms
        ((2, 32, 9), (4, 16, 3), 2, {}),
        ((2, 64 * (MOST_GROUPS + 1), 9), (MOST_GROUPS + 1, 64, 3), MOST_GROUPS + 1, {}),
        ((2, 90, 9), (64, 90, 3), 1, {"auto_pad": "SAME_UPPER"}),
        ((2, 90, 2, 9), (64, 90, 1, 3), 1, {}),  # lines below one another
        ((2, 90, 4, 9), (64, 90, 2, 3), 1, {}),
        ((2, 90, 1, 9), (64, 90, 1, 3), 1, {"pads": (1, 0, 0, 0)}),
    ],
)
def test_what_it_does_not_serve_is_convolved(shape, kernel, groups, attrs):
    fallback, x = Fallback(), torch.zeros(shape)
    assert along_time(torch.zeros(kernel), None, window(kernel[2:], **attrs), groups, fallback)(x) is x
    assert fallback.calls == 1
