"""What two windows a hop apart have in common, found by numbering.

A column is what a value holds at one place along time: (batch, everything else). Two columns of one class at positions p
and q are one function of the recording, read q - p samples apart. So what column i holds in the next window is what
column j holds in this one where both are of one class and j lies a hop further: nothing else has to be known of layers,
paddings, edges or seams. Columns of one class and one position are one column, wherever they stand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["NONE", "NOWHERE", "Columns", "Numbering"]

NONE = -1
"""In place of a column: the padding; in place of a class: that of the padding."""
NOWHERE = np.iinfo(np.int64).min
"""Position of what does not depend on the recording."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """The columns of a value, along time.

    Parameters
    ----------
    kind : ndarray, (n,)
        Class of each.
    at : ndarray, (n,)
        Its position in the window, in samples; `NOWHERE` for what does not depend on it.
    """

    kind: np.ndarray
    at: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    @classmethod
    def window(cls, n_times: int) -> Columns:
        """Return those of the window itself: class 0, each at its own place."""
        return cls(kind=np.zeros(n_times, np.int64), at=np.arange(n_times))

    def take(self, index: np.ndarray) -> Columns:
        """Return the columns that an index picks; `NONE` for a column of padding."""
        missing = index == NONE
        safe = np.where(missing, 0, index)
        return Columns(
            kind=np.where(missing, NONE, self.kind[safe]).astype(np.int64),
            at=np.where(missing, NOWHERE, self.at[safe]).astype(np.int64),
        )

    def lag(self, hop: int) -> int:
        """Return how many steps ago the window lay a whole number of columns before this one: 1 unless columns are apart
        by what does not divide the hop."""  # fmt: skip
        placed = self.at[self.at != NOWHERE]
        apart, counts = np.unique(np.abs(np.diff(placed)), return_counts=True)
        apart, counts = apart[apart > 0], counts[apart > 0]
        if not len(apart):
            return 1
        usual = int(apart[counts.argmax()])
        return usual // math.gcd(usual, hop)

    def earlier(self, hop: int) -> np.ndarray:
        """Return which column of the window `hop` samples before is each column of this one; `NONE` where none is."""
        place = {key: i for i, key in reversed(list(enumerate(zip(self.kind.tolist(), self.at.tolist(), strict=True))))}
        found = [
            place.get((kind, at + hop), NONE) if at != NOWHERE else NONE
            for kind, at in zip(self.kind.tolist(), self.at.tolist(), strict=True)
        ]
        return np.array(found, dtype=np.int64)


class Numbering:
    """Gives equal functions of the recording equal classes."""

    def __init__(self) -> None:
        self._classes: dict[tuple[object, ...], int] = {}
        self._count = 1

    def computed(self, operation: object, parts: Sequence[Columns]) -> Columns:
        """Return the columns that an operation makes.

        Parameters
        ----------
        operation : hashable
            Everything that says what it does, but for what it reads.
        parts : sequence of Columns
            What each output column reads: its k-th reading is column i of ``parts[k]``.

        Returns
        -------
        Columns
            Of equal class where the operation and the classes read are equal, and equally far apart.
        """
        kinds, at = np.stack([p.kind for p in parts], 1), np.stack([p.at for p in parts], 1)
        placed = at != NOWHERE
        first = np.where(placed.any(1), at[np.arange(len(at)), placed.argmax(1)], NOWHERE)
        rows = np.concatenate([kinds, np.where(placed, at - first[:, None], NOWHERE)], 1)
        different, which = np.unique(rows, axis=0, return_inverse=True)
        numbers = np.array([self._number((operation, row.tobytes())) for row in different], dtype=np.int64)
        return Columns(kind=numbers[which.reshape(-1)], at=first)

    def constants(self, columns: np.ndarray) -> Columns:
        """Return the columns of numbers that are there, (n, ...): alike ones are of one class."""
        rows = np.ascontiguousarray(columns).reshape(len(columns), -1)
        numbers = [self._number(("constant", str(rows.dtype), columns.shape[1:], row.tobytes())) for row in rows]
        return Columns(kind=np.array(numbers, dtype=np.int64), at=np.full(len(rows), NOWHERE))

    def zeros(self, shape: tuple[int, ...], n: int) -> Columns:
        """Return n columns of zeros; they are no padding: what a pool's padding holds is no number."""
        number = self._number(("zeros", shape))
        return Columns(kind=np.full(n, number, np.int64), at=np.full(n, NOWHERE))

    def _number(self, key: tuple[object, ...]) -> int:
        if key not in self._classes:
            self._classes[key] = self._count
            self._count += 1
        return self._classes[key]
