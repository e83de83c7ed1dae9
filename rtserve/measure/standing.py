"""Better than the constant, worse, or not told apart: the one rule, for every command that says so.

A score stands against what the best constant scores on the same windows: an NRMSE against 1.00, a balanced accuracy
against one over the number of classes. The rule is its interval (`rtserve.measure.statistics`): whole on the good side
it is better, whole on the other worse, else not told apart, and then nothing was learned that shows here. Where the
constant's score varies with the windows as the score does (MAE, log loss), the interval is that of their ratio against
1; RMSE, MSE and NRMSE by another spread are one question, and NRMSE answers it for all. Pearson's r of a constant is
not defined: it stands against 0, what answers without any relation to the targets score. So do macro F1 (guesses at the
classes' own shares have one over the number of classes, more than any constant, and would all be better than it) and
retrieval (where some targets are more frequent, those are the answer). A marked interval, or one of fewer than six people,
gives no verdict. A number without predictions has no interval: within `MARGIN` it prints as the constant's, and what is
said of it says that it rests on no interval. Several verdicts in one table are corrected for each other by Holm's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rtserve.measure.differences import holm
from rtserve.measure.intervals import metric_ends
from rtserve.measure.metrics import METRICS, Metric
from rtserve.measure.resampling import RESAMPLES, Units, replicate
from rtserve.measure.signature import FEW, Interval, Score, Signature
from rtserve.measure.tails import HEAVY, heavy

__all__ = ["GUESSED", "MARGIN", "Standing", "constant_score", "standing", "standing_of", "together"]

MARGIN = 0.005
"""Of an NRMSE that has no interval: so close to 1.00 it prints as that."""
GUESSED = ("f1", "retrieval")
"""Metrics in which guesses may score more than any constant."""
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
    ratio : Interval or None
        Of the score over the constant's, where that decides.
    unrelated : bool
        Whether `constant` is what unrelated answers score, because a constant has no score.
    """

    metric: str
    value: float
    constant: float
    interval: Interval | None
    higher_is_better: bool = False
    p: float | None = None
    p_corrected: float | None = None
    family: str = ""
    ratio: Interval | None = None
    unrelated: bool = False

    @property
    def side(self) -> int:
        """1 for better, -1 for worse, 0 for not told apart."""
        sign = 1 if self.higher_is_better else -1
        if self._decides is None:
            margin = MARGIN if self.higher_is_better else MARGIN * abs(self.constant)
            return sign * int(np.sign(self.value - self.constant)) if abs(self.value - self.constant) > margin else 0
        if self._silent or self._against in self._decides:
            return 0
        if self.p_corrected is not None and self.p_corrected > 1 - self._decides.level:
            return 0
        return sign if self._decides.low > self._against else -sign

    @property
    def only_alone(self) -> bool:
        """Whether it would be told apart by itself, and is not among the others of its family."""
        return bool(self.family) and not self.side and replace(self, p_corrected=None).side != 0

    @property
    def _decides(self) -> Interval | None:
        return self.ratio or self.interval

    @property
    def _against(self) -> float:
        return 1.0 if self.ratio else self.constant

    @property
    def _silent(self) -> str:
        """Why no verdict may rest on the interval, or nothing."""
        if self._decides is None:
            return ""
        if self._decides.mark:
            return self._decides.mark
        few = self._decides.over == "subjects" and self._decides.units < FEW
        return f"{self._decides.units} people are too few" if few else ""

    @property
    def verdict(self) -> str:
        """The verdict in words, with what it rests on where that is little."""
        why = [self._silent] if self._silent else []
        if self._decides is None:
            why.append("no interval")
        elif self._decides.over == "windows":
            why.append("over windows, not people")
        beside = self.beside if self.unrelated else "the constant"
        return f"{self._words} {beside}" + (f" ({'; '.join(why)})" if why else "")

    @property
    def beside(self) -> str:
        """What it stands against, in words."""
        constant = f"{self.constant:.4g}" if self.ratio else f"{self.constant:.2f}"
        return f"{constant}, what {'unrelated answers score' if self.unrelated else 'the best constant scores'}"

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
        beside = f"{self.metric} {self.value:.4f}{shown} is {self._words} {self.beside}"
        said = self._silent or ("no interval" if self._decides is None else self._where(self._decides))
        return f"{beside} ({said}){learned}"

    def _where(self, decides: Interval) -> str:
        inside = self._against in decides
        corrected = f"; p {self.p_text()}" if not inside and not self.side else ""
        of = f" {decides.text()} of their ratio" if self.ratio else ""
        return f"{self._against:.2f} is {'inside' if inside else 'outside'} the interval{of}{corrected}"

    def to_dict(self) -> dict[str, Any]:
        """Return the standing as JSON values."""
        return {
            "metric": self.metric,
            "verdict": self.verdict,
            "p": self.p,
            "against": self.constant,
            "unrelated": self.unrelated,
            "ratio": self.ratio.to_dict() if self.ratio else None,
        }


def constant_score(signature: Signature) -> float | None:
    """Return what a score is held against whatever the windows: 1 of an NRMSE by std, 0 of Pearson's r; else None."""
    if signature.metric == "pearson":
        return METRICS["pearson"].unrelated
    by_std = dict(signature.options).get("norm") == "std"
    return 1.0 if signature.metric == "nrmse" and by_std else None


def standing(
    metric: Metric, y: Array, p: Array, units: Units, *, resamples: int = RESAMPLES, seed: int = 0
) -> Standing:
    """Return where predictions (n_windows,) stand.

    Parameters
    ----------
    metric : Metric
        Bound to the columns that it reads.
    y, p : ndarray, (n_windows, ...)
        Targets and predictions.
    units : Units
        What is resampled.
    resamples, seed : int
        Of the interval, which is the one that every command prints.
    """
    y, p = np.asarray(y, np.float64), np.asarray(p, np.float64)
    best = metric.constant(y)
    plain = constant_score(metric.signature(n=len(y), data=""))
    judge = _judge(metric, best)
    shown, within = _interval(metric, y, p, units, resamples=resamples, seed=seed)
    ratio = None
    if judge is not None:
        ratio, within = _interval(judge, y, p, units, resamples=resamples, seed=seed)
    unrelated = _unrelated(metric, y)
    known = unrelated if plain is None else plain
    constant = metric(y, best) if known is None else known
    against = constant if ratio is None else 1.0
    return Standing(
        metric=metric.name.upper() if metric.label == "nrmse" else metric.label,
        value=metric(y, p),
        constant=constant,
        interval=shown,
        higher_is_better=metric.higher_is_better,
        p=_smallest(lambda level: within(level, against)) if (shown if judge is None else ratio) else None,
        ratio=ratio,
        unrelated=unrelated is not None,
    )


def _unrelated(metric: Metric, y: Array) -> float | None:
    """Return what answers without relation to the targets score at best, where a constant need not reach it; else None.

    A class with a share s of the windows that is guessed in a share q of them has an expected F1 of 2 s q / (s + q); the
    mean over k classes is largest at q = s, and 1 / k. Among the nearest of all targets the most frequent ones are looked
    for, whatever the query.
    """
    if metric.name == "f1":
        return 1.0 / len(np.unique(y))
    if metric.name in GUESSED:
        share = metric.statistics(y, metric.constant(y))[:, 0]
        target = np.unique(y, axis=0, return_inverse=True)[1].reshape(-1)
        often = np.sort(np.bincount(target, weights=share))[::-1]
        return float(often[: int(dict(metric.options)["top"])].sum() / often.sum())
    return metric.unrelated


def _judge(metric: Metric, best: Array) -> Metric | None:
    """Return the ratio to the constant `best` as a metric, or None where the constant's score is one number."""
    if metric.share is None or metric.label == "nrmse":
        return None
    if metric.order == 2:
        return METRICS["nrmse"]
    column = metric.share[0]

    def statistics(y: Array, p: Array) -> Array:
        return np.stack([metric.statistics(y, best)[:, column], metric.statistics(y, p)[:, column]], axis=1)

    return replace(metric, statistics=statistics, of_sums=lambda s: s[..., 1] / s[..., 0], scale="log", edge=None)


def _interval(
    metric: Metric, y: Array, p: Array, units: Units, *, resamples: int, seed: int
) -> tuple[Interval | None, Callable[[float, float], bool]]:
    """Return the interval, and whether that of another level holds a value."""
    sums = units.sums(metric.statistics(y, p))
    with np.errstate(divide="ignore", invalid="ignore"):
        replicas = replicate(sums, metric.of_sums, resamples=resamples, seed=seed)

    def within(level: float, value: float) -> bool:
        found = metric_ends(metric, sums, replicas, windows=len(y), level=level)
        return found is None or found[0] <= value <= found[1]

    ends = metric_ends(metric, sums, replicas, windows=len(y))
    if ends is None:
        return None, within
    mark = HEAVY if metric.order and heavy(metric.errors(y, p), units, metric.order) else ""
    return Interval(low=ends[0], high=ends[1], over=units.over, units=units.count, mark=mark), within


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
    metric, known = score.signature.metric, METRICS.get(score.signature.metric)
    return Standing(
        metric=metric.upper() if metric == "nrmse" else metric,
        value=score.value,
        constant=constant,
        interval=score.interval,
        higher_is_better=known is not None and known.higher_is_better,
        unrelated=known is not None and known.unrelated is not None,
    )


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
