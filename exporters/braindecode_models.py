"""Exporters for every class of braindecode.models: ``exporters/braindecode_models.py:EEGNeX``.

Settings (``--set key=value``) are the class's own keyword arguments. Where the contest's shape applies none is needed:
n_chans=129, n_times=200, sfreq=100, n_outputs=1. ``target`` and ``unit`` describe the data and are not passed on; they
and the rate are unknown where they are not given. ``exporters/braindecode_models.py`` alone is for models of the hub.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from braindecode_quirks import apply_quirks, quirks_of  # type: ignore[import-not-found]

from rtserve.errors import InputError
from rtserve.graphs.braindecode_network import braindecode_class, described
from rtserve.graphs.exporter import Built, Exporter, HubExporter, Shapes
from rtserve.graphs.factory import SCALE_QUIRK, with_input_scale
from rtserve.graphs.hub_network import hub_built
from rtserve.spec import InputSpec

DEFAULTS: dict[str, Any] = {"n_chans": 129, "n_times": 200, "sfreq": 100, "n_outputs": 1}
"""The contest's windows: 2 s of 129 channels at 100 Hz, one number."""


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
    cls = braindecode_class(name)
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
    return described(network, spec, target=target, quirks=quirks_of(network), rewrite=apply_quirks)


def _hub_built(hub: Mapping[str, Any], settings: Mapping[str, Any]) -> Built:
    return hub_built(hub, settings, quirks_of=quirks_of, rewrite=apply_quirks)


exporter = HubExporter(build=_hub_built)
"""Of a model of the hub: class and arguments come from the card and config.json beside its weights."""


def __getattr__(name: str) -> Exporter:
    """Return the exporter of the class called `name`."""
    if name.startswith("_"):
        raise AttributeError(name)
    braindecode_class(name)

    def of_class(shapes: Shapes, settings: Mapping[str, Any]) -> Built:
        built = _build(name, settings)
        if "input_scale" not in shapes:
            return built
        # What `rtserve train` writes: the network behind a fixed scale that brings volts to about 1.
        spec = dataclasses.replace(built.input_spec, unit=built.input_spec.unit or "V")
        network = with_input_scale(built.network)
        return dataclasses.replace(built, network=network, input_spec=spec, quirks=(*built.quirks, SCALE_QUIRK))

    return of_class
