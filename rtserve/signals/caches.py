"""Reading windows that another project cached in HDF5: ``eeg``/``labels`` or ``data``/``targets``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import readable_file
from rtserve.signals.electrodes import CHANNELS
from rtserve.signals.windows import WindowSet
from rtserve.spec import UNITS

__all__ = ["LAYOUTS", "is_cache", "read_cache"]

LAYOUTS = (("eeg", "labels"), ("data", "targets"))
_SUBJECTS = ("subject_ids", "subjects", "subject_id", "subject")


def is_cache(path: Path) -> bool:
    """Whether the file is an HDF5 file in one of `LAYOUTS`."""
    if path.suffix.lower() not in (".h5", ".hdf5"):
        return False
    import h5py

    try:
        with h5py.File(path, "r") as archive:
            return any(X in archive and y in archive for X, y in LAYOUTS)
    except OSError:
        return False


def read_cache(path: Path, *, unit: str = "V", sfreq: float = 100.0, t0: float = 0.5, target: str = "") -> WindowSet:
    """Return the windows of a cache.

    Parameters
    ----------
    path : Path
        The HDF5 file.
    unit : str
        What its samples are in; such caches do not say.
    sfreq, t0 : float
        Hz, and s of the first sample after the event; such caches do not say.
    target : str
        What its labels are.

    Raises
    ------
    InputError
        Where arrays are missing or contradict each other, or the samples cannot be in that unit.
    """
    import h5py

    path = readable_file(path, "cache")
    with h5py.File(path, "r") as archive:
        name, labels = next(pair for pair in LAYOUTS if pair[0] in archive and pair[1] in archive)
        X, y = np.asarray(archive[name][()], np.float32), np.asarray(archive[labels][()], np.float32)
        subject = next((_texts(archive[key][()]) for key in _SUBJECTS if key in archive), np.empty(0, "U1"))
    y = y.reshape(len(y), -1)
    if X.ndim != 3 or y.shape != (len(X), 1) or subject.size not in (0, len(X)):
        raise InputError(
            f"{path}: {name} is {X.shape}, {labels} {y.shape}, subjects {subject.shape}",
            hint="a cache holds windows (n, channels, samples), one label each, and one subject each or none",
        )
    X = X * np.float32(UNITS[unit])
    typical = float(np.median(np.abs(X.ravel()[:: max(1, X.size // 1_000_000)])))
    if not 1e-8 < typical < 5e-3:
        raise InputError(
            f"{path}: a typical sample is {typical:.3g} V when {name} is in {unit}; EEG has about 1e-5 V",
            hint="--unit uV for microvolt; windows normalised to variance 1 are in no unit and cannot be brought back",
        )
    return WindowSet(
        X=X,
        y=y[:, 0],
        subject=subject,
        ch_names=CHANNELS if X.shape[1] == len(CHANNELS) else (),
        sfreq=sfreq,
        t0=t0,
        target=target,
    )


def _texts(values: Any) -> np.ndarray:
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in np.ravel(values)], "U")
