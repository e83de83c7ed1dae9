"""Labels of windows (subjects, runs, parts) as numbers: a large set has few of them, and no object per window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["in_two", "joined", "pairs_of"]

_AT_ONCE = 4096


def joined(labels: np.ndarray) -> Iterator[bytes]:
    """Yield the labels (n,) as one UTF-8 text with a NUL between any two, piece by piece."""
    for start in range(0, len(labels), _AT_ONCE):
        names = labels[start : start + _AT_ONCE].astype("U").tolist()
        yield ("\0" * bool(start) + "\0".join(names)).encode()


def pairs_of(first: np.ndarray, second: np.ndarray) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Return the different pairs that two labels per window make, and which of them each window has (n_windows,)."""
    ones, one = np.unique(first, return_inverse=True)
    others, other = np.unique(second, return_inverse=True)
    codes, which = np.unique(one * len(others) + other, return_inverse=True)
    pairs = [(str(ones[code // len(others)]), str(others[code % len(others)])) for code in codes.tolist()]
    return pairs, which


def in_two(labels: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Return the labels, sorted and each once, whose windows are marked in two ways or more."""
    names, which = np.unique(labels, return_inverse=True)
    parts, part = np.unique(marks, return_inverse=True)
    found = np.unique(which * len(parts) + part)
    twice: np.ndarray = names[np.bincount(found // len(parts), minlength=len(names)) > 1]
    return twice
