"""Writing into a window file what it does not say, so that nobody has to be asked again.

The samples stay as they are: a file in microvolt stays in microvolt. What was unknown is filled in; what the file says
otherwise is changed only with ``force``. The file is replaced whole or not at all. With an output under another ending
it is also how an .npz becomes an .h5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import check_writable, readable_file
from rtserve.signals import fields
from rtserve.signals.fields import Stated
from rtserve.signals.window_columns import window_columns
from rtserve.signals.windows import check_arrays, read_arrays, write_arrays

__all__ = ["Annotation", "annotate_windows"]


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What was written.

    Parameters
    ----------
    path : Path
        The file.
    before, after : dict of str to str
        What it said of unit, sfreq, target and classes, and says; empty for nothing.
    columns : tuple of str
        Columns of a table that were written into it.
    """

    path: Path
    before: dict[str, str]
    after: dict[str, str]
    columns: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the annotation as JSON values."""
        return {"path": str(self.path), "before": self.before, "after": self.after, "columns": list(self.columns)}

    def lines(self) -> list[str]:
        """Return what a person reads."""
        out = []
        for key, now in self.after.items():
            was = self.before[key]
            note = "" if was == now else f" (was {was})" if was else " (was not said)"
            out.append(f"  {key:<8} {now or 'not said'}{note}")
        added = [f"  columns  {', '.join(self.columns)}, one entry per window"] if self.columns else []
        return [str(self.path), *out, *added]


def annotate_windows(
    path: str | Path,
    stated: Stated,
    *,
    columns: str | Path | None = None,
    output: str | Path | None = None,
    force: bool = False,
) -> Annotation:
    """Write what is stated into a window file.

    Parameters
    ----------
    path : path
        An .npz or .h5 file of windows.
    stated : Stated
        What it is to say; what is not stated stays.
    columns : path, optional
        A table (.tsv, .csv) with a header and a row per window, in their order: each column is written under its name.
    output : path, optional
        Where to write instead, as .npz or .h5 by its ending.
    force : bool
        Change what the file says already, and replace an existing `output`.

    Raises
    ------
    InputError
        Where the file is no window set, says something else already, or what is stated cannot be true of its samples.
    """
    path = readable_file(path, "window set")
    target = path if output is None else check_writable(output, force=force)
    arrays = read_arrays(path)
    before = _said(arrays, str(path))
    wanted = {key: value for key, value in _as_text(stated).items() if value}
    added = window_columns(columns, arrays) if columns is not None else {}
    if not wanted and not added and output is None:
        raise InputError(f"nothing to write into {path}", hint="give --unit, --sfreq, --target, --classes or --columns")
    changed = [key for key, value in wanted.items() if before[key] and before[key] != value]
    if changed and not force:
        raise InputError(
            f"{path} says its {changed[0]} is {before[changed[0]]}, not {wanted[changed[0]]}",
            hint="pass --force to change what it says",
        )
    there = [name for name in added if name in arrays and not _same(arrays[name], added[name])]
    if there and not force:
        raise InputError(f"{path} has other entries in {there[0]}", hint="pass --force to replace them")
    arrays |= _as_arrays(stated) | added
    check_arrays(dict(arrays), path)
    write_arrays(target, arrays, force=force or output is None)
    return Annotation(path=target, before=before, after=before | wanted, columns=tuple(added))


def _same(mine: Any, other: np.ndarray) -> bool:
    return bool(np.array_equal(np.asarray(mine).astype("U"), other))


def _said(arrays: dict[str, Any], name: str) -> dict[str, str]:
    copy = dict(arrays)
    sfreq = fields.number(copy, "sfreq", name)
    return {
        "unit": fields.file_unit(copy, name) or "",
        "sfreq": f"{sfreq:g}" if sfreq else "",
        "target": fields.text(copy, "target", name),
        "classes": ", ".join(fields.names_of(copy, "classes")),
    }


def _as_text(stated: Stated) -> dict[str, str]:
    return {
        "unit": stated.unit or "",
        "sfreq": f"{stated.sfreq:g}" if stated.sfreq else "",
        "target": stated.target,
        "classes": ", ".join(stated.classes),
    }


def _as_arrays(stated: Stated) -> dict[str, Any]:
    values = {
        "unit": np.array(stated.unit) if stated.unit else None,
        "sfreq": np.float64(stated.sfreq) if stated.sfreq else None,
        "target": np.array(stated.target) if stated.target else None,
        "classes": np.array(stated.classes, "U") if stated.classes else None,
    }
    return {key: value for key, value in values.items() if value is not None}
