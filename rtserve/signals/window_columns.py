"""Columns from a table: what a metric groups windows by and their file does not carry, such as session or image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.tables import read_table

__all__ = ["window_columns"]

_TAKEN = ("X", "y", "sfreq", "t0", "unit", "target", "ch_names", "classes", "preprocessing")
"""What a window file means something else by."""


def window_columns(path: str | Path, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the columns of a table as (n_windows,) texts by their names; ``recording`` is ``run_id``.

    Parameters
    ----------
    path : path
        With a header, and a row for each window in the file's order.
    arrays : mapping
        Of the window file.

    Raises
    ------
    InputError
        Where rows and windows are not as many, an entry is missing, or a column is called as something else there.
    """
    table = read_table(Path(path), what="table of columns")
    n = int(arrays["X"].shape[0]) if "X" in arrays else 0
    if len(table.rows) != n:
        raise InputError(
            f"{path} has {len(table.rows)} rows for {n} windows", hint="give one row per window, in their order"
        )
    wrong = [name for name in table.columns if name in _TAKEN or name.startswith(("y.", "classes.")) or not name]
    if wrong or not table.columns:
        raise InputError(
            f"{path} has a column {wrong[0]!r}, which is no column of labels" if wrong else f"{path} has no columns",
            hint="name columns such as session, context, image, recording",
        )
    out = {}
    for name in table.columns:
        entries = [entry.strip() for entry in table.column(name)]
        if "" in entries:
            raise InputError(f"{path}: no {name} in line {table.lines[entries.index('')]}", hint="fill every row")
        out["run_id" if name == "recording" else name] = np.array(entries, "U")
    return out
