"""Better than the constant, worse, or not told apart: the one rule, for every command that says so.

A score stands against what the best constant scores on the same windows: an NRMSE against 1.00, a balanced accuracy
against one over the number of classes. The rule is its interval (`rtserve.measure.statistics`): whole on the good side
it is better, whole on the other worse, else not told apart, and then nothing was learned that shows here. A marked
interval, or one of fewer than six people, gives no verdict. A number without predictions has no interval: within
`MARGIN` it prints as the constant's, and what is said of it says that it rests on no interval. Several verdicts in one
table are corrected for each other by Holm's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rtserve.measure.differences import holm
from rtserve.measure.intervals import metric_ends
from rtserve.measure.metrics import Metric
from rtserve.measure.resampling import RESAMPLES, Units, replicate
from rtserve.measure.signature import FEW, Interval, Score, Signature
from rtserve.measure.tails import HEAVY, heavy

__all__ = ["MARGIN", "Standing", "constant_score", "standing", "standing_of", "together"]

MARGIN = 0.005
"""Of an NRMSE that has no interval: so close to 1.00 it prints as that."""
_STEPS = 14

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A score against the best constant's.

    Parameters
    ----------
    metric : str
        Name of the metric.
    value, constant : float
        The score and what the best constant scores.
    interval : Interval or None
        Of the score.
    higher_is_better : bool
        Direction.
    p : float or None
        Smallest share of wrong intervals at which this one would exclude the constant; None without predictions.
    p_corrected, family : float or None, str
        The same for several verdicts at once, and which.
    """

    metric: str
    value: float
    constant: float
    interval: Interval | None
    higher_is_better: bool = False
    p: float | None = None
    p_corrected: float | None = None
    family: str = ""

    @property
    def side(self) -> int:
        """1 for better, -1 for worse, 0 for not told apart."""
        sign = 1 if self.higher_is_better else -1
        if self.interval is None:
            return sign * int(np.sign(self.value - self.constant)) if abs(self.value - self.constant) > MARGIN else 0
        if self._silent or self.constant in self.interval:
            return 0
        if self.p_corrected is not None and self.p_corrected > 1 - self.interval.level:
            return 0
        return sign if self.interval.low > self.constant else -sign

    @property
    def _silent(self) -> str:
        """Why no verdict may rest on the interval, or nothing."""
        if self.interval is None:
            return ""
        if self.interval.mark:
            return self.interval.mark
        few = self.interval.over == "subjects" and self.interval.units < FEW
        return f"{self.interval.units} people are too few" if few else ""

    @property
    def verdict(self) -> str:
        """The verdict in words, with what it rests on where that is little."""
        why = [self._silent] if self._silent else []
        if self.interval is None:
            why.append("no interval")
        elif self.interval.over == "windows":
            why.append("over windows, not people")
        return f"{self._words} the constant" + (f" ({'; '.join(why)})" if why else "")

    @property
    def _words(self) -> str:
        return {1: "better than", -1: "worse than", 0: "not told apart from"}[self.side]

    def p_text(self) -> str:
        """Return the p, and the corrected one with its family where there is one."""
        if self.p is None:
            return ""
        return f"{self.p:.3g}" + (f", corrected {self.p_corrected:.3g} ({self.family})" if self.family else "")

    def sentence(self) -> str:
        """Return the score, its interval and the verdict; where nothing shows, that nothing was learned."""
        shown = f" {self.interval.text()}" if self.interval else ""
        learned = "" if self.side else ": nothing was learned that shows here"
        beside = (
            f"{self.metric} {self.value:.4f}{shown} is {self._words} {self.constant:.2f}, what the best constant scores"
        )
        said = self._silent or ("no interval" if self.interval is None else self._where())
        return f"{beside} ({said}){learned}"

    def _where(self) -> str:
        inside = self.interval is not None and self.constant in self.interval
        corrected = f"; p {self.p_text()}" if not inside and not self.side else ""
        return f"{self.constant:.2f} is {'inside' if inside else 'outside'} the interval{corrected}"


def constant_score(signature: Signature) -> float | None:
    """Return what the best constant scores whatever the windows: 1 for an NRMSE by std; None where that varies."""
    by_std = dict(signature.options).get("norm") == "std"
    return 1.0 if signature.metric == "nrmse" and by_std else None


def standing(
    metric: Metric, y: Array, p: Array, units: Units, *, resamples: int = RESAMPLES, seed: int = 0
) -> Standing | None:
    """Return where predictions (n_windows,) stand; None for a metric whose constant has no score of its own.

    Parameters
    ----------
    metric : Metric
        ``nrmse``, any of classes, or of vectors; bound to the columns that it reads.
    y, p : ndarray, (n_windows, ...)
        Targets and predictions.
    units : Units
        What is resampled.
    resamples, seed : int
        Of the interval, which is the one that every command prints.
    """
    y, p = np.asarray(y, np.float64), np.asarray(p, np.float64)
    constant = constant_score(metric.signature(n=len(y), data=""))
    if metric.reads != "number":
        constant = metric(y, metric.constant(y))
    if constant is None:
        return None
    sums = units.sums(metric.statistics(y, p))
    replicas = replicate(sums, metric.of_sums, resamples=resamples, seed=seed)

    def within(level: float) -> bool:
        found = metric_ends(metric, sums, replicas, windows=len(y), level=level)
        return found is None or found[0] <= constant <= found[1]

    ends = metric_ends(metric, sums, replicas, windows=len(y))
    mark = HEAVY if metric.order and heavy(metric.errors(y, p), units, metric.order) else ""
    shown = Interval(low=ends[0], high=ends[1], over=units.over, units=units.count, mark=mark) if ends else None
    return Standing(
        metric=metric.name.upper() if metric.name == "nrmse" else metric.name,
        value=metric(y, p),
        constant=constant,
        interval=shown,
        higher_is_better=metric.higher_is_better,
        p=_smallest(within) if shown else None,
    )


def _smallest(within: Callable[[float], bool]) -> float:
    """Return the smallest p: one less the largest level whose interval excludes the constant."""
    low, high = 1e-4, 1.0
    if not within(1 - low):
        return low
    for _ in range(_STEPS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if within(1 - middle) else (low, middle)
    return high


def standing_of(score: Score) -> Standing | None:
    """Return where a stored score stands, by the interval stored with it; None where its constant's score varies."""
    constant = constant_score(score.signature)
    if constant is None:
        return None
    return Standing(metric="NRMSE", value=score.value, constant=constant, interval=score.interval)


def together(standings: Sequence[Standing | None], family: str) -> list[Standing | None]:
    """Return the standings with p corrected for each other by Holm's rule; those without a p are left alone.

    Parameters
    ----------
    standings : sequence of Standing or None
        Of one table.
    family : str
        What they are, e.g. ``"attempts"``.
    """
    out = list(standings)
    judged = [(k, s, s.p) for k, s in enumerate(standings) if s is not None and s.p is not None]
    if len(judged) < 2:
        return out
    found = holm(np.array([p for _, _, p in judged]))
    for (k, each, _), p in zip(judged, found, strict=True):
        out[k] = replace(each, p_corrected=float(p), family=f"{len(judged)} {family}")
    return out
