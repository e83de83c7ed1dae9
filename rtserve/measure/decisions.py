"""From the numbers of a classifier to class numbers: the largest of several outputs, or one output past its threshold.

One output decides between two classes: above 0 where it is a logit, above 1/2 where it is a probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtserve.errors import InputError, SpecMismatchError
from rtserve.graphs.graph import Graph
from rtserve.graphs.heads import adds_up, classifies, form_of
from rtserve.measure.cases import Cases
from rtserve.measure.metrics import Metric, names_of_metrics, parse_metric
from rtserve.measure.probabilities import class_probabilities
from rtserve.signals.windows import WindowSet
from rtserve.spec import OutputSpec, require_same_target

__all__ = [
    "CLASSIFICATION",
    "Decision",
    "class_numbers",
    "decide",
    "decision_of",
    "require_same_scores",
    "require_vectors",
    "to_answers",
    "to_cases",
    "to_predictions",
    "to_probabilities",
]

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
    parsed = [parse_metric(metric) for metric in metrics]
    asked = [metric.name for metric in parsed if metric.classes]
    others = [metric.name for metric in parsed if not metric.classes]
    if windows.y.ndim > 1 or any(metric.reads == "vector" for metric in parsed):
        require_vectors(parsed, windows)
        return None
    of_numbers = spec.target not in ("", "class")
    if of_numbers and (asked or windows.classes):
        raise InputError(f"{name} predicts {spec.target}, which is no class", hint="leave the metric of classes out")
    classes = classifies(graph) or windows.predicts == "class" or spec.n_outputs > 1
    if of_numbers or not (classes or asked):
        return None
    if others:
        raise InputError(
            f"{others[0]} is a metric of numbers, and {name} is scored on classes",
            hint=f"use {', '.join(names_of_metrics(('class', 'probabilities')))}, or leave --metric out",
        )
    return decision_of(graph)


def decision_of(graph: Graph) -> Decision:
    """Return how the classes of a classifier's answers are read."""
    plan = graph.provenance.details.get("plan", {})
    branches = len(plan.get("members", ())) * len(plan.get("views", ()))
    return Decision(n_outputs=graph.output_spec.n_outputs, form=form_of(graph), merged=branches > 1)


def class_numbers(outputs: np.ndarray, decision: Decision | None) -> np.ndarray:
    """Return (n_windows,) the number of the class that outputs (n_windows, n_outputs) decide for."""
    if outputs.shape[1] == 1:
        return np.asarray(outputs[:, 0] > (decision.threshold if decision else 0.0), np.int64)
    return np.asarray(outputs.argmax(axis=1), np.int64)


def require_vectors(metrics: Sequence[Metric], windows: WindowSet) -> None:
    """Raise `InputError` where y is vectors and the metrics are not of those, or the other way round."""
    known = ", ".join(names_of_metrics(("vector",)))
    wrong = [metric.name for metric in metrics if metric.reads != "vector"]
    if windows.y.ndim == 1:
        raise InputError(
            f"{next(m.name for m in metrics if m.reads == 'vector')} reads several numbers per window, and y is"
            f" {windows.y.shape}",
            hint="give windows with targets (n_windows, n_outputs)",
        )
    if wrong or not metrics:
        raise InputError(
            f"y is {windows.y.shape}: several targets per window" + (f", and {wrong[0]} reads one" if wrong else ""),
            hint=f"score one target at a time, or name a metric of several with --metric: {known}, or profile",
        )


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
    return class_numbers(outputs, decision).astype(np.float32)


def to_answers(
    metric: Metric, outputs: np.ndarray, windows: WindowSet, *, name: str, decision: Decision | None = None
) -> np.ndarray:
    """Return outputs (n_windows, n_outputs) in the form that a metric reads. Raises as `to_predictions`."""
    if metric.reads == "vector":
        return outputs
    predictions = to_predictions(outputs, windows, name=name, decision=decision)
    if metric.reads != "probabilities":
        return predictions
    return to_probabilities(outputs, decision, name)


def to_probabilities(outputs: np.ndarray, decision: Decision | None, name: str) -> np.ndarray:
    """Return what a graph's outputs say by the form that is written in it, unless they are plainly of another.

    Where a network is trained its loss decides that they are logits, and nothing is to be doubted.
    """
    form = decision.form if decision else ""
    if form == "logits" and len(outputs) > 1 and adds_up(outputs):
        raise InputError(
            f"the outputs of {name} are taken for logits, and every one of its {len(outputs)} answers adds up to 1",
            hint="say what they are: rtserve annotate GRAPH.onnx --form probabilities --force",
        )
    return class_probabilities(outputs, form, name=name)


def to_cases(outputs: np.ndarray, windows: WindowSet, *, name: str, decision: Decision | None = None) -> Cases:
    """Return outputs (n_windows, n_outputs) as cases, with the probabilities of classes where they are known."""
    if windows.y.ndim > 1:
        return Cases.of(windows, outputs)
    predictions = to_predictions(outputs, windows, name=name, decision=decision)
    if decision is None and outputs.shape[1] == 1:
        return Cases.of(windows, predictions, why=f"{name} is scored on numbers")
    try:
        return Cases.of(windows, predictions, to_probabilities(outputs, decision, name))
    except InputError as error:
        return Cases.of(windows, predictions, why=error.message)
