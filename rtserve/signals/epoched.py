"""EEGLAB sets that were cut into epochs: one stretch per epoch, so that no window goes from one into the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["as_raw", "read_epoched_set"]


def read_epoched_set(path: Path) -> Any:
    """Return an epoched .set as an `mne.io.Raw` with a join between epochs and its events at their latencies.

    EEGLAB counts an event's latency along all epochs one after the other, and so does the result.
    """
    import mne

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
