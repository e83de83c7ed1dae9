"""CompactRT, the small convolutional regressor of response times, and the exporter of its checkpoints.

Three strided convolutions, a mean over time, three dense layers: 74,753 parameters at 129 channels. BatchNorm's running
variance starts at 1 while EEG in volts has 1e-11, so new trainings carry a fixed ``input_scale`` buffer (1e5 for
volts); the export folds it into the first convolution. Contest checkpoints have none.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from rtserve.errors import CheckpointError, InputError
from rtserve.graphs.exporter import Built
from rtserve.graphs.factory import SCALE_QUIRK
from rtserve.nearest import meant
from rtserve.spec import InputSpec, OutputSpec

__all__ = [
    "CONTEST_CHANNELS",
    "DROPOUT_SETS",
    "SCALE_QUIRK",
    "VOLT_SCALE",
    "CompactRT",
    "count_parameters",
    "exporter",
    "fold_input_scale",
]

VOLT_SCALE = 1e5
"""Brings windows in volts (standard deviation about 1e-5) to about 1."""
DROPOUT_SETS = {"strong": (0.5, 0.6, 0.7), "mild": (0.3, 0.4, 0.5)}
"""Dropout after the three convolutions."""
HEAD_DROPOUT = (0.5, 0.4)
CONTEST_CHANNELS = (*(f"E{i}" for i in range(1, 129)), "Cz")
"""The 129 channels of the contest in their order: EGI's HydroCel net and its reference at the vertex."""


class CompactRT(nn.Module):  # type: ignore[misc]
    """The compact response-time network.

    Parameters
    ----------
    n_chans : int
        Channels; any number of samples is accepted.
    dropout : tuple of 3 float
        Dropout after each convolution; see `DROPOUT_SETS`.
    head_dropout : tuple of 2 float
        Dropout after the first two dense layers.
    input_scale : float or None
        Fixed factor on the input, kept as a buffer; None for none (contest checkpoints).
    n_outputs : int
        Numbers per window.

    Raises
    ------
    InputError
        Where a dropout tuple has another length, or a rate is outside [0, 1).
    """

    def __init__(
        self,
        n_chans: int = 129,
        *,
        dropout: tuple[float, float, float] = DROPOUT_SETS["mild"],
        head_dropout: tuple[float, float] = HEAD_DROPOUT,
        input_scale: float | None = None,
        n_outputs: int = 1,
    ) -> None:
        super().__init__()
        rates = (*_rates(dropout, 3, "dropout"), *_rates(head_dropout, 2, "head_dropout"))
        if input_scale is None:
            self.input_scale = None
        else:
            self.register_buffer("input_scale", torch.tensor(float(input_scale)))
        self.features = nn.Sequential(
            *_block(n_chans, 32, 7, rates[0]), *_block(32, 64, 5, rates[1]), *_block(64, 128, 3, rates[2])
        )
        self.regressor = nn.Sequential(
            nn.Linear(128, 64), nn.ReLU(), nn.Dropout(rates[3]),
            nn.Linear(64, 32), nn.ReLU(), nn.Dropout(rates[4]),
            nn.Linear(32, n_outputs),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        if self.input_scale is not None:
            x = x * self.input_scale
        return self.regressor(self.features(x).mean(dim=-1))


def _block(n_in: int, n_out: int, kernel: int, dropout: float) -> tuple[nn.Module, ...]:
    conv = nn.Conv1d(n_in, n_out, kernel, stride=2, padding=kernel // 2)
    return conv, nn.BatchNorm1d(n_out), nn.ReLU(), nn.Dropout(dropout)


def _rates(values: Iterable[float], n: int, name: str) -> tuple[float, ...]:
    rates = tuple(float(value) for value in values)
    if len(rates) != n or not all(0.0 <= rate < 1.0 for rate in rates):
        raise InputError(
            f"{name} {list(rates)} is not {n} rates in [0, 1)", hint=f"for example {DROPOUT_SETS['mild'][:n]}"
        )
    return rates


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable values (buffers are not counted)."""
    return sum(parameter.numel() for parameter in network.parameters())


def fold_input_scale(network: nn.Module) -> nn.Module:
    """Return a copy of a CompactRT whose first convolution carries the input scale: the same function."""
    folded = copy.deepcopy(network)
    if folded.input_scale is not None:
        conv = folded.features[0]
        with torch.no_grad():
            conv.weight.copy_((conv.weight.double() * folded.input_scale.double()).to(conv.weight.dtype))
        del folded.input_scale
        folded.input_scale = None
    return folded.eval()


_SETTINGS: dict[str, Any] = {"n_times": 200, "sfreq": 0.0, "unit": None, "ch_names": (), "target": ""}
_CONTEST: dict[str, Any] = {"sfreq": 100.0, "unit": "V", "target": "response_time"}
"""Of the 2025 contest's own checkpoints, which are told by 129 channels and no input scale (its start kit)."""


def exporter(shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]) -> Built:
    """Build the network that a CompactRT checkpoint fits.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        The checkpoint's tensors. Channels and outputs are read from them.
    settings : mapping
        ``n_times`` (200), ``sfreq``, ``unit``, ``target``, ``ch_names`` (E1..E128 and Cz where there are 129 channels).
        An input scale says volts; the contest's own checkpoints are in V at 100 Hz and answer a response time; else
        what is not given is not known.

    Returns
    -------
    Built
        Network, specs and the quirks that were baked out.

    Raises
    ------
    CheckpointError
        Where the tensors are not those of a CompactRT.
    InputError
        Where a setting is unknown.
    """
    unknown = [key for key in settings if key not in _SETTINGS]
    if unknown:
        raise InputError(
            f"CompactRT has no setting {unknown[0]!r}",
            hint=meant(unknown[0], _SETTINGS, f"it takes {', '.join(_SETTINGS)}"),
        )
    first, last = shapes.get("features.0.weight", ()), shapes.get("regressor.6.weight", ())
    if len(first) != 3 or len(last) != 2:
        raise CheckpointError(
            f"the checkpoint is no CompactRT: features.0.weight is {first or 'missing'}, regressor.6.weight is"
            f" {last or 'missing'}",
            hint="use the exporter of its own architecture; `rtserve inspect` lists the checkpoint's keys",
        )
    scaled = "input_scale" in shapes
    known = {"unit": "V"} if scaled else _CONTEST if first[1] == len(CONTEST_CHANNELS) else {}
    values = _SETTINGS | known | dict(settings)
    return Built(
        network=CompactRT(first[1], input_scale=VOLT_SCALE if scaled else None, n_outputs=last[0]),
        input_spec=InputSpec(
            n_chans=first[1],
            n_times=int(values["n_times"]),
            sfreq=float(values["sfreq"]),
            ch_names=_channel_names(values["ch_names"], first[1]),
            unit=values["unit"],
        ),
        output_spec=OutputSpec(n_outputs=last[0], target=str(values["target"])),
        quirks=(SCALE_QUIRK,) if scaled else (),
        wrap=fold_input_scale if scaled else None,
    )


def _channel_names(given: Any, n_chans: int) -> tuple[str, ...]:
    """Return the names given (a list, or text with commas), the contest's where there are 129 channels, or none."""
    names = [name for name in given.split(",") if name] if isinstance(given, str) else list(given)
    if names:
        return tuple(str(name).strip() for name in names)
    return CONTEST_CHANNELS if n_chans == len(CONTEST_CHANNELS) else ()
