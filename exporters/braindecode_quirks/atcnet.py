"""ATCNet: its attention stacks the heads on the batch and splits by the batch size, which fixes the batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .rewrite import Quirk, Rewrite

__all__ = ["REWRITES"]


def attend_by_head(self: Any, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
    """Attend with the heads on an axis of their own: (batch, n_heads, length, head_dim)."""

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.embed_dim // self.head_dim, self.head_dim)).transpose(1, 2)

    q, k, v = heads(self.fc_q(Q)), heads(self.fc_k(K)), heads(self.fc_v(V))
    weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(self.head_dim), -1)
    return self.dropout(self.fc_o((weights @ v).transpose(1, 2).flatten(2)))


REWRITES = {
    "_MHA": Rewrite(
        quirk=Quirk(
            name="attention-heads",
            reason="its attention stacks the heads on the batch and splits by the batch size, which fixed the batch",
        ),
        stand_in=attend_by_head,
    ),
}
