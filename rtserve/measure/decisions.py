"""From the numbers of a classifier to class numbers: the largest of several outputs, or one output past its threshold.

One output decides between two classes: above 0 where it is a logit, above 1/2 where it is a probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtserve.errors import InputError, SpecMismatchError
from rtserve.graphs.graph import Graph
from rtserve.graphs.heads import classifies, form_of
from rtserve.measure.metrics import METRICS, parse_metric
from rtserve.signals.windows import WindowSet
from rtserve.spec import OutputSpec, require_same_target

__all__ = ["CLASSIFICATION", "Decision", "decide", "require_same_scores", "to_predictions"]

CLASSIFICATION = ("balanced_accuracy",)
"""What classes are scored by unless something else is asked for."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How class numbers are read from outputs.

    Parameters
    ----------
    n_outputs : int
        Numbers per window.
    form : str
        What they are, as in `rtserve.spec.FORMS`; empty where not known.
    merged : bool
        Whether they are those of several branches.
    """

    n_outputs: int
    form: str = ""
    merged: bool = False

    @property
    def threshold(self) -> float:
        """Above which one output means the second class."""
        return OutputSpec(form=self.form).threshold

    def __str__(self) -> str:
        mean = "merged " if self.merged else ""
        if self.n_outputs > 1:
            return f"argmax of {mean}{self.form or 'outputs'}"
        singular = {"probabilities": "probability", "log-probabilities": "log-probability"}.get(self.form, "logit")
        return f"{mean}{singular} > {self.threshold:.3g}"


def decide(graph: Graph, windows: WindowSet, metrics: Sequence[str], *, name: str) -> Decision | None:
    """Return how the classes of a graph's answers are read, or None where neither side speaks of classes.

    Raises
    ------
    InputError
        Where classes are scored by a metric of numbers, or the numbers of a regression as classes.
    """
    spec = graph.output_spec
    asked = [metric for metric in metrics if _of_classes(metric)]
    others = [metric for metric in metrics if not _of_classes(metric)]
    of_numbers = spec.target not in ("", "class")
    if of_numbers and (asked or windows.classes):
        raise InputError(f"{name} predicts {spec.target}, which is no class", hint="leave the metric of classes out")
    classes = classifies(graph) or windows.predicts == "class" or spec.n_outputs > 1
    if of_numbers or not (classes or asked):
        return None
    if others:
        raise InputError(
            f"{others[0]} is a metric of numbers, and {name} is scored on classes",
            hint=f"use {', '.join(name for name, metric in METRICS.items() if metric.classes)}, or leave --metric out",
        )
    plan = graph.provenance.details.get("plan", {})
    branches = len(plan.get("members", ())) * len(plan.get("views", ()))
    return Decision(n_outputs=spec.n_outputs, form=form_of(graph), merged=branches > 1)


def _of_classes(metric: str) -> bool:
    return parse_metric(metric).classes


def require_same_scores(spec: OutputSpec, windows: WindowSet, *, name: str) -> None:
    """Raise `SpecMismatchError` where the graph predicts something else than the windows' y, or other classes."""
    require_same_target(
        spec.target, windows.target, names=(name, "the y of the windows is"),
        hint="score it on windows of its own target; where one of the two is named wrongly: rtserve annotate",
    )  # fmt: skip
    if spec.classes and windows.classes and spec.classes != windows.classes:
        raise SpecMismatchError(
            f"{name} knows the classes {', '.join(spec.classes)}, the windows {', '.join(windows.classes)}",
            hint="score it on windows with the same classes in the same order",
        )


def to_predictions(
    outputs: np.ndarray, windows: WindowSet, *, name: str, decision: Decision | None = None
) -> np.ndarray:
    """Return one number per window: the output itself, or the number of the class that is decided for.

    Raises
    ------
    InputError
        Where classes are decided between and the targets are no class numbers of as many classes.
    """
    if windows.y.ndim != 1:
        raise InputError(f"y is {windows.y.shape}: several targets per window", hint="score one target at a time")
    k = outputs.shape[1]
    if decision is None and k == 1:
        return outputs[:, 0]
    count = max(2, k)
    bad = (windows.y != np.round(windows.y)) | (windows.y < 0) | (windows.y >= count)
    if bad.any():
        raise InputError(
            f"{name} gives {k} output{'s' * (k > 1)}, so y must be classes 0..{count - 1}; window"
            f" {int(np.argmax(bad))} has {float(windows.y[np.argmax(bad)]):g}",
            hint="give class numbers from 0, and a graph with one output per class (one output decides between two)",
        )
    if k == 1:
        threshold = decision.threshold if decision else 0.0
        return np.asarray(outputs[:, 0] > threshold, np.float32)
    return np.asarray(outputs.argmax(axis=1), np.float32)
