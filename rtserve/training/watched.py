"""Metrics that a training run logs after every epoch, chooses by and asks its gates about.

Those of `rtserve.measure.metrics`, and of classes the log loss: it alone looks at probabilities, and a gate or an early
stop can see it move where a small set's accuracy stands still.
"""

from __future__ import annotations

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.metrics import METRICS, Metric, parse_metric

__all__ = ["LOG_LOSS", "logged", "scores", "watched"]


def _frequencies(y: np.ndarray) -> np.ndarray:
    """Return the log of each window's class's share: what the best constant gives to the true classes."""
    _, which, counts = np.unique(y, return_inverse=True, return_counts=True)
    logs: np.ndarray = np.log(counts[which] / len(y))
    return logs


LOG_LOSS = Metric(
    name="log_loss",
    options=(("unit", "nats"),),
    statistics=lambda y, p: np.stack([np.ones_like(y), -p], axis=-1),
    of_sums=lambda s: s[..., 1] / s[..., 0],
    constant=_frequencies,
    classes=True,
)
"""Mean of -log of the probability given to the true class; called with the log-probabilities of the true classes."""
_NUMBERS = ("nrmse", "mse", "smooth_l1")
_CLASSES = ("balanced_accuracy", "accuracy", "log_loss")


def watched(name: str) -> Metric:
    """Return the metric called `name`, one of `METRICS` or ``"log_loss"``; `InputError` where there is none."""
    if name == LOG_LOSS.name:
        return LOG_LOSS
    if name not in METRICS:
        raise InputError(f"unknown metric {name!r}", hint=f"use one of {', '.join([*METRICS, LOG_LOSS.name])}")
    return parse_metric(name)


def logged(monitor: str) -> tuple[str, ...]:
    """Return the names of what is logged in a run that chooses by `monitor`."""
    return tuple(dict.fromkeys((*(_CLASSES if watched(monitor).classes else _NUMBERS), monitor)))


def scores(monitor: str, y: np.ndarray, answers: np.ndarray, *, data: str) -> dict[str, float]:
    """Return signature to value of what is logged, on the valid windows.

    Parameters
    ----------
    monitor : str
        What the run chooses by.
    y : ndarray, (n_windows,)
        Targets or class numbers.
    answers : ndarray, (n_windows, n_outputs)
        Numbers, or logits.
    data : str
        Digest of the windows.
    """
    out = {}
    for name in logged(monitor):
        metric = watched(name)
        signature = metric.signature(n=len(y), data=data, split="valid")
        out[str(signature)] = metric(y, _read(metric, y, answers))
    return out


def _read(metric: Metric, y: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return the one number per window that the metric takes."""
    if not metric.classes:
        return answers[:, 0]
    if metric is not LOG_LOSS:
        return np.asarray(answers.argmax(axis=1), np.float64)
    from scipy.special import log_softmax

    chosen: np.ndarray = log_softmax(answers.astype(np.float64), axis=1)[np.arange(len(y)), y.astype(int)]
    return chosen
