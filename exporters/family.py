"""What the families of this folder share: their settings, their specs, and the scale of volts folded away.

A family reads the structure of its network (channels, widths, kernel sizes, depth) from the checkpoint's tensors, so
that ``rtserve export`` needs no setting; without a checkpoint the same names are settings.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from rtserve.errors import CheckpointError, InputError
from rtserve.graphs.exporter import Built, Quirk, Shapes
from rtserve.nearest import meant
from rtserve.spec import InputSpec, OutputSpec

__all__ = ["VOLT_SCALE", "build", "count_keys", "fold_scale", "shape_of"]

VOLT_SCALE = 1e5
"""Brings windows in volts (standard deviation about 1e-5) to about 1."""
COMMON: dict[str, Any] = {"n_times": 200, "sfreq": 0.0, "unit": None, "ch_names": (), "target": ""}
SCALE_QUIRK = Quirk(
    name="input-scale",
    reason="the network carries a fixed scale for volts, whose variance BatchNorm starts far from; it is multiplied"
    " into the first convolution",
)


def shape_of(shapes: Shapes, key: str, rank: int, family: str) -> tuple[int, ...]:
    """Return the shape of a tensor of the checkpoint.

    Raises
    ------
    CheckpointError
        Where it is missing or has another rank: the checkpoint is of another family.
    """
    shape = shapes.get(key, ())
    if len(shape) != rank:
        raise CheckpointError(
            f"the checkpoint is no {family}: {key} is {shape or 'missing'}",
            hint="use the exporter of its own architecture; `rtserve inspect` lists the checkpoint's keys",
        )
    return shape


def count_keys(shapes: Shapes, pattern: str) -> int:
    """Return how many keys match the regular expression `pattern` whole."""
    return sum(re.fullmatch(pattern, key) is not None for key in shapes)


def build(
    network: Callable[..., nn.Module],
    structure: Mapping[str, Any],
    defaults: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    read: bool,
) -> Built:
    """Build a network of a family.

    Parameters
    ----------
    network : callable
        The class; takes the names in `defaults`.
    structure : mapping
        What was read from the checkpoint; empty where there is none.
    defaults : mapping
        Structure used without a checkpoint, and what cannot be read from one.
    settings : mapping
        What ``--set`` gives.
    read : bool
        Whether `structure` comes from a checkpoint.

    Raises
    ------
    InputError
        Where a setting is unknown, or contradicts the checkpoint.
    """
    name = getattr(network, "__name__", "the network")
    known = COMMON | dict(defaults)
    for key in settings:
        if key not in known:
            raise InputError(
                f"{name} has no setting {key!r}",
                hint=meant(key, known, f"it takes {', '.join(known)}"),
            )
    arguments = dict(defaults) | {key: value for key, value in settings.items() if key in defaults}
    for key, value in structure.items() if read else ():
        if key in settings and _plain(settings[key]) != _plain(value):
            raise InputError(
                f"setting {key}={settings[key]} contradicts the checkpoint, which has {key}={value}",
                hint="leave the setting out: it is read from the weights",
            )
        arguments[key] = value
    values = COMMON | {key: value for key, value in settings.items() if key in COMMON}
    module = network(**arguments)
    scaled = getattr(module, "input_scale", None) is not None
    spec = InputSpec(
        n_chans=arguments["n_chans"],
        n_times=int(values["n_times"]),
        sfreq=float(values["sfreq"]),
        ch_names=_names(values["ch_names"], arguments["n_chans"]),
        unit=values["unit"] or ("V" if scaled else None),
    )
    return Built(
        network=module,
        input_spec=spec,
        output_spec=OutputSpec(n_outputs=arguments["n_outputs"], target=str(values["target"])),
        quirks=(SCALE_QUIRK,) if scaled else (),
        wrap=fold_scale if scaled else None,
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _names(given: Any, n_chans: int) -> tuple[str, ...]:
    """Return the names given (a list, or text with commas), the contest's where there are 129 channels, or none."""
    names = given.split(",") if isinstance(given, str) and given else list(given)
    if names:
        return tuple(str(name).strip() for name in names)
    return (*(f"E{i}" for i in range(1, 129)), "Cz") if n_chans == 129 else ()


def fold_scale(network: nn.Module) -> nn.Module:
    """Return a copy whose first convolution, ``network.stem[0]``, carries the input scale: the same function."""
    folded: Any = copy.deepcopy(network)
    if folded.input_scale is not None:
        conv = folded.stem[0]
        with torch.no_grad():
            conv.weight.copy_((conv.weight.double() * folded.input_scale.double()).to(conv.weight.dtype))
        del folded.input_scale
        folded.input_scale = None
    eval_mode: nn.Module = folded.eval()
    return eval_mode
