"""Folds over subjects, and choices whose worth is told on subjects that had no say in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtserve.measure.metrics import Metric
from rtserve.measure.statistics import Units

__all__ = ["FOLDS", "fold_of", "held_out_choice", "nested"]

FOLDS = 5


def fold_of(units: Units, *, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """Return (n_windows,): which fold each window is in; a unit (subject) is never split.

    There are as many folds as units where those are fewer.
    """
    order = np.random.default_rng(seed).permutation(units.count)
    of_unit = np.empty(units.count, np.int64)
    of_unit[order] = np.arange(units.count) % min(folds, units.count)
    result: np.ndarray = of_unit[units.index]
    return result


def nested(
    fit: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]],
    units: Units,
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> np.ndarray:
    """Return predictions (n_windows,), each made by a choice in which its own subject had no part.

    Parameters
    ----------
    fit : callable
        Takes the integer index of the windows to choose on, returns a function from a window index to predictions.
    units : Units
        Subjects.
    folds, seed : int
        How many parts, and their draw.
    """
    fold = fold_of(units, folds=folds, seed=seed)
    parts = []
    for k in np.unique(fold):
        test = np.flatnonzero(fold == k)
        parts.append((test, fit(np.flatnonzero(fold != k))(test)))
    out = np.empty((len(fold), *parts[0][1].shape[1:]), np.float64)
    for test, found in parts:
        out[test] = found
    return out


def held_out_choice(
    metric: Metric, y: np.ndarray, candidates: np.ndarray, units: Units, *, folds: int = FOLDS, seed: int = 0
) -> np.ndarray:
    """Return predictions (n_windows,) of the candidate that is best on the other folds, fold by fold.

    Parameters
    ----------
    metric : Metric
        What best means.
    y : ndarray, (n_windows,)
        Targets.
    candidates : ndarray, (n_candidates, n_windows, ...)
        Predictions, in the form that the metric reads.
    units : Units
        Subjects.
    folds, seed : int
        How many parts, and their draw.
    """
    statistics = np.stack([metric.statistics(np.asarray(y, np.float64), np.asarray(p, np.float64)) for p in candidates])
    sign = -1.0 if metric.higher_is_better else 1.0

    def fit(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        best = int(np.argmin(sign * metric.of_sums(statistics[:, train].sum(axis=1))))
        return lambda test: np.asarray(candidates[best][test], np.float64)

    return nested(fit, units, folds=folds, seed=seed)
