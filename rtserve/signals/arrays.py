"""The arrays of a window file, whatever form it has: .npz, .h5, or epochs that MNE saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtserve.signals.epochs_file import is_fif, read_epochs
from rtserve.signals.hdf5 import read_hdf5
from rtserve.signals.kinds import is_hdf5, require_window_file
from rtserve.signals.npz import read_npz

__all__ = ["read_arrays"]


def read_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of a window file as they stand in it; X, where it is one of windows, stays there."""
    if is_fif(path):
        return read_epochs(path)
    require_window_file(path)
    return read_hdf5(path) if is_hdf5(path) else read_npz(path)
