"""Reading windows that another project cached in HDF5: ``eeg``/``labels`` or ``data``/``targets``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtserve.errors import InputError
from rtserve.files import readable_file
from rtserve.signals.electrodes import CHANNELS
from rtserve.signals.hdf5 import Opened, read_dataset, require_inside, rows_of
from rtserve.signals.soundness import survey
from rtserve.signals.stored import in_memory
from rtserve.signals.windows import WindowSet
from rtserve.spec import UNITS

__all__ = ["LAYOUTS", "is_cache", "read_cache"]

LAYOUTS = (("eeg", "labels"), ("data", "targets"))
_SUBJECTS = ("subject_ids", "subjects", "subject_id", "subject")


def is_cache(path: Path) -> bool:
    """Whether the file is an HDF5 file in one of `LAYOUTS`."""
    if path.suffix.lower() not in (".h5", ".hdf5"):
        return False
    try:
        with Opened(path) as archive:
            names = set(archive)  # by their links: what they lead to is not opened to know that they are there
    except InputError:
        return False
    return any(X in names and y in names for X, y in LAYOUTS)


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
    path = readable_file(path, "cache")
    with Opened(path) as archive:
        names = set(archive)
        name, labels = next(pair for pair in LAYOUTS if names.issuperset(pair))
        column = next((key for key in _SUBJECTS if key in names), "")
        for key in filter(None, (name, labels, column)):
            require_inside(archive, key, path)
        samples, y = archive[name], _numbers(read_dataset(archive[labels], path), labels, path)
        subject = read_dataset(archive[column], path).ravel().astype("U") if column else np.empty(0, "U1")
        shape = tuple(samples.shape or ())
        if 0 in shape:
            raise InputError(f"{path}: {name} is {shape}: it holds no window", hint="is it the right file?")
        y = y.reshape(len(y), -1) if y.ndim else y.reshape(1, 1)
        if len(shape) != 3 or y.shape != (shape[0], 1) or subject.size not in (0, shape[0]):
            raise InputError(
                f"{path}: {name} is {shape}, {labels} {y.shape}, subjects {subject.shape}",
                hint="a cache holds windows (n, channels, samples), one label each, and one subject each or none",
            )
        X, in_unit = in_memory(rows_of(samples, path), unit)
    typical = survey(X).typical
    if unit != "1" and not 1e-8 < typical < 5e-3:
        others = [one for one in ("V", "mV", "uV") if one != unit and 1e-8 < typical * UNITS[one] / UNITS[unit] < 5e-3]
        fitting = [f"--unit {one}" for one in others] + ["--unit 1 for windows normalised to variance 1"]
        raise InputError(
            f"{path}: a typical sample is {typical:.3g} V when {name} is in {unit}; EEG has about 1e-5 V",
            hint=f"{' or '.join(fitting)}",
        )
    return WindowSet(
        X=X,
        unit=in_unit,
        y=y[:, 0],
        subject=subject,
        ch_names=CHANNELS if X.shape[1] == len(CHANNELS) else (),
        sfreq=sfreq,
        t0=t0,
        target=target,
    )


def _numbers(labels: np.ndarray, name: str, path: Path) -> np.ndarray:
    if labels.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: {name} holds {labels.dtype}, no numbers",
            hint="number its classes 0, 1, ... before, or use their codes",
        )
    return labels.astype(np.float32)
