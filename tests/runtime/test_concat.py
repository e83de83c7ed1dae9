"""Concat gives torch's numbers whatever the layout, and leaves channels innermost where a convolution left them so."""

import pytest
import torch

import rtserve.runtime.executor  # noqa: F401  (enters the operators)
from rtserve.runtime.node import Node
from rtserve.runtime.shaping import concat


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("innermost", ["channels", "time"])
def test_values_are_joined_in_their_layout(axis, innermost):
    parts = [torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    if innermost == "channels":
        parts = [part.transpose(1, 2).contiguous().transpose(1, 2) for part in parts]
    node = Node("Concat", {"axis": axis}, [None] * 3, [True] * 3, [True], 20, torch.float32, torch.device("cpu"))
    joined = concat(node)(*parts)
    torch.testing.assert_close(joined, torch.cat(parts, axis), rtol=0, atol=0)
    assert (joined.stride(1) == 1) == (innermost == "channels")
