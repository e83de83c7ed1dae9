"""The contest's overall score: both challenges with their weights, beside the constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.graphs.graph import Graph
from rtserve.measure.evaluate import Evaluation, evaluate
from rtserve.measure.metrics import parse_metric
from rtserve.measure.results import save_result
from rtserve.measure.signature import Interval
from rtserve.measure.statistics import RESAMPLES, Units, ends, replicate, weighted_sum
from rtserve.signals.windows import WindowSet

__all__ = ["Overall", "combined", "evaluate_overall"]


@dataclass(frozen=True, kw_only=True)
class Overall:
    """Both challenges and the contest's overall score.

    Parameters
    ----------
    c1, c2 : Evaluation
        Of the two challenges.
    value : float
        Their weighted sum, rounded to 5 places.
    weights : (float, float)
        Of challenge 1 and 2, as the contest's profile has them.
    constant : float
        The same of the constant baselines: 1.0.
    interval : Interval or None
        From the bootstraps of both, which are drawn independently.
    """

    c1: Evaluation
    c2: Evaluation
    value: float
    weights: tuple[float, float]
    constant: float
    interval: Interval | None = None

    @property
    def signature(self) -> str:
        """The weights, the rounding and both signatures."""
        weights = ",".join(f"{weight:g}" for weight in self.weights)
        return f"overall|weights:{weights}|round:5|c1:({self.c1['nrmse'].signature})|c2:({self.c2['nrmse'].signature})"

    def to_dict(self, *, raw: bool = True) -> dict[str, Any]:
        """Return both evaluations and the overall score as JSON values."""
        return {
            "overall": self.value,
            "constant": self.constant,
            "interval": self.interval.to_dict() if self.interval else None,
            "signature": self.signature,
            "c1": self.c1.to_dict(raw=raw),
            "c2": self.c2.to_dict(raw=raw),
        }

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the whole with its raw values as JSON."""
        return save_result(path, "overall", self.to_dict(), force=force)

    def table_lines(self, width: int | None = None) -> list[str]:
        """Return what each subject scores in either challenge."""
        return [*self.c1.table_lines(width), *self.c2.table_lines(width)]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        ends = f" {self.interval.text('.5f')}" if self.interval else ""
        c1, c2 = self.c1["nrmse"].value, self.c2["nrmse"].value
        terms = " + ".join(f"{weight:g} x {value:.5f}" for weight, value in zip(self.weights, (c1, c2), strict=True))
        total = f"overall = {terms} = {self.value:.5f}{ends}   constant: {self.constant:.5f}"
        return [*self.c1.lines(), *self.c2.lines(), total]


def evaluate_overall(
    c1: tuple[Graph | str | Path, WindowSet | str | Path],
    c2: tuple[Graph | str | Path, WindowSet | str | Path],
    *,
    weights: tuple[float, float],
    resamples: int = RESAMPLES,
    seed: int = 0,
    **options: Any,
) -> Overall:
    """Score a graph per challenge and combine them as the contest does.

    Parameters
    ----------
    c1, c2 : (graph, windows)
        Of challenge 1 and 2, each as `evaluate` takes them.
    weights : (float, float)
        Of the two in the overall score: `rtserve.submission.ranking.weights_of` a profile.
    resamples, seed : int
        Of the bootstrap.
    **options
        As `evaluate` takes them (split, engine, threads, batch).
    """
    first, second = (evaluate(*pair, resamples=resamples, seed=seed, **options) for pair in (c1, c2))
    return Overall(
        c1=first,
        c2=second,
        value=combined((first["nrmse"].value, second["nrmse"].value), weights),
        weights=weights,
        constant=combined([_constant(e) for e in (first, second)], weights),
        interval=_overall_interval(first, second, weights, resamples=resamples, seed=seed),
    )


def combined(values: Sequence[float], weights: Sequence[float]) -> float:
    """Return the weighted sum, rounded to 5 places as leaderboards have it."""
    return round(sum(weight * value for weight, value in zip(weights, values, strict=True)), 5)


def _constant(evaluation: Evaluation) -> float:
    return next(s.value for s in evaluation.baseline if s and s.signature.metric == "nrmse")


def _overall_interval(
    c1: Evaluation, c2: Evaluation, weights: tuple[float, float], *, resamples: int, seed: int
) -> Interval | None:
    metric = parse_metric("nrmse")
    found, kinds = [], []
    for k, e in enumerate((c1, c2)):
        units = Units.of(e.subject, e.n)
        sums = units.sums(metric.statistics(e.targets.astype(np.float64), e.predictions.astype(np.float64)))
        found.append(replicate(sums, metric.of_sums, resamples=resamples, seed=seed + k))
        kinds.append(units)
    fewest = min(kinds, key=lambda u: u.count)
    both = weighted_sum(found, weights)
    pair = ends(both, scale="log")
    over = "subjects" if all(u.over == "subjects" for u in kinds) else "windows"
    mark = next((s.interval.mark for e in (c1, c2) if (s := e["nrmse"]).interval and s.interval.mark), "")
    return Interval(low=pair[0], high=pair[1], over=over, units=fewest.count, mark=mark) if pair else None
