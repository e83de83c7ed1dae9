"""Lab Streaming Layer's .xdf: its stream of type EEG, and the markers of its text streams at their samples."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.signals.epoched import as_raw

__all__ = ["read_xdf"]

_UNITS = {"volts": 1.0, "v": 1.0, "millivolts": 1e-3, "mv": 1e-3, "microvolts": 1e-6, "uv": 1e-6, "µv": 1e-6}


def read_xdf(path: Path) -> Any:
    """Return the one EEG stream of a file as an `mne.io.Raw`, with joins where samples are missing.

    Raises
    ------
    EnvironmentMissingError
        Without pyxdf.
    InputError
        Where the file does not hold exactly one EEG stream with a constant rate, or does not say its unit.
    """
    try:
        import pyxdf
    except ImportError:
        raise EnvironmentMissingError(f"recording {path} needs pyxdf", hint="pip install pyxdf") from None
    with open(path, "rb") as handle:  # opened here: pyxdf leaves a file that is none of its kind open
        streams, _ = pyxdf.load_xdf(handle)
    eeg = [s for s in streams if s["info"]["type"][0].lower() == "eeg" and float(s["info"]["nominal_srate"][0]) > 0]
    if len(eeg) != 1:
        there = ", ".join(f"{s['info']['name'][0]} ({s['info']['type'][0]})" for s in streams) or "none"
        raise InputError(
            f"{path} holds {len(eeg)} streams of EEG with a constant rate; its streams are {there}",
            hint="save the one to use in a file of its own",
        )
    return _as_raw(eeg[0], [s for s in streams if s["info"]["channel_format"][0] == "string"], path)


def _as_raw(stream: Any, texts: list[Any], path: Path) -> Any:
    import mne

    stamps = np.asarray(stream["time_stamps"], float)
    rate = float(stream["info"]["nominal_srate"][0])
    names, factors = _channels(stream, path)
    info = mne.create_info(names, rate, "eeg", verbose="error")
    joins = np.flatnonzero(np.diff(stamps) > 1.5 / rate) + 1
    times = np.concatenate([np.asarray(text["time_stamps"], float) for text in texts]) if texts else np.empty(0)
    said = [str(row[0]) for text in texts for row in text["time_series"]]
    nearest = np.clip(np.rint(np.interp(times, stamps, np.arange(len(stamps)))).astype(int), 0, len(stamps) - 1)
    there = np.abs(stamps[nearest] - times) <= 1.0 / rate if len(times) else np.zeros(0, bool)
    if not there.all():
        warnings.warn(f"{int((~there).sum())} markers lie where the EEG has no sample, and are left out", stacklevel=2)
    kept = [text for text, at in zip(said, there, strict=True) if at]
    notes = mne.Annotations(nearest[there] / rate, np.zeros(len(kept)), kept)
    data = np.asarray(stream["time_series"], float).T * np.array(factors)[:, None]
    return as_raw(data, info, joins, notes)


def _channels(stream: Any, path: Path) -> tuple[list[str], list[float]]:
    """Return names and what brings each channel to volts."""
    n = int(stream["info"]["channel_count"][0])
    try:
        listed = stream["info"]["desc"][0]["channels"][0]["channel"]
        names = [channel["label"][0] for channel in listed]
        units = [channel["unit"][0].lower() for channel in listed]
    except (KeyError, TypeError, IndexError):
        names, units = [f"EEG{k + 1}" for k in range(n)], ["microvolts"] * n
        warnings.warn(
            "the stream names no channels and no unit: EEG1, EEG2, ... in microvolt are assumed", stacklevel=2
        )
    unknown = next((unit for unit in units if unit not in _UNITS), None)
    if unknown is not None or len(names) != n:
        raise InputError(
            f"{path}: its EEG stream names {len(names)} of {n} channels, with a unit {unknown or units[0]!r}",
            hint=f"known units are {', '.join(_UNITS)}",
        )
    return names, [_UNITS[unit] for unit in units]
