"""Small names for windows and people: hashes that travel in a file and tell nothing but "it is the same one"."""

from __future__ import annotations

import base64
import hashlib

import numpy as np

from rtserve.signals.windows import WindowSet

__all__ = ["BITS", "among", "hashed", "pack", "rise_hashes", "unpack"]

BITS = 40
"""Of a hash: 60,000 windows against 6,000 names meet by chance once in 4,000 times."""
_FEWEST = 256
"""Rises in a window under which its samples themselves are hashed: so few do not tell windows apart."""


def rise_hashes(windows: WindowSet) -> np.ndarray:
    """Return a number below 2^40 per window, equal for equal windows in any unit; 0 for a flat one.

    Of which samples rise, so that neither a factor nor what it rounds changes it; `rtserve.signals.stored.fingerprints`
    tells windows of one set apart bit for bit.

    Returns
    -------
    ndarray of int64, (n_windows,)
    """
    out, place = np.zeros(len(windows), np.int64), 0
    few = windows.X.shape[1] * (windows.X.shape[2] - 1) < _FEWEST
    for x in windows.batches():
        rises = np.packbits((x[:, :, 1:] > x[:, :, :-1]).reshape(len(x), -1), axis=1)
        for window, row in zip(x, rises, strict=True):
            if row.any() or (few and np.ptp(window) > 0):
                out[place] = _number(window.tobytes() if few else row.tobytes())
            place += 1
    return out


def _number(data: bytes) -> int:
    return max(1, int.from_bytes(hashlib.blake2b(data, digest_size=BITS // 8).digest(), "big"))


def hashed(labels: np.ndarray, salt: str) -> np.ndarray:
    """Return the sorted hashes (n,) of the labels, each once; another salt gives others."""
    return np.unique([_salted(label, salt) for label in set(labels.tolist())]).astype(np.int64)


def among(packed: str, labels: np.ndarray, salt: str) -> np.ndarray:
    """Return for each of the labels (n,) whether its hash is in what `pack` made of `hashed`."""
    names, index = np.unique(labels, return_inverse=True)
    hashes = np.array([_salted(name, salt) for name in names.tolist()], np.int64)
    return np.asarray(np.isin(hashes, unpack(packed))[index], bool)


def _salted(label: str, salt: str) -> int:
    return _number(f"{salt}\0{label}".encode())


def pack(numbers: np.ndarray) -> str:
    """Return numbers below 2^40 as text."""
    return base64.b85encode(b"".join(int(n).to_bytes(BITS // 8, "big") for n in numbers)).decode()


def unpack(text: str) -> np.ndarray:
    """Read what `pack` wrote; ValueError where it is not that."""
    data, width = base64.b85decode(text), BITS // 8
    if len(data) % width:
        raise ValueError(f"{len(data)} bytes")
    return np.array([int.from_bytes(data[i : i + width], "big") for i in range(0, len(data), width)], np.int64)
