"""Writing a window set larger than memory: parts on disk become one .npz or .h5, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.npz import read_npz
from rtserve.signals.stored import StoredArray
from rtserve.signals.windows import write_arrays

__all__ = ["Part", "join_parts"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """An .npz on disk and what is in it, so that the file need not be read to know.

    Parameters
    ----------
    path : Path
        The file.
    arrays : dict of str to (tuple of int, str)
        Shape and dtype of each array.
    added : dict of str to ndarray, (n_windows,)
        Columns that are not in the file, but for every part known when parts are joined.
    """

    path: Path
    arrays: dict[str, tuple[tuple[int, ...], str]]
    added: dict[str, np.ndarray] = field(default_factory=dict)

    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and dtype of each array, added ones too."""
        return self.arrays | {name: (array.shape, array.dtype.str) for name, array in self.added.items()}


def join_parts(parts: Sequence[Part], path: Path, constants: dict[str, Any], *, force: bool) -> int:
    """Write the windows of all parts into one file and return how many there are; memory holds a block.

    Parameters
    ----------
    parts : sequence of Part
        With the same arrays, ``X`` among them.
    path : Path
        .npz or .h5 by its ending; written whole or not at all.
    constants : dict
        Arrays that all windows share.
    force : bool
        Replace an existing file.

    Raises
    ------
    InputError
        Where parts differ in shape.
    """
    first = parts[0].arrays
    for part in parts:
        if part.arrays["X"][0][1:] != first["X"][0][1:]:
            raise InputError(
                f"{part.path.stem} has windows of {part.arrays['X'][0][1:]}, {parts[0].path.stem} of"
                f" {first['X'][0][1:]}",
                hint="recordings with different channels or rates: name --channels and --sfreq",
            )
    X = StoredArray(_Joined(parts))
    columns = {name: _column(parts, name) for name in sorted(parts[0].shapes()) if name != "X"}
    arrays = {"X": X, **columns, **{name: np.asanyarray(value) for name, value in sorted(constants.items())}}
    write_arrays(path, arrays, force=force)
    return len(X)


def _column(parts: Sequence[Part], name: str) -> np.ndarray:
    columns = []
    for part in parts:
        if name in part.added:
            columns.append(part.added[name])
            continue
        with np.load(part.path, allow_pickle=False) as archive:
            columns.append(archive[name])
    return np.concatenate(columns)


class _Joined:
    """The rows of all parts, one after the other; one part is open at a time."""

    random_access = True

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._ends = np.cumsum([part.arrays["X"][0][0] for part in parts])
        self.shape = (int(self._ends[-1]), *parts[0].arrays["X"][0][1:])
        self._now: tuple[int, Any] = (-1, None)

    def read_into(self, start: int, out: np.ndarray) -> None:
        done = 0
        while done < len(out):
            at = int(np.searchsorted(self._ends, start + done, side="right"))
            if self._now[0] != at:
                self._now = (at, read_npz(self._parts[at].path)["X"])
            begin = start + done - int(self._ends[at]) + self._parts[at].arrays["X"][0][0]
            piece = self._now[1][begin : begin + len(out) - done]
            out[done : done + len(piece)] = piece
            done += len(piece)
