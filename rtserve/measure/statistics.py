"""Intervals and paired differences by bootstrap over subjects.

Windows of one subject are alike, so the subject is what is resampled wherever it is known; windows are resampled
otherwise, and every interval says which. The interval is the bias-corrected percentile bootstrap (Efron 1981,
10.2307/3314608): few subjects drawn with replacement spread their targets less than the subjects do, which pushes a
normalised error up in every draw. It is widened for few units: its tail is ``Phi(sqrt(n / (n - 1)) t(level, n - 1))``
instead of ``(1 - level) / 2`` (the expanded interval of Hesterberg 2015, 10.1080/00031305.2015.1089789).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.measure.metrics import Metric
from rtserve.measure.signature import Interval

__all__ = ["LEVEL", "RESAMPLES", "Difference", "Units", "bootstrap_ends", "difference", "interval", "resampled"]

RESAMPLES = 2000
LEVEL = 0.95
MIN_UNITS = 5
"""Fewer subjects than this say nothing about subjects: windows are resampled instead, and the interval says so."""
MAX_BIAS = 1.0
"""Largest correction, in standard deviations of the replicates: the interval always holds the estimate."""
_BLOCK = 4_000_000

Array = np.ndarray


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
    """

    index: Array
    count: int
    over: str

    @classmethod
    def of(cls, subject: Array, n: int, *, minimum: int = MIN_UNITS) -> Units:
        """Return subjects as units where at least `minimum` are known, else the n windows."""
        if len(subject) == n and n:
            names, index = np.unique(subject, return_inverse=True)
            if len(names) >= minimum:
                return cls(index=index.ravel(), count=len(names), over="subjects")
        return cls(index=np.arange(n), count=n, over="windows")

    def sums(self, statistics: Array) -> Array:
        """Return (count, k): the statistics (n_windows, k) summed within each unit."""
        if self.over == "windows":
            return statistics
        out = np.zeros((self.count, statistics.shape[1]))
        np.add.at(out, self.index, statistics)
        return out


def resampled(sums: Array, of_sums: Callable[[Array], Array], *, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Return (resamples,): the metric of bootstrap samples of units with the given sums (count, k).

    The draws depend on `seed` and the number of units only, so two calls with the same seed are paired.
    """
    rng = np.random.default_rng(seed)
    count = len(sums)
    step = max(1, _BLOCK // count)
    values = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, resamples, step):
            rows = min(step, resamples - start)
            draw = rng.integers(0, count, size=(rows, count))
            draw += np.arange(rows)[:, None] * count
            weights = np.bincount(draw.ravel(), minlength=rows * count).reshape(rows, count)
            values.append(of_sums(weights @ sums))
    return np.concatenate(values)


def bootstrap_ends(
    replicates: Array, estimate: float, units: int, *, level: float = LEVEL
) -> tuple[float, float] | None:
    """Return the ends of the interval, or None where there are fewer than two units or no finite replicate.

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


def interval(
    metric: Metric, y: Array, p: Array, units: Units, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Interval | None:
    """Return the bootstrap interval of a metric, or None where there are too few units.

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
    sums = units.sums(metric.statistics(np.asarray(y, np.float64), np.asarray(p, np.float64)))
    replicates = resampled(sums, metric.of_sums, resamples=resamples, seed=seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(metric.of_sums(sums.sum(axis=0)))
    ends = bootstrap_ends(replicates, estimate, units.count, level=level)
    if ends is None:
        return None
    return Interval(low=ends[0], high=ends[1], level=level, over=units.over, units=units.count)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference of one metric between two predictions of the same windows.

    Parameters
    ----------
    metric : str
        Name of the metric.
    first, second : float
        The two values.
    value : float
        ``second - first``.
    interval : Interval or None
        Paired bootstrap interval of `value`.
    p : float
        Two-sided permutation p: how often swapping the two predictions of whole units at random (the sign flip of
        their differences) gives a difference at least as large.
    detectable : float
        Smallest difference that would have been found with probability 0.8 at the interval's level.
    higher_is_better : bool
        Direction of the metric.
    corrected, corrupted : float
        Share of windows whose error became smaller, and larger.
    identical : bool
        Whether the two predictions are equal everywhere.
    constant : float or None
        What the best constant scores on the same windows; None where the metric is not defined for one.
    """

    metric: str
    first: float
    second: float
    value: float
    interval: Interval | None
    p: float
    detectable: float
    higher_is_better: bool
    corrected: float
    corrupted: float
    identical: bool
    constant: float | None = None

    @property
    def different(self) -> bool:
        """Whether the difference is shown: its interval excludes 0 and the permutation p agrees."""
        if self.interval is None or self.identical:
            return False
        return 0.0 not in self.interval and self.p <= 1 - self.interval.level

    @property
    def verdict(self) -> str:
        """``"helps"``, ``"hurts"``, ``"identical"`` or ``"no difference detectable"``: the second against the first."""
        if self.identical:
            return "identical"
        if not self.different:
            return "no difference detectable"
        return "helps" if (self.value > 0) == self.higher_is_better else "hurts"

    def sentence(self) -> str:
        """Return the verdict with its numbers; never a bare zero."""
        if self.identical:
            return f"identical predictions: {self.metric} {self.first:.5g} twice; the change does nothing on this data"
        ends = f" [{self.interval.low:+.3g}, {self.interval.high:+.3g}]" if self.interval else ""
        numbers = f"{self.metric} {self.value:+.3g}{ends}, p {self.p:.3g}"
        if self.different:
            return f"{self.verdict}: {numbers}"
        if abs(self.value) < self.detectable:
            return f"no difference detectable (at least {self.detectable:.2g} would have been): {numbers}"
        few = f"{self.interval.units} {self.interval.over} are too few to tell" if self.interval else "too few to tell"
        return f"no difference shown: {numbers}; {few}"

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON values."""
        values = {key: getattr(self, key) for key in self.__dataclass_fields__ if key != "interval"}
        finite = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}
        ends = self.interval.to_dict() if self.interval else None
        return finite | {"interval": ends, "verdict": self.verdict, "sentence": self.sentence()}


def difference(
    metric: Metric,
    y: Array,
    first: Array,
    second: Array,
    units: Units,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Return how the second prediction's metric differs from the first's, on the same windows and the same draws.

    Parameters
    ----------
    metric : Metric
        What is computed.
    y, first, second : ndarray, (n_windows,)
        Targets and the two predictions.
    units : Units
        What is resampled and swapped.
    resamples, seed, level : int, int, float
        Draws, their seed, nominal coverage of the interval.
    """
    y, first, second = (np.asarray(a, np.float64) for a in (y, first, second))
    sums = [units.sums(metric.statistics(y, p)) for p in (first, second)]
    replicates = [resampled(s, metric.of_sums, resamples=resamples, seed=seed) for s in sums]
    delta = replicates[1] - replicates[0]
    closer, further = _moved(metric, y, first, second)
    values = [metric(y, first), metric(y, second)]
    ends = bootstrap_ends(delta, values[1] - values[0], units.count, level=level)
    return Difference(
        metric=metric.name,
        first=values[0],
        second=values[1],
        value=values[1] - values[0],
        interval=Interval(low=ends[0], high=ends[1], level=level, over=units.over, units=units.count) if ends else None,
        p=_swap_p(sums[0], sums[1], metric.of_sums, resamples=resamples, seed=seed + 1),
        detectable=_detectable(delta, level),
        higher_is_better=metric.higher_is_better,
        corrected=closer,
        corrupted=further,
        identical=bool(np.array_equal(first, second)),
        constant=None if metric.name == "pearson" else metric(y, metric.constant(y)),
    )


def _moved(metric: Metric, y: Array, first: Array, second: Array) -> tuple[float, float]:
    """Return the shares of windows whose error shrank and grew; for classes, that became right and wrong."""
    if metric.name == "balanced_accuracy":
        before, after = (first != y).astype(float), (second != y).astype(float)
    else:
        before, after = np.abs(first - y), np.abs(second - y)
    return float(np.mean(after < before)), float(np.mean(after > before))


def _detectable(delta: Array, level: float) -> float:
    """Return the difference that a test of this spread finds with probability 0.8."""
    from scipy import stats

    finite = delta[np.isfinite(delta)]
    if len(finite) < 2:
        return float("inf")
    return float((stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(0.8)) * finite.std())


def _swap_p(a: Array, b: Array, of_sums: Callable[[Array], Array], *, resamples: int, seed: int) -> float:
    """Return the permutation p of exchanging the two predictions of whole units; the observed one counts as a draw."""
    rng = np.random.default_rng(seed)
    total, gap = a.sum(axis=0), b - a
    observed = abs(float(of_sums(b.sum(axis=0)) - of_sums(total)))
    step = max(1, _BLOCK // len(a))
    extreme, slack = 1, 1e-12 * max(observed, 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, resamples, step):
            rows = min(step, resamples - start)
            swapped = rng.integers(0, 2, size=(rows, len(a))) @ gap
            null = np.abs(of_sums(total + gap.sum(axis=0) - swapped) - of_sums(total + swapped))
            extreme += int((null >= observed - slack).sum())
    return extreme / (resamples + 1)
