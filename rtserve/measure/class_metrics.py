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
    "f1_end",
    "f1_of_sums",
    "kappa_end",
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


def kappa_end(total: Array, share: float) -> float | None:
    """Return how far a kappa of 1 may be down, or one of -1 up; None where it is neither.

    The windows that could be otherwise are called the most frequent class: so agreement by chance is likeliest.

    Parameters
    ----------
    total : ndarray, (3 k,)
        Of `agreement_statistics`.
    share : float
        How many windows could be otherwise and not be seen.
    """
    there, called, right = (part / _parts(total)[0].sum() for part in _parts(total))
    value = float(agreement_of_sums(total))
    if value not in (-1.0, 1.0):
        return None
    chance = min(1.0, float((there * called).sum() + share * (there.max() - there.min())))
    observed = 1.0 - share if right.any() else share
    return (observed - chance) / (1.0 - chance) if chance < 1 else -value


def f1_end(total: Array, share: float) -> float | None:
    """Return how far a macro F1 of 1 may be down, or one of 0 up; None where it is neither.

    The windows that could be otherwise are of the rarest classes, where they count most; those that were right are
    called the rarest class that is left.

    Parameters
    ----------
    total : ndarray, (3 k,)
        Of `agreement_statistics`.
    share : float
        How many windows could be otherwise and not be seen.
    """
    there, called, right = (part / _parts(total)[0].sum() for part in _parts(total))
    order = np.argsort(there, kind="stable")
    before = np.cumsum(there[order]) - there[order]
    moved = np.empty_like(there)
    moved[order] = np.clip(share - before, 0.0, there[order])
    if not right.any():
        found, seen = moved, there + moved
    elif np.array_equal(right, there) and np.array_equal(right, called):
        found = there - moved
        called = called - moved
        called[next((k for k in order if not moved[k]), order[-1])] += share
        seen = there + called
    else:
        return None
    return float(np.divide(2 * found, seen, out=np.zeros_like(there), where=seen > 0).mean())
