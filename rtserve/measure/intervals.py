"""The interval of a metric: three rules, of which the widest ends are taken, and an exact one where nothing varies.

`rtserve.measure.statistics` says why these three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.measure.metrics import Metric
from rtserve.measure.resampling import RESAMPLES, Replicas, Units, replicate
from rtserve.measure.signature import Interval
from rtserve.measure.tails import HEAVY, heavy, lognormal_upper

__all__ = ["LEVEL", "bootstrap_ends", "ends", "exact_ends", "interval"]

LEVEL = 0.95
MAX_BIAS = 1.0
"""Largest correction, in standard deviations of the replicates: the interval always holds the estimate."""
MIN_BOOTSTRAP = 5
"""Samples of fewer units are too alike to be counted: Student's t alone."""
_ALIKE = 1e-12
MAX_TAIL = 4.0
"""Largest studentised tail, in Student's: few units now and then give a sample without spread."""

Array = np.ndarray
Ends = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """A scale on which a metric's spread depends little on its size: there, its slope, and back."""

    to: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    back: Callable[[float], float]


def _logistic(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


_SCALES = {
    "identity": _Scale(to=lambda v: v, slope=np.ones_like, back=float),
    "log": _Scale(to=np.log, slope=lambda v: 1 / v, back=lambda x: float(np.exp(min(x, 700.0)))),
    "fisher": _Scale(to=np.arctanh, slope=lambda v: 1 / (1 - v * v), back=lambda x: float(np.tanh(x))),
    "logit": _Scale(to=lambda v: np.log(v / (1 - v)), slope=lambda v: 1 / (v * (1 - v)), back=_logistic),
}


def bootstrap_ends(replicates: Array, estimate: float, units: int, *, level: float = LEVEL) -> Ends | None:
    """Return the bias-corrected percentile ends, or None where there are fewer than two units or no finite replicate.

    The tail is widened for few units: ``Phi(sqrt(n / (n - 1)) t(level, n - 1))`` instead of ``(1 - level) / 2`` (the
    expanded interval of Hesterberg 2015, 10.1080/00031305.2015.1089789).

    Parameters
    ----------
    replicates : ndarray, (resamples,)
        The metric of the bootstrap samples.
    estimate : float
        The metric itself: where it lies among the replicates is their bias.
    units : int
        How many units were resampled.
    level : float
        Nominal coverage.
    """
    from scipy import stats

    finite = replicates[np.isfinite(replicates)]
    if units < 2 or not len(finite):
        return None
    below = float(np.mean(finite < estimate) + 0.5 * np.mean(finite == estimate))
    bias = float(np.clip(stats.norm.ppf(np.clip(below, 1e-9, 1 - 1e-9)), -MAX_BIAS, MAX_BIAS))
    tail = float(np.sqrt(units / (units - 1)) * stats.t.ppf((1 - level) / 2, units - 1))
    low, high = np.quantile(finite, stats.norm.cdf([2 * bias + tail, 2 * bias - tail]))
    return float(low), float(high)


def ends(replicas: Replicas, *, scale: str = "identity", level: float = LEVEL) -> Ends | None:
    """Return the widest ends of Student's t, the studentised and the bias-corrected percentile bootstrap.

    Parameters
    ----------
    replicas : Replicas
        Of the metric.
    scale : str
        ``"log"`` for an error, ``"fisher"`` for a correlation, ``"logit"`` for a share, ``"identity"`` for a
        difference: the scale on which the first two are taken.
    level : float
        Nominal coverage.

    Returns
    -------
    (float, float) or None
        None where there are under two units, or the metric has no spread.
    """
    if replicas.units < 2 or not np.isfinite(replicas.estimate):
        return None
    found = _studentised(replicas, _SCALES[scale], level)
    few = replicas.units < MIN_BOOTSTRAP
    percentile = None if few else bootstrap_ends(replicas.values, replicas.estimate, replicas.units, level=level)
    both = [pair for pair in (found, percentile) if pair is not None]
    if not both:
        return None
    return min(low for low, _ in both), max(high for _, high in both)


def _studentised(replicas: Replicas, scale: _Scale, level: float) -> Ends | None:
    """Return the wider of Student's t and the studentised bootstrap on a scale; None without a spread there."""
    from scipy import stats

    with np.errstate(all="ignore"):
        middle = float(scale.to(np.float64(replicas.estimate)))
        error = replicas.error * float(scale.slope(np.float64(replicas.estimate)))
        if not (np.isfinite(middle) and np.isfinite(error) and error > 0):
            return None
        t = float(stats.t.ppf((1 + level) / 2, replicas.units - 1))
        lower = upper = t
        if len(replicas.errors) and replicas.units >= MIN_BOOTSTRAP:
            drawn = (scale.to(replicas.values) - middle) / (replicas.errors * scale.slope(replicas.values))
            drawn = drawn[np.isfinite(drawn)]
            if len(drawn):
                low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
                lower, upper = (float(np.clip(side, t, MAX_TAIL * t)) for side in (high, -low))
        return scale.back(middle - lower * error), scale.back(middle + upper * error)


def exact_ends(value: float, counts: Array, bounds: Ends, *, level: float = LEVEL) -> Ends:
    """Return the interval of a share that is all or nothing in every unit: Clopper and Pearson's, by units.

    The metric is the mean of as many shares as there are counts. The end is the smallest mean under which units that
    are all right are still seen in ``(1 - level) / 2`` of cases, whatever the single shares: with one share of n units
    it is ``((1 - level) / 2) ** (1 / n)``.

    Parameters
    ----------
    value : float
        The metric: one of the bounds.
    counts : ndarray, (n_shares,)
        Units of each.
    bounds : (float, float)
        Of the metric.
    level : float
        Nominal coverage.
    """
    from scipy.optimize import brentq

    counts = np.asarray(counts, np.float64)
    wanted = np.log((1 - level) / 2)

    def short(log_weight: float) -> float:
        total = np.sum(counts * np.log(np.minimum(1.0, counts / np.exp(log_weight))))
        return float(total - wanted)

    weight = brentq(short, np.log(counts.min()), np.log(counts.max()) - wanted / counts.min() + 1.0)
    least = float(np.mean(np.minimum(1.0, counts / np.exp(weight))))
    low, high = bounds
    if value >= high:
        return low + least * (high - low), high
    return low, high - least * (high - low)


def interval(
    metric: Metric, y: Array, p: Array, units: Units, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Interval | None:
    """Return the interval of a metric, or None where there are too few units.

    Parameters
    ----------
    metric : Metric
        What is computed.
    y, p : ndarray, (n_windows,)
        Targets and predictions.
    units : Units
        What is resampled.
    resamples, seed, level : int, int, float
        Draws, their seed, nominal coverage.
    """
    y, p = np.asarray(y, np.float64), np.asarray(p, np.float64)
    sums = units.sums(metric.statistics(y, p))
    replicas = replicate(sums, metric.of_sums, resamples=resamples, seed=seed)
    found = metric_ends(metric, sums, replicas, windows=len(y), level=level)
    if found is None:
        return None
    mark = HEAVY if metric.order and heavy(metric.errors(y, p), units, metric.order) else ""
    return Interval(low=found[0], high=found[1], level=level, over=units.over, units=units.count, mark=mark)


def metric_ends(metric: Metric, sums: Array, replicas: Replicas, *, windows: int, level: float = LEVEL) -> Ends | None:
    """Return the ends for units with the given sums (count, k): exact at a bound, longer where noisy people weigh.

    None where there are too few units, or none differs from another.
    """
    if metric.bounds and replicas.units > 1 and replicas.estimate in metric.bounds:
        counts = np.array([len(sums)]) if metric.strata is None else metric.strata(sums)
        # A person who is in several classes is one person: what is seen in all of them is seen once.
        counts = counts * min(1.0, len(sums) / counts.sum())
        return exact_ends(replicas.estimate, counts, metric.bounds, level=level)
    found = _spread(ends(replicas, scale=metric.scale, level=level))
    edge = None
    if metric.edge is not None and replicas.units > 1:
        edge = metric.edge(sums.sum(axis=0), 1.0 - float(((1 - level) / 2) ** (1 / len(sums))))
    if edge is not None:
        low, high = found or (replicas.estimate, replicas.estimate)
        found = min(low, edge), max(high, edge)
    if found is None or metric.share is None or replicas.units > windows // 2:
        return found
    above, below, power = metric.share
    upper = lognormal_upper(sums[:, above], sums[:, below], windows, level)
    return found if upper is None else (found[0], max(found[1], upper**power))


def _spread(found: Ends | None) -> Ends | None:
    """Return the ends, or None where they are one: units that are all alike do not show how far others are."""
    if found is None or found[1] - found[0] <= _ALIKE * max(abs(found[0]), abs(found[1])):
        return None
    return found
