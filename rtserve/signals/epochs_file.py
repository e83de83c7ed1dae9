"""MNE's own files of epochs (``-epo.fif``) as windows: what is cut already needs no `rtserve prepare`.

The EEG channels are the windows, in volts, as MNE gives them (projectors applied); the kinds of events are the classes,
in the order of their codes. Channels that are marked bad and files of one kind of event are refused: which channels a
network wants, and what it is to predict, nobody can say for the user.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError

__all__ = ["epochs_arrays", "is_fif", "read_epochs"]

_FIF = b"\x00\x00\x00\x64\x00\x00\x00\x1f"


def is_fif(path: Path) -> bool:
    """Whether the file begins as a FIF file does."""
    with open(path, "rb") as handle:
        return handle.read(len(_FIF)) == _FIF


def read_epochs(path: Path) -> dict[str, Any]:
    """Return the arrays of a window set, as `rtserve.signals.windows.read_arrays` does.

    Raises
    ------
    InputError
        Where the file holds no epochs, no EEG, channels marked bad, or one kind of event alone.
    """
    return epochs_arrays(_opened(path), str(path), classed=True)


def epochs_arrays(epochs: Any, name: str, *, classed: bool) -> dict[str, Any]:
    """Return the arrays of a window set of epochs that MNE holds.

    Parameters
    ----------
    epochs : mne.BaseEpochs
        They are left as they are; what MNE has not read or not dropped yet is done on a copy.
    name : str
        What messages call them.
    classed : bool
        Whether the kinds of events are the targets; without, there is no y.

    Raises
    ------
    InputError
        Where there is no epoch, no EEG, a channel marked bad, or, for targets, one kind of event alone.
    """
    import mne

    with mne.utils.use_log_level("error"):
        epochs = epochs if epochs.preload else epochs.copy().load_data()
    info = epochs.info
    names = [name for name, kind in zip(epochs.ch_names, epochs.get_channel_types(), strict=True) if kind == "eeg"]
    if not names:
        raise InputError(f"{name} holds epochs without an EEG channel", hint="set the channels' types with MNE")
    if not len(epochs):
        raise InputError(f"{name} holds no epoch: all were dropped", hint="epochs.drop_log says why")
    bad = [name for name in names if name in info["bads"]]
    if bad:
        raise InputError(
            f"{name} marks {', '.join(bad[:8])} as bad",
            hint="interpolate or drop them: epochs.interpolate_bads(), or epochs.drop_channels(epochs.info['bads'])",
        )
    arrays: dict[str, Any] = {
        "X": np.ascontiguousarray(
            epochs.get_data(picks=[epochs.ch_names.index(name) for name in names], verbose="error"), dtype=np.float32
        ),
        "ch_names": np.array(names, dtype="U"),
        "sfreq": np.float64(info["sfreq"]),
        "t0": np.float64(epochs.tmin),
        "unit": np.array("V"),
    }
    person = (info.get("subject_info") or {}).get("his_id")
    if person:
        arrays["subject"] = np.array([str(person)] * len(epochs), dtype="U")
    return arrays | (_classes(epochs, name) if classed else {})


def _classes(epochs: Any, name: str) -> dict[str, Any]:
    """Return the kinds of events as classes, in the order of their codes."""
    codes = epochs.events[:, 2]
    kinds = sorted((code, label) for label, code in epochs.event_id.items() if code in set(codes))
    if len(kinds) < 2:
        said = kinds[0][1] if kinds else "none"
        raise InputError(
            f"{name} holds one kind of event ({said}): there is nothing to predict",
            hint="give targets of your own: (epochs, y) in Python, or a file:"
            " numpy.savez(FILE, X=epochs.get_data(), y=y, sfreq=..., unit='V')",
        )
    place = {code: index for index, (code, _) in enumerate(kinds)}
    return {
        "y": np.array([place[code] for code in codes], dtype=np.float32),
        "classes": np.array([label for _, label in kinds], dtype="U"),
        "target": np.array("class"),
    }


def _opened(path: Path) -> Any:
    import warnings

    import mne

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a name does not end in -epo.fif says nothing of what is inside
            return mne.read_epochs(path, proj=True, preload=True, verbose="error")
    except Exception as error:  # MNE meets other files with many kinds of error
        said = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path} is not a window set but a FIF file without epochs ({said})",
            hint="cut windows from a recording: rtserve prepare FILE -o windows.npz",
        ) from None
