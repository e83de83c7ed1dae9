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

__all__ = ["is_fif", "read_epochs"]

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
    epochs = _opened(path)
    info = epochs.info
    names = [name for name, kind in zip(epochs.ch_names, epochs.get_channel_types(), strict=True) if kind == "eeg"]
    if not names:
        raise InputError(f"{path} holds epochs without an EEG channel", hint="set the channels' types with MNE")
    bad = [name for name in names if name in info["bads"]]
    if bad:
        raise InputError(
            f"{path} marks {', '.join(bad[:8])} as bad", hint="interpolate or drop them before the epochs are saved"
        )
    kinds = sorted(((code, name) for name, code in epochs.event_id.items() if code in set(epochs.events[:, 2])))
    if len(kinds) < 2:
        said = kinds[0][1] if kinds else "none"
        raise InputError(
            f"{path} holds one kind of event ({said}): there is nothing to predict",
            hint="save the windows with their own y: numpy.savez(FILE, X=epochs.get_data(), y=y, sfreq=..., unit='V')",
        )
    place = {code: index for index, (code, _) in enumerate(kinds)}
    arrays: dict[str, Any] = {
        "X": np.ascontiguousarray(
            epochs.get_data(picks=[epochs.ch_names.index(name) for name in names], verbose="error"), dtype=np.float32
        ),
        "y": np.array([place[code] for code in epochs.events[:, 2]], dtype=np.float32),
        "classes": np.array([name for _, name in kinds], dtype="U"),
        "target": np.array("class"),
        "ch_names": np.array(names, dtype="U"),
        "sfreq": np.float64(info["sfreq"]),
        "t0": np.float64(epochs.tmin),
        "unit": np.array("V"),
    }
    person = (info.get("subject_info") or {}).get("his_id")
    if person:
        arrays["subject"] = np.array([str(person)] * len(epochs), dtype="U")
    return arrays


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
