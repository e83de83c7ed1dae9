"""An inception-style network along time: short, middle and long kernels side by side, block after block.

A pointwise convolution mixes the electrodes into fewer channels. Each block narrows its input, looks at it through
several kernel lengths and a pooled path, joins the four and normalises; every second block is bridged by a residual
path. A mean over time and a dense layer give the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from family import VOLT_SCALE, build, count_keys, shape_of  # type: ignore[import-not-found]
from torch import Tensor, nn

from rtserve.graphs.exporter import Built, Shapes

__all__ = ["InceptionRegressor", "exporter"]


class Block(nn.Module):  # type: ignore[misc]
    """Parallel convolutions of several lengths and a pooled path, joined.

    Parameters
    ----------
    n_in : int
        Input features.
    width : int
        Features of each path.
    kernels : sequence of int
        Lengths of the parallel convolutions; odd.
    """

    def __init__(self, n_in: int, width: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.narrow = nn.Conv1d(n_in, width, 1, bias=False)
        self.paths = nn.ModuleList(nn.Conv1d(width, width, k, padding=k // 2, bias=False) for k in kernels)
        self.pooled = nn.Sequential(nn.MaxPool1d(3, stride=1, padding=1), nn.Conv1d(n_in, width, 1, bias=False))
        self.norm = nn.BatchNorm1d(width * (len(kernels) + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, width x (paths + 1), n_times) for x (batch, n_in, n_times)."""
        narrow = self.narrow(x)
        return self.norm(torch.cat([*(path(narrow) for path in self.paths), self.pooled(x)], 1))


class InceptionRegressor(nn.Module):  # type: ignore[misc]
    """See the module.

    Parameters
    ----------
    n_chans, n_outputs : int
        Channels of a window, numbers per window.
    width : int
        Features of each path in a block.
    kernels : sequence of int
        Lengths of the parallel convolutions.
    depth : int
        Blocks.
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
        width: int = 16,
        kernels: Sequence[int] = (9, 19, 39),
        depth: int = 4,
        dropout: float = 0.3,
        input_scale: float | None = VOLT_SCALE,
    ) -> None:
        super().__init__()
        if input_scale is None:
            self.input_scale = None
        else:
            self.register_buffer("input_scale", torch.tensor(float(input_scale)))
        joined = width * (len(kernels) + 1)
        self.stem = nn.Sequential(nn.Conv1d(n_chans, joined, 1, bias=False), nn.BatchNorm1d(joined))
        self.blocks = nn.ModuleList(Block(joined, width, kernels) for _ in range(depth))
        self.bridges = nn.ModuleList(
            nn.Sequential(nn.Conv1d(joined, joined, 1, bias=False), nn.BatchNorm1d(joined)) for _ in range(depth // 2)
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(joined, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        if self.input_scale is not None:
            x = x * self.input_scale
        x = self.stem(x)
        before = x
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number % 2:
                x = x + self.bridges[number // 2](before)
            x = torch.relu(x)
            before = x if number % 2 else before
        return self.head(x.mean(-1))


DEFAULTS: dict[str, Any] = {
    "n_chans": 129, "n_outputs": 1, "width": 16, "kernels": (9, 19, 39), "depth": 4, "dropout": 0.3,
    "input_scale": VOLT_SCALE,
}  # fmt: skip


def exporter(shapes: Shapes, settings: Mapping[str, Any]) -> Built:
    """Build the network that a checkpoint of this family fits.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        The checkpoint's tensors; channels, outputs, width, kernels and depth are read from them.
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
        stem = shape_of(shapes, "stem.0.weight", 3, "InceptionRegressor")
        last = shape_of(shapes, "head.1.weight", 2, "InceptionRegressor")
        narrow = shape_of(shapes, "blocks.0.narrow.weight", 3, "InceptionRegressor")
        paths = count_keys(shapes, r"blocks\.0\.paths\.\d+\.weight")
        keys = [f"blocks.0.paths.{i}.weight" for i in range(paths)]
        structure = {"n_chans": stem[1], "n_outputs": last[0], "width": narrow[0]}
        structure["kernels"] = tuple(shape_of(shapes, key, 3, "InceptionRegressor")[2] for key in keys)
        structure["depth"] = count_keys(shapes, r"blocks\.\d+\.narrow\.weight")
        structure["input_scale"] = VOLT_SCALE if "input_scale" in shapes else None
    return build(InceptionRegressor, structure, DEFAULTS, settings, read=bool(shapes))  # type: ignore[no-any-return]
