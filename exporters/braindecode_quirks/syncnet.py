"""SyncNet: it assigns to its own parameter in every call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .rewrite import Quirk, Rewrite

__all__ = ["REWRITES"]


def oscillators_without_assignment(self: Any, x: Tensor) -> Tensor:
    """Run SyncNet as every call after the first runs: the decay clamped at zero, nothing written."""
    decay = torch.exp(-self.t.pow(2) * self.beta.clamp(min=0.0))
    kernel = (self.amplitude * torch.cos(self.t * self.omega + self.phi_ini) * decay).permute(3, 2, 0, 1)
    y = F.conv2d(self.pad_input(x.unsqueeze(2)), kernel, bias=self.bias)
    pooled = self.pool(self.pad_res(y)).flatten(1)
    return self.final_layer(self.activation(pooled))


REWRITES = {
    "SyncNet": Rewrite(
        quirk=Quirk(
            name="frozen-decay",
            reason="it clamps its own decay parameter in every call; the clamped value is used and nothing is written",
        ),
        stand_in=oscillators_without_assignment,
    ),
}
