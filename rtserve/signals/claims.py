"""What MNE multiplied a channel's numbers by, so that it can be undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["multiplied"]

_CLAIMS = {"v": 1.0, "mv": 1e-3, "uv": 1e-6, "µv": 1e-6, "μv": 1e-6, "nv": 1e-9, "n/a": 1.0, "": 1.0}
_BY_ENDING = {".set": 1e-6, ".cnt": 1e-6, ".mff": 1e-6, ".fif": 1.0, ".gz": 1.0}
"""What MNE multiplies by where a format states no unit: EEGLAB, Neuroscan and EGI are in microvolt, a .fif in volt."""


def multiplied(raw: Any, path: Path, name: str) -> float:
    """Return what MNE multiplied a channel's samples by to get volts; NaN where that is not known.

    Parameters
    ----------
    raw : mne.io.Raw
        As it was read.
    path : Path
        Its file.
    name : str
        The channel.
    """
    units = getattr(raw, "_orig_units", None) or {}
    if path.suffix.lower() in (".gdf", ".edf", ".bdf"):  # there MNE keeps what it multiplied by
        factors: Any = raw._raw_extras[0].get("units", [])
        place = raw.ch_names.index(name)
        return float(factors[place]) if place < len(factors) else np.nan
    if name in units:
        return _CLAIMS.get(units[name].lower(), 1.0)
    return _BY_ENDING.get(path.suffix.lower(), np.nan)
