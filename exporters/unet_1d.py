"""A one-dimensional U-Net that regresses: down and up again along time, then a mean and a line.

Each level halves the time axis and widens the features; on the way back every level is joined by what it was on the way
down. Windows whose length does not divide are handled as they come: the way back is padded to the length it meets.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from family import VOLT_SCALE, build, count_keys, shape_of  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.nn import functional as F

from rtserve.graphs.exporter import Built, Shapes

__all__ = ["UNet1d", "exporter"]


def double_convolution(n_in: int, n_out: int, kernel: int) -> nn.Sequential:
    """Return two convolutions that keep the length, each with BatchNorm and ReLU."""
    parts: list[nn.Module] = []
    for inputs in (n_in, n_out):
        parts += [nn.Conv1d(inputs, n_out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm1d(n_out), nn.ReLU()]
    return nn.Sequential(*parts)


class UNet1d(nn.Module):  # type: ignore[misc]
    """See the module.

    Parameters
    ----------
    n_chans, n_outputs : int
        Channels of a window, numbers per window.
    width : int
        Features of the first level; each level doubles them.
    depth : int
        How often the time axis is halved.
    kernel : int
        Taps of the convolutions; odd.
    dropout : float
        Before the last layer.
    input_scale : float or None
        Fixed factor on the input, kept as a buffer.
    """

    def __init__(
        self,
        n_chans: int = 129,
        n_outputs: int = 1,
        *,
        width: int = 24,
        depth: int = 3,
        kernel: int = 5,
        dropout: float = 0.3,
        input_scale: float | None = VOLT_SCALE,
    ) -> None:
        super().__init__()
        if input_scale is None:
            self.input_scale = None
        else:
            self.register_buffer("input_scale", torch.tensor(float(input_scale)))
        widths = [width * 2**level for level in range(depth + 1)]
        self.stem = double_convolution(n_chans, width, kernel)
        self.down = nn.ModuleList(double_convolution(a, b, kernel) for a, b in itertools.pairwise(widths))
        upwards = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(a, b, 2, stride=2) for a, b in upwards)
        self.up = nn.ModuleList(double_convolution(2 * b, b, kernel) for _, b in upwards)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        if self.input_scale is not None:
            x = x * self.input_scale
        levels = [self.stem(x)]
        for level in self.down:
            levels.append(level(F.max_pool1d(levels[-1], 2)))
        y = levels.pop()
        for grow, level in zip(self.grow, self.up, strict=True):
            across = levels.pop()
            y = grow(y)
            y = level(torch.cat([across, F.pad(y, (0, across.shape[-1] - y.shape[-1]))], 1))
        return self.head(y.mean(-1))


DEFAULTS: dict[str, Any] = {
    "n_chans": 129, "n_outputs": 1, "width": 24, "depth": 3, "kernel": 5, "dropout": 0.3, "input_scale": VOLT_SCALE,
}  # fmt: skip


def exporter(shapes: Shapes, settings: Mapping[str, Any]) -> Built:
    """Build the network that a checkpoint of this family fits.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        The checkpoint's tensors; channels, outputs, width, kernel and depth are read from them.
    settings : mapping
        ``n_times`` (200), ``sfreq`` (100 Hz), ``unit`` (V), ``ch_names``, ``target``; without a checkpoint the
        structure as well.

    Raises
    ------
    CheckpointError
        Where the tensors are of another family.
    InputError
        Where a setting is unknown, or contradicts the checkpoint.
    """
    structure: dict[str, Any] = {}
    if shapes:
        stem = shape_of(shapes, "stem.0.weight", 3, "UNet1d")
        last = shape_of(shapes, "head.1.weight", 2, "UNet1d")
        structure = {"n_chans": stem[1], "n_outputs": last[0], "width": stem[0], "kernel": stem[2]}
        structure["depth"] = count_keys(shapes, r"grow\.\d+\.weight")
        structure["input_scale"] = VOLT_SCALE if "input_scale" in shapes else None
    return build(UNet1d, structure, DEFAULTS, settings, read=bool(shapes))  # type: ignore[no-any-return]
