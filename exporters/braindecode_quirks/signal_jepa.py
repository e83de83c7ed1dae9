"""SignalJEPA and kin: a position table filled in place becomes a ScatterND that onnxruntime rejects."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rtserve.errors import ExportError

from .rewrite import Quirk, Rewrite

__all__ = ["REWRITES"]


def check_positions(self: Any) -> None:
    """Refuse an encoder that leaves a part of its table unfilled: what is in there is not defined."""
    if self.encoding_time.shape[-1] != self.time_dim:
        raise ExportError("the position encoder has not run yet", hint="run the network once before exporting it")


def positions_by_concatenation(self: Any, local_features: Tensor, ch_idxs: Tensor | None = None) -> Tensor:
    """Return the position table (1, n_chans * n_patches, emb_dim), put together instead of filled in."""
    n_chans = self.default_ch_idxs.shape[0]
    n_times = local_features.shape[1] // n_chans
    space = self.pos_encoder_spat(self.default_ch_idxs[None])[:, :, None, :].expand(-1, -1, n_times, -1)
    clock = self.encoding_time[None, None, :n_times, :].to(space.dtype).expand(1, n_chans, -1, -1)
    return torch.cat([space, clock], -1).flatten(1, 2)


REWRITES = {
    "_PosEncoder": Rewrite(
        quirk=Quirk(
            name="position-table",
            reason="its position table is filled in place, which became a ScatterND that onnxruntime rejects",
        ),
        stand_in=positions_by_concatenation,
        prepare=check_positions,
    ),
}
