"""EEGLAB sets that were cut into epochs: one stretch per epoch, so that no window goes from one into the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtserve.signals.wholeness import require_beside

__all__ = ["as_raw", "read_epoched_set"]


def read_epoched_set(path: Path) -> Any:
    """Return an epoched .set as an `mne.io.Raw` with a join between epochs and its events at their latencies.

    EEGLAB counts an event's latency along all epochs one after the other, and so does the result.

    Raises
    ------
    InputError
        Where its samples are in a file outside its own folder.
    """
    import mne

    require_beside(path, [named for named in _named_data(path) if named.exists()])
    epochs = mne.io.read_epochs_eeglab(path, verbose="error")
    data = epochs.get_data(copy=False)
    n_epochs, n_channels, n_times = data.shape
    joins = np.arange(1, n_epochs) * n_times
    return as_raw(data.transpose(1, 0, 2).reshape(n_channels, -1), epochs.info, joins, mne.read_annotations(path))


def as_raw(data: np.ndarray, info: Any, joins: np.ndarray, notes: Any) -> Any:
    """Return samples (n_chans, n) with a join before each of the samples `joins`, and annotations that count along them."""
    import mne

    raw = mne.io.RawArray(data, info, verbose="error")
    onset = joins / float(info["sfreq"])
    edges = mne.Annotations(onset, np.zeros(len(onset)), ["EDGE boundary"] * len(onset))
    raw.set_annotations(mne.Annotations(notes.onset, np.nan_to_num(notes.duration), notes.description) + edges)
    return raw


def _named_data(path: Path) -> list[Path]:
    """Return the file that a set names for its samples, as MNE takes the name; none where it holds them itself."""
    from scipy.io import loadmat

    try:
        content = loadmat(path, simplify_cells=True)
        data = content.get("EEG", content).get("data")
    except NotImplementedError:  # MATLAB's v7.3
        data = _named_in_hdf5(path)
    return [path.parent / data] if isinstance(data, str) else []


def _named_in_hdf5(path: Path) -> str | None:
    import h5py

    with h5py.File(path) as archive:
        data = archive["EEG/data"] if "EEG/data" in archive else archive.get("data")
        text = data is not None and data.dtype == np.uint16
        return "".join(map(chr, np.asarray(data).ravel())) if text else None
