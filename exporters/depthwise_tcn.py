"""A depthwise-separable temporal convolutional network that says *when*: soft-argmax over time.

Each channel of a window is z-scored over its own samples, so that amplitude and unit do not matter. A pointwise
convolution mixes the channels; residual blocks of a dilated depthwise and a pointwise convolution follow. The head
gives one score per time step; their softmax weighs the time axis, and the weighted time is the answer, scaled and
shifted by two learned numbers. Response times fit it: the answer is a moment of the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from family import build, count_keys, shape_of  # type: ignore[import-not-found]
from torch import Tensor, nn

from rtserve.graphs.exporter import Built, Shapes

__all__ = ["DepthwiseTCN", "exporter"]

FLAT = 1e-12
"""Added to the standard deviation: far under any EEG in volts, and a flat channel gives 0."""


class Block(nn.Module):  # type: ignore[misc]
    """Dilated depthwise convolution, pointwise convolution, added to the input.

    Parameters
    ----------
    width : int
        Feature channels.
    kernel : int
        Taps of the depthwise convolution; the length of the signal is kept.
    dilation : int
        Distance between taps.
    dropout : float
        Before the addition.
    """

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding="same", dilation=dilation, groups=width, bias=False)
        self.norm1 = nn.BatchNorm1d(width)
        self.pointwise = nn.Conv1d(width, width, 1, bias=False)
        self.norm2 = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, width, n_times) for the same."""
        y = torch.relu(self.norm1(self.depthwise(x)))
        return torch.relu(x + self.dropout(self.norm2(self.pointwise(y))))


class DepthwiseTCN(nn.Module):  # type: ignore[misc]
    """See the module.

    Parameters
    ----------
    n_chans, n_outputs : int
        Channels of a window, numbers per window.
    width : int
        Feature channels.
    kernel : int
        Taps of the depthwise convolutions.
    depth : int
        Residual blocks; the dilation doubles from one to the next.
    max_dilation : int
        Where doubling stops.
    dropout : float
        In each block.
    """

    def __init__(
        self,
        n_chans: int = 129,
        n_outputs: int = 1,
        *,
        width: int = 48,
        kernel: int = 7,
        depth: int = 4,
        max_dilation: int = 16,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(n_chans, width, 1, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(width, kernel, min(2**i, max_dilation), dropout) for i in range(depth)))
        self.score = nn.Conv1d(width, n_outputs, 1)
        self.scale = nn.Parameter(torch.ones(n_outputs))
        self.offset = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True).sqrt() + FLAT)
        weights = torch.softmax(self.score(self.blocks(self.stem(x))), -1)
        clock = torch.linspace(0.0, 1.0, x.shape[-1], dtype=x.dtype, device=x.device)
        return (weights * clock).sum(-1) * self.scale + self.offset


DEFAULTS: dict[str, Any] = {
    "n_chans": 129, "n_outputs": 1, "width": 48, "kernel": 7, "depth": 4, "max_dilation": 16, "dropout": 0.2,
}  # fmt: skip


def exporter(shapes: Shapes, settings: Mapping[str, Any]) -> Built:
    """Build the network that a checkpoint of this family fits.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        The checkpoint's tensors; channels, outputs, width, kernel and depth are read from them.
    settings : mapping
        ``max_dilation`` (16; no tensor tells it), ``n_times`` (200), ``sfreq`` (100 Hz), ``unit`` (V), ``ch_names``,
        ``target``; without a checkpoint the structure as well.

    Raises
    ------
    CheckpointError
        Where the tensors are of another family.
    InputError
        Where a setting is unknown, or contradicts the checkpoint.
    """
    structure: dict[str, Any] = {}
    if shapes:
        stem = shape_of(shapes, "stem.0.weight", 3, "DepthwiseTCN")
        score = shape_of(shapes, "score.weight", 3, "DepthwiseTCN")
        taps = shape_of(shapes, "blocks.0.depthwise.weight", 3, "DepthwiseTCN")
        depth = count_keys(shapes, r"blocks\.\d+\.depthwise\.weight")
        structure = {"n_chans": stem[1], "n_outputs": score[0], "width": stem[0], "kernel": taps[2], "depth": depth}
    return build(DepthwiseTCN, structure, DEFAULTS, settings, read=bool(shapes))  # type: ignore[no-any-return]
