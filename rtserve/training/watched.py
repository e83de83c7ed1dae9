"""Metrics that a training run logs after every epoch, chooses by and asks its gates about.

Those of `rtserve.measure.metrics`, and of classes the log loss: it alone looks at probabilities, and a gate or an early
stop can see it move where a small set's accuracy stands still.
"""

from __future__ import annotations

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.metrics import METRICS, Metric
from rtserve.measure.probabilities import class_probabilities
from rtserve.nearest import meant

__all__ = ["LOG_LOSS", "logged", "scores", "watched"]


LOG_LOSS = METRICS["log_loss"]
_NUMBERS = ("nrmse", "mse", "smooth_l1")
_CLASSES = ("balanced_accuracy", "accuracy", "log_loss")


def watched(name: str) -> Metric:
    """Return the metric called `name`, one of `METRICS`; `InputError` where there is none."""
    if name not in METRICS:
        raise InputError(f"unknown metric {name!r}", hint=meant(name, METRICS, f"use one of {', '.join(METRICS)}"))
    return METRICS[name]


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
        out[str(signature)] = metric(y, _read(metric, answers))
    return out


def _read(metric: Metric, answers: np.ndarray) -> np.ndarray:
    """Return the answers in the form that the metric reads."""
    if not metric.classes:
        return answers[:, 0]
    if metric.reads == "class":
        return np.asarray(answers.argmax(axis=1), np.float64)
    return class_probabilities(answers, "logits", name="the network")
