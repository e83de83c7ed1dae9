"""What a score is: a metric with everything that can change its number written into its signature.

A metric is defined by per-window statistics whose sums over any set of windows give its value. So the score of a
resample needs no second look at the predictions, and intervals over subjects cost next to nothing.

Two scores may be subtracted only when their signatures are equal: half a squared error is no squared error
(`smooth_l1` is half of `mse` for errors under 1), and a score over other windows is another score.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.class_metrics import (
    agreement_of_sums,
    agreement_statistics,
    commonest,
    f1_end,
    f1_of_sums,
    kappa_end,
    recall_of_sums,
    recall_statistics,
)
from rtserve.measure.metric import Metric
from rtserve.measure.probabilities import CLIP, auc_statistics, even, log_loss_end, log_loss_statistics, priors
from rtserve.measure.signature import Interval, Score, Signature
from rtserve.measure.weighted import FAMILIES
from rtserve.nearest import meant

__all__ = [
    "METRICS",
    "Interval",
    "Metric",
    "Score",
    "Signature",
    "metric_of",
    "names_of_metrics",
    "parse_metric",
]

Array = np.ndarray


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
    plain: dict[str, Any] = {"constant": commonest, "higher_is_better": True, "reads": "class"}
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
        unrelated=0.0,
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
    "kappa": _of_classes("kappa", agreement_statistics, agreement_of_sums, edge=kappa_end),
    "f1": _of_classes("f1", agreement_statistics, f1_of_sums, options=(("average", "macro"),), edge=f1_end),
    "auc": _of_classes(
        "auc",
        auc_statistics,
        lambda s: np.clip(_ratio(s), 0.0, 1.0),
        options=(("multiclass", "ovr-macro"),),
        constant=even,
        reads="probabilities",
        scale="logit",
        bounds=(0.0, 1.0),
    ),
    "log_loss": _of_classes(
        "log_loss",
        log_loss_statistics,
        _ratio,
        options=(("clip", f"{CLIP:.3g}"),),
        constant=priors,
        reads="probabilities",
        higher_is_better=False,
        scale="log",
        share=(1, 0, 1.0),
        edge=log_loss_end,
    ),
    "nrmse:range": _scaled_rmse(lambda y: float(np.ptp(y)), "range"),
    "nrmse:iqr": _scaled_rmse(lambda y: float(np.subtract(*np.percentile(y, [75, 25]))), "iqr"),
    "nrmse:mean": _scaled_rmse(lambda y: abs(float(np.mean(y))), "mean"),
}
"""Every metric without settings by the name that the command line takes."""


def names_of_metrics(reads: tuple[str, ...] = ()) -> list[str]:
    """Return the names that the command line takes, of those that read one of `reads`; all by default."""
    plain = [name for name, metric in METRICS.items() if not reads or metric.reads in reads]
    return plain + [name for name, kinds in _FAMILY_READS.items() if not reads or kinds in reads]


_FAMILY_READS = {
    "cell_balanced_accuracy": "class",
    "binned_mae": "number",
    "retrieval": "vector",
    "angular_mae": "vector",
}


def parse_metric(name: str) -> Metric:
    """Return the metric called `name`: one of `METRICS`, or ``NAME:key=value:...`` of one with settings.

    Raises
    ------
    InputError
        Where there is none, or a setting is unknown, missing or wrong; the names are listed.
    """
    if name in METRICS:
        return METRICS[name]
    head, *rest = name.split(":")
    if head not in FAMILIES:
        raise InputError(
            f"unknown metric {name!r}",
            hint=f"{meant(name, names_of_metrics(), '')} use one of {', '.join(names_of_metrics())}".strip(),
        )
    given = [part.partition("=") for part in rest]
    settings = {key: value for key, _, value in given}
    known = inspect.signature(FAMILIES[head]).parameters
    wrong = [key for key, equals, _ in given if not equals or key not in known]
    missing = [key for key, p in known.items() if p.default is p.empty and not settings.get(key)]
    if wrong or missing or len(settings) < len(given):
        said = (
            f"has no setting {wrong[0]!r}"
            if wrong
            else f"needs {' and '.join(missing)}"
            if missing
            else "has one twice"
        )
        raise InputError(f"{head} {said}", hint=f"{head} takes {':'.join(f'{key}=...' for key in known)}")
    return FAMILIES[head](**settings)


def metric_of(signature: Signature) -> Metric | None:
    """Return the metric that a signature is of, not bound to columns; None where there is none of that definition."""
    stated = dict(signature.options)
    if signature.metric in FAMILIES:
        keys = inspect.signature(FAMILIES[signature.metric]).parameters
        settings = [f"{key}={stated[key]}" for key in keys if key in stated]
        try:
            return parse_metric(":".join([signature.metric, *settings]))
        except InputError:
            return None
    named = [metric for metric in METRICS.values() if metric.name == signature.metric]
    return next((metric for metric in named if set(metric.options) <= set(signature.options)), None)
