"""Exporters for every class of braindecode.models: ``exporters/braindecode_models.py:EEGNeX``.

Settings (``--set key=value``) are the class's own keyword arguments. Where the contest's shape applies none is needed:
n_chans=129, n_times=200, sfreq=100, n_outputs=1. ``target`` and ``unit`` describe the data and are not passed on; they
and the rate are unknown where they are not given.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from braindecode_quirks import apply_quirks, quirks_of  # type: ignore[import-not-found]
from torch import nn

from rtserve.errors import ExportError, InputError
from rtserve.graphs.braindecode import braindecode_models
from rtserve.graphs.exporter import Built, Exporter, Quirk, Shapes
from rtserve.graphs.factory import SCALE_QUIRK, with_input_scale
from rtserve.spec import InputSpec, OutputSpec

DEFAULTS: dict[str, Any] = {"n_chans": 129, "n_times": 200, "sfreq": 100, "n_outputs": 1}
"""The contest's windows: 2 s of 129 channels at 100 Hz, one number."""


def _class(name: str) -> type[nn.Module]:
    """Return the class of braindecode.models called `name`."""
    models = braindecode_models()
    found = getattr(models, name, None)
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        import difflib

        names = [n for n, value in vars(models).items() if inspect.isclass(value) and issubclass(value, nn.Module)]
        near = difflib.get_close_matches(name, names, n=1)
        raise InputError(
            f"braindecode.models has no network {name}",
            hint=f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(names))}",
        )
    return found


def _chs_info(ch_names: tuple[str, ...], sfreq: float) -> list[dict[str, Any]] | None:
    """Return MNE channel information with positions for networks that ask for it, or None where a name has none."""
    import mne

    for name in ("GSN-HydroCel-129", "biosemi64", "colin27_1005", "standard_1005"):
        if not ch_names or name not in mne.channels.get_builtin_montages():
            continue
        montage = mne.channels.make_standard_montage(name)
        if set(ch_names) <= set(montage.ch_names):
            info = mne.create_info(list(ch_names), sfreq, "eeg", verbose="error").set_montage(montage, verbose="error")
            return list(info["chs"])
    return None


def contest_channels(n_chans: int) -> tuple[str, ...]:
    """Return the names of the 129 electrodes of the contest's net (E1..E128 and Cz), or none for another count."""
    return (*(f"E{i}" for i in range(1, 129)), "Cz") if n_chans == 129 else ()


def _build(name: str, settings: Mapping[str, Any]) -> Built:
    arguments = DEFAULTS | dict(settings)
    target, unit = str(arguments.pop("target", "")), arguments.pop("unit", None)
    ch_names = tuple(arguments.pop("ch_names", ()))
    cls = _class(name)
    accepted = inspect.signature(cls).parameters
    unknown = [key for key in arguments if key not in accepted and key not in DEFAULTS]
    if unknown:
        raise InputError(f"{name} takes no setting {', '.join(unknown)}", hint=f"it takes {', '.join(accepted)}")
    spec = InputSpec(
        n_chans=arguments["n_chans"],
        n_times=arguments["n_times"],
        sfreq=float(settings.get("sfreq", 0.0)),
        ch_names=ch_names or contest_channels(arguments["n_chans"]),
        unit=unit,
    )
    if "chs_info" in accepted and "chs_info" not in arguments:
        arguments["chs_info"] = _chs_info(spec.ch_names, float(arguments["sfreq"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = cls(**{key: value for key, value in arguments.items() if key in accepted})
    output = _output(network, spec)
    quirks = quirks_of(network)
    flat = len(output) > 1
    if flat:
        reason = f"the network gives {output} numbers per window; they are laid out as one axis"
        quirks = (*quirks, Quirk(name="flatten", reason=reason))
    return Built(
        network=network,
        input_spec=spec,
        output_spec=OutputSpec(n_outputs=math.prod(output), target=target),
        quirks=quirks,
        wrap=functools.partial(_wrap, flat=flat) if quirks else None,
    )


def _wrap(network: nn.Module, *, flat: bool) -> nn.Module:
    changed = apply_quirks(network)
    return Flattened(changed) if flat else changed


class Flattened(nn.Module):  # type: ignore[misc]
    """A network whose output (batch, ...) is laid out as (batch, n_outputs)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        return self.network(x).flatten(1)


def _output(network: nn.Module, spec: InputSpec) -> tuple[int, ...]:
    """Run the network once and return the shape of its output per window."""
    training = network.training
    with torch.no_grad():
        y = network.eval()(torch.zeros(2, spec.n_chans, spec.n_times))
    network.train(training)
    if not isinstance(y, torch.Tensor) or y.ndim < 2:
        what = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        raise ExportError(
            f"{type(network).__name__} gives {what} for 2 windows, not (batch, ...)",
            hint="write an exporter whose wrap gives (batch, n_outputs)",
        )
    return tuple(y.shape[1:])


def __getattr__(name: str) -> Exporter:
    """Return the exporter of the class called `name`."""
    if name.startswith("_"):
        raise AttributeError(name)
    _class(name)

    def exporter(shapes: Shapes, settings: Mapping[str, Any]) -> Built:
        built = _build(name, settings)
        if "input_scale" not in shapes:
            return built
        # What `rtserve train` writes: the network behind a fixed scale that brings volts to about 1.
        spec = dataclasses.replace(built.input_spec, unit=built.input_spec.unit or "V")
        network = with_input_scale(built.network)
        return dataclasses.replace(built, network=network, input_spec=spec, quirks=(*built.quirks, SCALE_QUIRK))

    return exporter
