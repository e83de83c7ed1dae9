"""Metrics of class numbers: shares of right windows, agreement beyond chance, precision and recall in one.

Each is a value of sums over windows, as every metric here. Definitions are scikit-learn's: `accuracy_score`,
`balanced_accuracy_score`, `cohen_kappa_score` without weights, and `f1_score` with ``average="macro"`` over the classes
that are in the targets or the predictions.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "agreement_of_sums",
    "agreement_statistics",
    "commonest",
    "f1_of_sums",
    "recall_of_sums",
    "recall_statistics",
]

Array = np.ndarray


def commonest(y: Array) -> Array:
    """Return for each window the class that is the most frequent, the best constant of all of these."""
    values, counts = np.unique(y, return_counts=True)
    return np.full(len(y), values[np.argmax(counts)])


def recall_statistics(y: Array, p: Array) -> Array:
    """Return (n, 2 k): of each class in y, whether a window is of it, and whether it was found."""
    present = (y[:, None] == np.unique(y)).astype(np.float64)
    return np.concatenate([present, present * (p == y)[:, None]], axis=1)


def recall_of_sums(s: Array) -> Array:
    """Return the mean recall of the classes that are there."""
    k = s.shape[-1] // 2
    present, right = s[..., :k], s[..., k:]
    recall = np.divide(right, present, out=np.zeros_like(right), where=present > 0)
    result: Array = recall.sum(axis=-1) / (present > 0).sum(axis=-1)
    return result


def agreement_statistics(y: Array, p: Array) -> Array:
    """Return (n, 3 k): of each class in y or p, whether a window is of it, was called it, and both."""
    classes = np.union1d(y, p)
    present, called = (np.asarray(v[:, None] == classes, np.float64) for v in (y, p))
    return np.concatenate([present, called, present * called], axis=1)


def _parts(s: Array) -> tuple[Array, Array, Array]:
    k = s.shape[-1] // 3
    return s[..., :k], s[..., k : 2 * k], s[..., 2 * k :]


def agreement_of_sums(s: Array) -> Array:
    """Return Cohen's kappa: (observed - expected) / (1 - expected); NaN where one class is all there is."""
    present, called, right = _parts(s)
    n = present.sum(axis=-1)
    observed, expected = right.sum(axis=-1) / n, (present * called).sum(axis=-1) / n**2
    result: Array = (observed - expected) / np.where(expected < 1, 1 - expected, np.nan)
    return result


def f1_of_sums(s: Array) -> Array:
    """Return the mean over classes of 2 found / (there + called)."""
    present, called, right = _parts(s)
    seen = present + called
    each = np.divide(2 * right, seen, out=np.zeros_like(right), where=seen > 0)
    result: Array = each.sum(axis=-1) / (seen > 0).sum(axis=-1)
    return result
