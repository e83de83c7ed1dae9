"""Networks that write over their input: ``x *= 1e6`` in forward changes the windows of whoever calls.

The answers are those of any network, but the second call on the same tensor is one on other windows, and a graph has
no input that it could change. Such a network is given windows of its own.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["OwnInput", "writes_over_input"]


class OwnInput(nn.Module):  # type: ignore[misc]
    """A network that is given a copy of its input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times), which stays as it is."""
        y: torch.Tensor = self.network(x.clone())
        return y


def writes_over_input(module: nn.Module, x: torch.Tensor) -> bool:
    """Whether a copy of a network changes x (batch, n_chans, n_times) when it is called on it; x itself is left."""
    given = x.clone()
    with torch.inference_mode():
        copy.deepcopy(module)(given)
    return not torch.equal(given, x)
