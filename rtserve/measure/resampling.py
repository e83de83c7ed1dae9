"""What is resampled, and what a resample gives: units, their sums, replicates of a metric and their standard errors.

Every metric here is a smooth function of sums over units that does not change when all sums are scaled alike. Its
influence of a unit is therefore the gradient at the sums times the unit's own sums, the influences add up to nothing,
and their squares estimate the variance of the metric (the infinitesimal jackknife, Efron 1982).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rtserve.measure.signature import FEW

__all__ = ["RESAMPLES", "Replicas", "Units", "influences", "replicate", "resampled", "weighted_sum"]

RESAMPLES = 2000
MIN_UNITS = 2
"""Fewer subjects than two have no spread: windows are resampled instead, and everything that is said of it says so."""
FEW_PEOPLE = 10
NAMELESS = ("", "n/a", "nan", "None")
"""What stands for a subject where nobody is named."""
STUDENTISED_UP_TO = 1000
"""With more units the skewness that a studentised bootstrap mends has averaged out."""
_BLOCK = 400_000
"""Draws in memory at once; the numbers do not depend on it."""
_STEP = 1e-5

Array = np.ndarray
OfSums = Callable[[Array], Array]


@dataclass(frozen=True, kw_only=True)
class Units:
    """What is resampled.

    Parameters
    ----------
    index : ndarray of int, (n_windows,)
        Which unit each window belongs to.
    count : int
        How many units.
    over : str
        ``"subjects"`` or ``"windows"``.
    unnamed : int
        How many windows name no subject; they are one unit.
    """

    index: Array
    count: int
    over: str
    unnamed: int = 0

    @classmethod
    def of(cls, subject: Array, n: int, *, minimum: int = MIN_UNITS) -> Units:
        """Return subjects as units where at least `minimum` are known, else the n windows."""
        if len(subject) == n and n:
            names, index = np.unique(subject, return_inverse=True)
            if len(names) >= minimum:
                unnamed = int(np.isin(names[index].astype("U"), NAMELESS).sum())
                return cls(index=index.ravel(), count=len(names), over="subjects", unnamed=unnamed)
        return cls(index=np.arange(n), count=n, over="windows")

    def caveats(self) -> tuple[str, ...]:
        """Return what must stand beside every interval and verdict over these units; nothing from ten subjects on."""
        few = self._few()
        if self.unnamed:
            few += (f"{self.unnamed} of {len(self.index)} windows name no subject, and count as one person",)
        return few

    def _few(self) -> tuple[str, ...]:
        if self.over == "windows":
            return (
                "intervals are over windows, because fewer than two subjects are known; windows of one subject are alike,"
                " so the truth is wider and says nothing about other people",
            )
        if self.count < FEW:
            return (
                f"only {self.count} subjects: with fewer than {FEW} no test can reach p 0.05 (the smallest possible is"
                f" {2.0 ** (1 - self.count):.3g}), so no difference can be shown",
            )
        if self.count < FEW_PEOPLE:
            return (f"intervals rest on {self.count} subjects: few to stand for people at large",)
        return ()

    def sums(self, statistics: Array) -> Array:
        """Return (count, k): the statistics (n_windows, k) summed within each unit."""
        if self.over == "windows":
            return statistics
        columns = [np.bincount(self.index, weights=column, minlength=self.count) for column in statistics.T]
        return np.stack(columns, axis=1)


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """A metric, its standard error, and both in bootstrap samples of units.

    Parameters
    ----------
    estimate, error : float
        The metric and its standard error over units, by leaving each out.
    values : ndarray, (resamples,)
        The metric of the samples.
    errors : ndarray, (resamples,)
        Its standard error within each; empty where there are more than `STUDENTISED_UP_TO` units.
    units : int
        How many were resampled.
    """

    estimate: float
    error: float
    values: Array
    errors: Array
    units: int


def weighted_sum(parts: Sequence[Replicas], weights: Sequence[float]) -> Replicas:
    """Return the replicas of a weighted sum of metrics that were resampled independently, each over its own units.

    Parameters
    ----------
    parts : sequence of Replicas
        With equally many samples each.
    weights : sequence of float
        One each.
    """

    def spread(errors: Sequence[Array]) -> Array:
        total = sum(np.square(w * e) for w, e in zip(weights, errors, strict=True))
        root: Array = np.sqrt(np.asarray(total))
        return root

    studentised = all(len(part.errors) for part in parts)
    values = np.stack([w * part.values for w, part in zip(weights, parts, strict=True)]).sum(axis=0)
    return Replicas(
        estimate=float(sum(w * part.estimate for w, part in zip(weights, parts, strict=True))),
        error=float(spread([np.asarray(part.error) for part in parts])),
        values=values,
        errors=spread([part.errors for part in parts]) if studentised else np.empty(0),
        units=min(part.units for part in parts),
    )


def influences(sums: Array, of_sums: OfSums) -> Array:
    """Return (count,): how much each unit with the given sums (count, k) pulls the metric."""
    with np.errstate(divide="ignore", invalid="ignore"):
        gradient = _gradient(of_sums, sums.sum(axis=0), _steps(sums))
    values: Array = sums @ gradient
    return values


def resampled(sums: Array, of_sums: OfSums, *, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Return (resamples,): the metric of bootstrap samples of units with the given sums (count, k).

    The draws depend on `seed` and the number of units only, so two calls with the same seed are paired.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.concatenate([of_sums(w @ sums) for w in _weights(len(sums), resamples, seed)])


def replicate(sums: Array, of_sums: OfSums, *, resamples: int = RESAMPLES, seed: int = 0) -> Replicas:
    """Return the metric of units with the given sums (count, k), and of their bootstrap samples, with errors.

    Parameters
    ----------
    sums : ndarray, (count, k)
        Of each unit.
    of_sums : callable
        ``(..., k) -> (...)``.
    resamples, seed : int
        Draws as in `resampled`.
    """
    count, k = sums.shape
    steps = _steps(sums)
    products = (sums[:, :, None] * sums[:, None, :]).reshape(count, k * k) if count <= STUDENTISED_UP_TO else None
    values, errors = [], []
    with np.errstate(divide="ignore", invalid="ignore"):
        for weights in _weights(count, resamples, seed):
            totals = weights @ sums
            values.append(of_sums(totals))
            if products is not None:
                errors.append(_error(of_sums, totals, (weights @ products).reshape(-1, k, k), count, steps))
        total = sums.sum(axis=0)
        error = _left_out(of_sums, sums, total)
        if not np.isfinite(error):
            error = float(_error(of_sums, total, np.einsum("ui,uj->ij", sums, sums), count, steps))
        estimate = float(of_sums(total))
    return Replicas(
        estimate=estimate,
        error=error,
        values=np.concatenate(values),
        errors=np.concatenate(errors) if errors else np.empty(0),
        units=count,
    )


def _left_out(of_sums: OfSums, sums: Array, total: Array) -> float:
    """Return the delete-one jackknife's standard error: larger than by influences where units are of unequal size."""
    values = of_sums(total - sums)
    return float(np.sqrt(np.square(values - values.mean()).sum() * (len(sums) - 1) / len(sums)))


def _weights(count: int, resamples: int, seed: int) -> Iterator[Array]:
    """Yield blocks (rows, count): how often each unit was drawn."""
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // count)

    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draw = rng.integers(0, count, size=(rows, count))
        draw += np.arange(rows)[:, None] * count
        yield np.bincount(draw.ravel(), minlength=rows * count).reshape(rows, count)


def _steps(sums: Array) -> Array:
    """Return (k,): steps of the numerical gradient, small against what the sums vary by."""
    steps: Array = _STEP * np.sqrt(np.square(sums).sum(axis=0))
    return np.where(steps > 0, steps, _STEP)


def _gradient(of_sums: OfSums, totals: Array, steps: Array) -> Array:
    """Return (..., k): the gradient of the metric at the totals (..., k) by central differences."""
    shifts = np.diag(steps)
    slopes = [(of_sums(totals + d) - of_sums(totals - d)) / (2 * h) for d, h in zip(shifts, steps, strict=True)]
    return np.stack(slopes, axis=-1)


def _error(of_sums: OfSums, totals: Array, products: Array, count: int, steps: Array) -> Array:
    """Return (...): the standard error of the metric from totals (..., k) and summed outer products (..., k, k)."""
    gradient = _gradient(of_sums, totals, steps)
    square = np.einsum("...i,...ij,...j->...", gradient, products, gradient)
    error: Array = np.sqrt(np.maximum(square, 0.0) * count / max(count - 1, 1))
    return error
