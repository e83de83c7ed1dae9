"""Windows that stay in their file: an array-like whose rows are read when asked for, and blocks of any X in order.

A set of 60,000 contest windows is 6.2 GB. Nothing needs them at once: a score, a digest or a check asks for blocks, a
training batch for a few rows. So X of a large set is a `StoredArray`: shape, dtype, indexing along windows and
``numpy.asarray`` work as for an array, and only what is indexed is read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rtserve.errors import InputError
from rtserve.spec import UNITS

__all__ = [
    "BLOCK_BYTES",
    "WHOLE_BYTES",
    "Identity",
    "Rows",
    "StoredArray",
    "blocks",
    "fingerprints",
    "in_memory",
    "rows_per_block",
]

BLOCK_BYTES, WHOLE_BYTES = 8 << 20, 32 << 20
"""Bytes of float32 samples that are read at once where windows are gone through in order, and those of a set that is read
whole when it is loaded."""


class Rows(Protocol):
    """Windows (n_windows, n_chans, n_times) in a file."""

    shape: tuple[int, ...]
    random_access: bool
    """Whether a row costs the same wherever it stands; a compressed archive is read from its beginning."""

    def read_into(self, start: int, out: np.ndarray) -> None:
        """Fill `out` (k, n_chans, n_times) float32 with the rows from `start` on."""


class Identity:
    """What a file was when it was opened; reading on from another one under the same name is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._was = self._now()

    def _now(self, handle: int | None = None) -> tuple[int, ...]:
        found = os.stat(self.path) if handle is None else os.fstat(handle)
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def require(self, handle: int | None = None) -> None:
        """Raise `InputError` where the file (or the opened one) is another than it was."""
        if (handle is None and not self.path.exists()) or self._now(handle) != self._was:
            raise InputError(
                f"{self.path} changed while it was being read", hint="run again with a file nothing writes to"
            )


class StoredArray:
    """X of a window set, in its file: float32, (n_windows, n_chans, n_times).

    Parameters
    ----------
    rows : Rows
        Where the samples are.
    factor : float
        What they are multiplied with, in float32.
    index : ndarray of int, optional
        Which rows, in which order; all by default.
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)
    ndim = 3

    def __init__(self, rows: Rows, *, factor: float = 1.0, index: np.ndarray | None = None) -> None:
        self._rows, self._factor, self._index = rows, np.float32(factor), index

    @property
    def shape(self) -> tuple[int, ...]:
        """Windows, channels and samples."""
        return (len(self._rows_wanted), *self._rows.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes all of it would take in memory."""
        return 4 * int(np.prod([int(size) for size in self.shape], dtype=object))

    @property
    def random_access(self) -> bool:
        """Whether rows can be read in any order at the same price."""
        return self._rows.random_access

    @property
    def _rows_wanted(self) -> range | np.ndarray:
        return range(self._rows.shape[0]) if self._index is None else self._index

    def __len__(self) -> int:
        return len(self._rows_wanted)

    def __repr__(self) -> str:
        return f"StoredArray{self.shape}, {self.nbytes:,} bytes in a file; numpy.asarray reads them"

    def take(self, index: Any) -> StoredArray:
        """Return the windows that `index` (a slice, integers or a mask) names, without reading them."""
        wanted = np.arange(self._rows.shape[0]) if self._index is None else self._index
        return StoredArray(self._rows, factor=float(self._factor), index=wanted[index])

    def scaled(self, factor: float) -> StoredArray:
        """Return the same windows multiplied by `factor`."""
        return StoredArray(self._rows, factor=float(self._factor * np.float32(factor)), index=self._index)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return the samples that `key` names; windows are read, then the rest of the key is applied, block by block.

        ``X[3]``, ``X[10:20]``, ``X[mask]``, ``X[[4, 1]]``, ``X[:, :2]`` and ``X[..., 50:]`` are as for an array.
        """
        parts = key if isinstance(key, tuple) else (key,)
        if any(part is Ellipsis for part in parts):
            at = next(i for i, part in enumerate(parts) if part is Ellipsis)
            parts = parts[:at] + (slice(None),) * (4 - len(parts)) + parts[at + 1 :]
        rows, rest = (parts[0], parts[1:]) if parts else (slice(None), ())
        if isinstance(rows, int | np.integer):
            return np.asarray(self._read(np.array([range(len(self))[int(rows)]]))[0][rest])
        wanted = np.arange(len(self))[rows]
        if not rest or not len(wanted):
            return self._read(wanted)[(slice(None), *rest)]
        step = rows_per_block(self.shape)
        pieces = [wanted[start : start + step] for start in range(0, len(wanted), step)]
        return np.concatenate([self._read(piece)[(slice(None), *rest)] for piece in pieces])

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in blocks(self):
            yield from block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("windows in a file cannot become an array without a copy")
        whole = self._read(np.arange(len(self)))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def _read(self, wanted: np.ndarray) -> np.ndarray:
        """Return the windows `wanted` (n,), read in runs as they stand in the file."""
        out = np.empty((len(wanted), *self.shape[1:]), np.float32)
        places = wanted if self._index is None else self._index[wanted]
        order = np.argsort(places, kind="stable")
        ordered = bool((order == np.arange(len(order))).all())
        step = rows_per_block(self.shape)
        for first, last in _runs(places[order], step):
            start = int(places[order[first]])
            if ordered:
                self._rows.read_into(start, out[first:last])
            else:
                piece = np.empty((last - first, *self.shape[1:]), np.float32)
                self._rows.read_into(start, piece)
                out[order[first:last]] = piece
        if self._factor != 1.0:
            out *= self._factor
        return out


def in_memory(X: Any, unit: str | None) -> tuple[np.ndarray | StoredArray, str | None]:
    """Return X as a window set has it, with its unit: volts, and read where it is small."""
    factor = UNITS[unit] if unit not in (None, "1") else 1.0
    if not isinstance(X, StoredArray):
        X = X.astype(np.float32, copy=False)
        X = X if factor == 1.0 else X * np.float32(factor)
    else:
        X = X if factor == 1.0 else X.scaled(factor)
        X = np.asarray(X) if X.nbytes <= WHOLE_BYTES else X
    return X, unit if unit in (None, "1") else "V"


def _runs(places: np.ndarray, longest: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of stretches of consecutive rows, none longer than `longest`."""
    ends = [*(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)] if len(places) else []
    begin = 0
    for end in ends:
        for first in range(begin, end, longest):
            yield first, min(first + longest, end)
        begin = end


def rows_per_block(shape: tuple[int, ...]) -> int:
    """Return how many windows of `shape` (n, n_chans, n_times) make a block, at least 1."""
    return max(1, BLOCK_BYTES // max(1, 4 * int(np.prod([int(size) for size in shape[1:]], dtype=object))))


def blocks(X: np.ndarray | StoredArray, size: int | None = None) -> Iterator[np.ndarray]:
    """Yield X (n_windows, n_chans, n_times) in order as contiguous float32 blocks of `size` windows."""
    step = size or rows_per_block(X.shape)
    for start in range(0, len(X), step):
        yield np.ascontiguousarray(X[start : start + step], dtype=np.float32)


def fingerprints(X: np.ndarray | StoredArray) -> np.ndarray:
    """Return a digest of 16 bytes per window (n_windows,): equal where the samples are, bit for bit."""
    out = np.empty(len(X), "V16")
    place = 0
    for block in blocks(X):
        for window in block:
            out[place] = hashlib.blake2b(window.data, digest_size=16).digest()
            place += 1
    return out
