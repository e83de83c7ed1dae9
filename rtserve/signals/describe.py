"""What a file of windows holds, as JSON values: its arrays by their headers, and what they mean where they fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import sha256_file
from rtserve.signals.hdf5 import list_hdf5
from rtserve.signals.kinds import is_hdf5, require_window_file
from rtserve.signals.npz import list_npz
from rtserve.signals.subjects import people
from rtserve.signals.windows import Stated, WindowSet, load_windows

__all__ = ["describe_windows"]

_NOTHING = Stated()


def describe_windows(path: Path, *, stated: Stated = _NOTHING) -> dict[str, Any]:
    """Return the arrays of an .npz or .h5 file, and of a window set its windows, target, subjects and unit.

    Raises
    ------
    InputError
        Where the file is neither.
    """
    require_window_file(path)
    arrays = list_hdf5(path) if is_hdf5(path) else list_npz(path)
    report: dict[str, Any] = {"kind": "window set", "sha256": sha256_file(path), "arrays": arrays}
    try:
        return report | _meaning(load_windows(path, allow_nonfinite=True, stated=stated))
    except InputError as error:
        return report | {"kind": "arrays", "not_a_window_set": error.message}


@dataclass(kw_only=True)
class _Spread:
    """Mean square of the finite samples about their mean, block by block."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    not_finite: int = 0

    def add(self, block: np.ndarray) -> None:
        for window in block:
            values = window.ravel()
            finite = np.isfinite(values)
            if not finite.all():
                self.not_finite += 1
                values = values[finite]
            exact = values.astype(np.float64)
            self.count += exact.size
            self.total += float(exact.sum())
            self.squares += float(exact @ exact)

    @property
    def std(self) -> float | None:
        if not self.count:
            return None
        return float(np.sqrt(max(0.0, self.squares / self.count - (self.total / self.count) ** 2)))


def _meaning(windows: WindowSet) -> dict[str, Any]:
    spread = _Spread()
    for block in windows.batches():
        spread.add(block)
    y = windows.y[np.isfinite(windows.y)]
    return {
        "digest": windows.digest,
        "windows": len(windows),
        "input": str(windows.input_spec),
        "first_sample_s": windows.t0,
        "channels": list(windows.ch_names),
        "unit": windows.unit or "not said",
        "spread_v" if windows.unit == "V" else "spread": spread.std,
        "not_finite": spread.not_finite,
        "target": windows.target or "not said",
        "classes": list(windows.classes),
        "windows_of_class": {name: int((windows.y == place).sum()) for place, name in enumerate(windows.classes)},
        "other_targets": list(windows.targets),
        "target_mean": float(y.mean()) if y.size else None,
        "target_std": float(y.std()) if y.size else None,
        "subjects": len(np.unique(people(windows))),
        "subjects_known_by": str(windows.extra.get("subject_source", "")),
        "runs": len(np.unique(windows.run_id)),
    }
