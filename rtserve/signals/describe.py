"""What a file of windows holds, as JSON values: its arrays by their headers, and what they mean where they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import sha256_file
from rtserve.signals.windows import WindowSet, load_windows

__all__ = ["describe_windows"]


def describe_windows(path: Path) -> dict[str, Any]:
    """Return the arrays of an .npz or .h5 file, and of a window set its windows, target, subjects and unit.

    Raises
    ------
    InputError
        Where the file is neither.
    """
    arrays = _hdf5_arrays(path) if path.suffix in (".h5", ".hdf5") else _npz_arrays(path)
    report: dict[str, Any] = {"kind": "window set", "sha256": sha256_file(path), "arrays": arrays}
    try:
        return report | _meaning(load_windows(path, allow_nonfinite=True))
    except InputError as error:
        return report | {"kind": "arrays", "not_a_window_set": error.message}


def _npz_arrays(path: Path) -> list[dict[str, Any]]:
    from zipfile import BadZipFile

    try:
        with np.load(path, allow_pickle=False) as archive:
            return [_header(archive, name) for name in archive.files]
    except (OSError, ValueError, EOFError, BadZipFile, KeyError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not an .npz file ({reason})", hint="make one with numpy.savez") from None


def _header(archive: Any, name: str) -> dict[str, Any]:
    """Read shape and type from an array's header: an object array is named, never unpickled."""
    with archive.zip.open(f"{name}.npy") as handle:
        version = np.lib.format.read_magic(handle)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(handle)
    return {"key": name, "shape": list(shape), "dtype": str(dtype)}


def _hdf5_arrays(path: Path) -> list[dict[str, Any]]:
    import h5py

    found: list[dict[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.append({"key": name, "shape": list(item.shape or ()), "dtype": str(item.dtype)})

    try:
        with h5py.File(path, "r") as archive:
            archive.visititems(visit)
    except OSError as error:
        raise InputError(
            f"{path} is not an HDF5 file ({' '.join(str(error).split())})", hint="check the file"
        ) from None
    return found


def _meaning(windows: WindowSet) -> dict[str, Any]:
    finite = windows.X[np.isfinite(windows.X)]
    y = windows.y[np.isfinite(windows.y)]
    return {
        "digest": windows.digest,
        "windows": len(windows),
        "input": str(windows.input_spec),
        "first_sample_s": windows.t0,
        "channels": list(windows.ch_names),
        "spread_v": float(finite.std()) if finite.size else None,
        "not_finite": int((~np.isfinite(windows.X).all(axis=(1, 2))).sum()),
        "target": windows.target or "not said",
        "target_mean": float(y.mean()) if y.size else None,
        "target_std": float(y.std()) if y.size else None,
        "subjects": len(np.unique(windows.subject)),
        "runs": len(np.unique(windows.run_id)),
    }
