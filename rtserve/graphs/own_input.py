"""Networks that share more than they should: with whoever calls them, and with what they were made by.

``x *= 1e6`` in forward changes the windows of the caller. The answers are those of any network, but the second call on
the same tensor is one on other windows, and a graph has no input that it could change. Such a network is given windows
of its own. It is asked in copies, which a tensor that still knows how it was computed, or a lock, stands in the way of.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from rtserve.errors import ExportError

__all__ = ["OwnInput", "require_copyable", "writes_over_input"]


class OwnInput(nn.Module):  # type: ignore[misc]
    """A network that is given a copy of its input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times), which stays as it is."""
        y: torch.Tensor = self.network(x.clone())
        return y


def require_copyable(module: nn.Module) -> None:
    """Let a network forget how its tensors were computed, which is for training, so that copies can be made of it.

    Raises
    ------
    ExportError
        Where something else in it cannot be copied.
    """
    for part in module.modules():
        for key, value in vars(part).items():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                vars(part)[key] = value.detach()
    try:
        copy.deepcopy(module)
    except Exception as error:
        raise ExportError(
            f"the network cannot be copied, and is asked in copies: {' '.join(str(error).split())[:200]}",
            hint="keep locks, files and open sessions outside of it, or give it a __deepcopy__",
        ) from None


def writes_over_input(module: nn.Module, x: torch.Tensor) -> bool:
    """Whether a copy of a network changes x (batch, n_chans, n_times) when it is called on it; x itself is left."""
    given = x.clone()
    with torch.inference_mode():
        copy.deepcopy(module)(given)
    return not torch.equal(given, x)
