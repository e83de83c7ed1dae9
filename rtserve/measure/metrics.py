"""What a score is: a metric with everything that can change its number written into its signature.

A metric is defined by per-window statistics whose sums over any set of windows give its value. So the score of a
resample needs no second look at the predictions, and intervals over subjects cost next to nothing.

Two scores may be subtracted only when their signatures are equal: half a squared error is no squared error
(`smooth_l1` is half of `mse` for errors under 1), and a score over other windows is another score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.class_metrics import (
    agreement_of_sums,
    agreement_statistics,
    commonest,
    f1_of_sums,
    recall_of_sums,
    recall_statistics,
)
from rtserve.measure.signature import Interval, Score, Signature

__all__ = ["METRICS", "Interval", "Metric", "Score", "Signature", "overall", "parse_metric"]

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as per-window statistics and a value of their sums.

    Parameters
    ----------
    name : str
        As in a signature.
    options : tuple of (str, str)
        What of its definition could have been chosen otherwise.
    statistics : callable
        ``(y, p) -> (n, k)``: float64 statistics of each window.
    of_sums : callable
        ``(..., k) -> (...)``: the metric for the sums over any set of windows.
    constant : callable
        ``y -> (n,)``: the best prediction that is the same for every window.
    higher_is_better : bool
        Direction.
    scale : str
        On which its interval is taken: ``"log"``, ``"fisher"``, ``"logit"`` or ``"identity"``.
    bounds : (float, float) or None
        Ends that it can reach: there its interval is exact.
    strata : callable or None
        ``(count, k) -> (n_shares,)``: of the sums of units, how many units each of its equally weighted shares has.
    share : (int, int, float) or None
        For a ratio of two sums to a power: their columns and the power.
    order : int
        Power of the error in it; 0 where its size does not matter.
    classes : bool
        Whether y and p are class numbers.
    """

    name: str
    statistics: Callable[[Array, Array], Array]
    of_sums: Callable[[Array], Array]
    options: tuple[tuple[str, str], ...] = ()
    constant: Callable[[Array], Array]
    higher_is_better: bool = False
    scale: str = "identity"
    bounds: tuple[float, float] | None = None
    strata: Callable[[Array], Array] | None = None
    share: tuple[int, int, float] | None = None
    order: int = 0
    classes: bool = False

    def __call__(self, y: Array, p: Array) -> float:
        """Return the metric of predictions p (n,) for targets y (n,).

        Raises
        ------
        InputError
            Where y or p cannot give a finite value, e.g. a constant y for a normalised error.
        """
        y, p = _pair(y, p)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(self.of_sums(self.statistics(y, p).sum(axis=0)))
        if not np.isfinite(value):
            raise InputError(
                f"{self.name} is not defined here: {_why(y, p)}",
                hint="score more varied windows, or use rmse, which needs no spread",
            )
        return value

    def signature(self, *, n: int, data: str, split: str = "all") -> Signature:
        """Return the signature of this metric on the named data."""
        return Signature(metric=self.name, options=self.options, n=n, data=data[:12], split=split)


def _pair(y: Array, p: Array) -> tuple[Array, Array]:
    y, p = np.asarray(y, np.float64), np.asarray(p, np.float64)
    if y.shape != p.shape or y.ndim != 1 or not len(y):
        raise InputError(
            f"{p.shape} predictions for {y.shape} targets", hint="one number per window each, at least one window"
        )
    return y, p


def _why(y: Array, p: Array) -> str:
    if not np.isfinite(y).all() or not np.isfinite(p).all():
        return f"{int((~np.isfinite(y)).sum())} targets and {int((~np.isfinite(p)).sum())} predictions are not finite"
    spread = f"std of y is {np.std(y):.3g}, std of the predictions {np.std(p):.3g}, over {len(y)} windows"
    return spread


def _mean_of(error: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda y, p: np.stack([np.ones_like(y), error(p - y)], axis=-1)


def _ratio(s: Array) -> Array:
    result: Array = s[..., 1] / s[..., 0]
    return result


def _smooth_l1(e: Array) -> Array:
    loss: Array = np.where(np.abs(e) < 1, 0.5 * e * e, np.abs(e) - 0.5)
    return loss


def _nrmse_statistics(y: Array, p: Array) -> Array:
    # Centred first: the spread does not change, and the sums lose no digits to a large mean.
    c = y - y.mean()
    return np.stack([np.ones_like(y), (p - y) ** 2, c, c * c], axis=-1)


def _nrmse_of_sums(s: Array) -> Array:
    n = s[..., 0]
    variance = s[..., 3] / n - (s[..., 2] / n) ** 2
    # A spread below rounding of the sums is none: a constant y must not pass for a tiny one.
    variance = np.where(variance > 1e-14 * s[..., 3] / n, variance, 0.0)
    result: Array = np.sqrt(s[..., 1] / n / variance)
    return result


def _pearson_statistics(y: Array, p: Array) -> Array:
    a, b = y - y.mean(), p - p.mean()
    return np.stack([np.ones_like(y), a, b, a * a, b * b, a * b], axis=-1)


def _pearson_of_sums(s: Array) -> Array:
    n, a, b, aa, bb, ab = np.moveaxis(s, -1, 0)
    result: Array = (ab - a * b / n) / np.sqrt((aa - a * a / n) * (bb - b * b / n))
    clipped: Array = np.clip(result, -1.0, 1.0)
    return clipped


def _mean(y: Array) -> Array:
    return np.full(len(y), float(np.mean(y, dtype=np.float64)))


def _median(y: Array) -> Array:
    return np.full(len(y), float(np.median(y)))


def _scaled_rmse(scale: Callable[[Array], float], name: str) -> Metric:
    """RMSE over a spread of y that no sum gives; the spread is taken once from all windows and held in resamples."""

    def statistics(y: Array, p: Array) -> Array:
        size = scale(y)
        return np.stack([np.ones_like(y), ((p - y) / size) ** 2 if size else np.full_like(y, np.nan)], axis=-1)

    return Metric(
        name="nrmse",
        options=(("norm", name),),
        statistics=statistics,
        of_sums=lambda s: np.sqrt(_ratio(s)),
        constant=_mean,
        scale="log",
        share=(1, 0, 0.5),
        order=2,
    )


def _mean_metric(name: str, error: Callable[[Array], Array], **more: Any) -> Metric:
    plain: dict[str, Any] = {"of_sums": _ratio, "constant": _mean, "scale": "log", "share": (1, 0, 1.0), "order": 1}
    return Metric(name=name, statistics=_mean_of(error), **(plain | more))


def _right(y: Array, p: Array) -> Array:
    return np.stack([np.ones_like(y), np.asarray(p == y, np.float64)], axis=-1)


def _of_classes(
    name: str, statistics: Callable[[Array, Array], Array], of_sums: Callable[[Array], Array], **more: Any
) -> Metric:
    plain: dict[str, Any] = {"constant": commonest, "higher_is_better": True, "classes": True}
    return Metric(name=name, statistics=statistics, of_sums=of_sums, **(plain | more))


METRICS: dict[str, Metric] = {
    "nrmse": Metric(
        name="nrmse",
        options=(("norm", "std"), ("ddof", "0")),
        statistics=_nrmse_statistics,
        of_sums=_nrmse_of_sums,
        constant=_mean,
        scale="log",
        share=(1, 3, 0.5),
        order=2,
    ),
    "rmse": _mean_metric("rmse", np.square, of_sums=lambda s: np.sqrt(_ratio(s)), share=(1, 0, 0.5), order=2),
    "mse": _mean_metric("mse", np.square, order=2),
    "mae": _mean_metric("mae", np.abs, constant=_median),
    "smooth_l1": _mean_metric("smooth_l1", _smooth_l1, options=(("beta", "1"),)),
    "pearson": Metric(
        name="pearson",
        statistics=_pearson_statistics,
        of_sums=_pearson_of_sums,
        constant=_mean,
        higher_is_better=True,
        scale="fisher",
        order=2,
    ),
    "balanced_accuracy": _of_classes(
        "balanced_accuracy",
        recall_statistics,
        recall_of_sums,
        scale="logit",
        bounds=(0.0, 1.0),
        strata=lambda s: (s[:, : s.shape[1] // 2] > 0).sum(axis=0),
    ),
    "accuracy": _of_classes("accuracy", _right, _ratio, scale="logit", bounds=(0.0, 1.0)),
    "kappa": _of_classes("kappa", agreement_statistics, agreement_of_sums),
    "f1": _of_classes("f1", agreement_statistics, f1_of_sums, options=(("average", "macro"),)),
    "nrmse:range": _scaled_rmse(lambda y: float(np.ptp(y)), "range"),
    "nrmse:iqr": _scaled_rmse(lambda y: float(np.subtract(*np.percentile(y, [75, 25]))), "iqr"),
    "nrmse:mean": _scaled_rmse(lambda y: abs(float(np.mean(y))), "mean"),
}
"""Every metric by the name that the command line takes."""


def parse_metric(name: str) -> Metric:
    """Return the metric called `name`.

    Raises
    ------
    InputError
        Where there is none; the names are listed.
    """
    if name not in METRICS:
        raise InputError(f"unknown metric {name!r}", hint=f"use one of {', '.join(METRICS)}")
    return METRICS[name]


WEIGHTS = (0.3, 0.7)
"""Of challenge 1 and 2 in the overall score of the EEG Foundation Challenge 2025 (start kit, local_scoring.py)."""


def overall(c1: float, c2: float) -> float:
    """Return 0.3 C1 + 0.7 C2 rounded to 5 places, as the contest does (two NRMSE)."""
    return round(WEIGHTS[0] * c1 + WEIGHTS[1] * c2, 5)
