"""Writing a window set larger than memory: parts on disk become one .npz or .h5, array by array."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import replacing

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
    """Write the windows of all parts into one file and return how many there are; memory holds one part's array.

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
    total = sum(part.arrays["X"][0][0] for part in parts)
    shapes = [part.shapes() for part in parts]
    columns = {
        name: ((total, *shape[1:]), np.result_type(*(np.dtype(own[name][1]) for own in shapes)))
        for name, (shape, _) in sorted(shapes[0].items())
    }
    with replacing(path, force=force) as temporary:
        (_write_hdf5 if path.suffix in (".h5", ".hdf5") else _write_npz)(temporary, parts, columns, constants)
    return total


Columns = dict[str, tuple[tuple[int, ...], "np.dtype[Any]"]]


def _arrays(parts: Sequence[Part], name: str) -> Iterator[np.ndarray]:
    for part in parts:
        if name in part.added:
            yield part.added[name]
            continue
        with np.load(part.path, allow_pickle=False) as archive:
            yield archive[name]


def _write_npz(path: Path, parts: Sequence[Part], columns: Columns, constants: dict[str, Any]) -> None:
    """Write .npy members one after the other; numpy reads the result as any .npz."""
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:  # noqa: TID251 -- an .npz, not a submission
        for name, (shape, dtype) in columns.items():
            with archive.open(_member(name), "w", force_zip64=True) as handle:
                header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(handle, header)
                for array in _arrays(parts, name):
                    handle.write(np.ascontiguousarray(array, dtype=dtype).tobytes())
        for name, value in sorted(constants.items()):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(value), allow_pickle=False)
            archive.writestr(_member(name), buffer.getvalue())


def _member(name: str) -> zipfile.ZipInfo:
    """Return an entry with a fixed date: the same windows give the same bytes."""
    return zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))


def _write_hdf5(path: Path, parts: Sequence[Part], columns: Columns, constants: dict[str, Any]) -> None:
    import h5py

    with h5py.File(path, "w") as archive:
        for name, (shape, dtype) in columns.items():
            kind = h5py.string_dtype() if dtype.kind == "U" else dtype
            target = archive.create_dataset(name, shape, dtype=kind)
            place = 0
            for array in _arrays(parts, name):
                target[place : place + len(array)] = array.astype(object) if dtype.kind == "U" else array
                place += len(array)
        for name, value in sorted(constants.items()):
            array = np.asanyarray(value)
            archive.create_dataset(name, data=np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array)
