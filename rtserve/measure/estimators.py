"""A graph as a scikit-learn estimator: for pipelines, cross-validation, scorers, and who measures by them.

Nothing is trained: the network was, before it became the graph. What cross-validation then gives is the score of one fixed
network on each fold, which is new to it only where it was not trained on those windows; `rtserve.evaluate` asks about that
and has intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score

from rtserve.errors import InputError
from rtserve.graphs.graph import Graph
from rtserve.measure.decisions import class_numbers, decision_of, to_probabilities
from rtserve.measure.predict import as_graph, predict
from rtserve.signals.given import given_windows
from rtserve.signals.given_arrays import to_numpy

__all__ = ["RtserveClassifier", "RtserveRegressor"]

CALLED = "the graph"


class _Served(BaseEstimator):  # type: ignore[misc]
    """What both have in common: the graph, and how windows are handed to it."""

    def __init__(
        self,
        graph: Graph | str | Path,
        *,
        unit: str | None = None,
        sfreq: float = 0.0,
        engine: str = "onnxruntime",
        threads: int = 1,
        batch: int | None = None,
    ) -> None:
        self.graph = graph
        self.unit = unit
        self.sfreq = sfreq
        self.engine = engine
        self.threads = threads
        self.batch = batch

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.target_tags.required = False
        tags.requires_fit = False
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _checked(self) -> Graph:
        """Return the graph; raise where it is one for the other estimator."""
        return as_graph(self.graph)

    def _require_windows(self, X: Any, y: Any) -> None:
        """Raise where windows do not fit the graph, or y is not one target each."""
        graph = self._checked()
        given = given_windows(X, unit=self.unit, sfreq=self.sfreq, spec=graph.input_spec, name=CALLED, need_y=False)
        if y is not None and len(to_numpy(y)) != len(given.windows):
            raise InputError(f"{len(to_numpy(y))} targets for {len(given.windows)} windows", hint="one per window")

    def _outputs(self, X: Any) -> np.ndarray:
        """Return (n_windows, n_outputs)."""
        return predict(
            self._checked(),
            X,
            unit=self.unit,
            sfreq=self.sfreq,
            engine=self.engine,
            threads=self.threads,
            batch=self.batch,
            name=CALLED,
        )


class RtserveRegressor(RegressorMixin, _Served):  # type: ignore[misc]
    """A graph that predicts numbers.

    Parameters
    ----------
    graph : Graph or path
        What predicts; a path is read at each call.
    unit : str, optional
        Unit of the windows, as `rtserve.predict` takes it: ``"V"``, ``"uV"``, ..., or ``"graph"``.
    sfreq : float
        Their rate in Hz, where it is known.
    engine, threads, batch : str, int, int
        See `rtserve.predict`.
    """

    def _checked(self) -> Graph:
        graph = as_graph(self.graph)
        if graph.output_spec.classifies:
            raise InputError("the graph predicts classes", hint="use RtserveClassifier(graph)")
        return graph

    def fit(self, X: Any, y: Any = None) -> RtserveRegressor:
        """Learn nothing: look whether X (n_windows, n_chans, n_times) fits the graph and y has a target for each.

        Raises
        ------
        InputError
            Where they do not.
        """
        self._require_windows(X, y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return (n_windows,), or (n_windows, n_outputs) where the graph gives several; raises as `rtserve.predict`."""
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs


class RtserveClassifier(ClassifierMixin, _Served):  # type: ignore[misc]
    """A graph that predicts classes.

    Parameters
    ----------
    graph, unit, sfreq, engine, threads, batch
        As of `RtserveRegressor`.
    classes : sequence, optional
        The label of each output in order. By default the names that the graph has for them, or 0, 1, ... where it has none
        or where the y that `fit` is given are numbers.
    """

    def __init__(
        self,
        graph: Graph | str | Path,
        *,
        classes: Sequence[Any] | None = None,
        unit: str | None = None,
        sfreq: float = 0.0,
        engine: str = "onnxruntime",
        threads: int = 1,
        batch: int | None = None,
    ) -> None:
        super().__init__(graph, unit=unit, sfreq=sfreq, engine=engine, threads=threads, batch=batch)
        self.classes = classes

    def _checked(self) -> Graph:
        graph = as_graph(self.graph)
        if graph.output_spec.target not in ("", "class"):
            raise InputError(
                f"the graph predicts {graph.output_spec.target}, which is no class", hint="use RtserveRegressor(graph)"
            )
        return graph

    @property
    def classes_(self) -> np.ndarray:
        """The label of each class, (n_classes,): what `predict` gives, in the order of `predict_proba`'s columns."""
        known: np.ndarray | None = getattr(self, "labels_", None)
        return self._labels(None) if known is None else known

    def fit(self, X: Any, y: Any = None) -> RtserveClassifier:
        """Learn nothing but how y calls the classes: by their names or by their numbers.

        Raises
        ------
        InputError
            Where X does not fit the graph, or y holds what is none of its classes.
        """
        self._require_windows(X, y)
        self.labels_ = self._labels(None if y is None else to_numpy(y))
        return self

    def _labels(self, y: np.ndarray | None) -> np.ndarray:
        spec = self._checked().output_spec
        count = max(2, spec.n_outputs)
        if self.classes is not None:
            labels = np.asarray(self.classes)
            if labels.shape != (count,) or len(np.unique(labels)) < count:
                raise InputError(
                    f"classes {self.classes!r:.80} for {count} classes", hint="one label per class, in order"
                )
        elif spec.classes and (y is None or y.dtype.kind in "OSU"):
            labels = np.array(spec.classes)
        else:
            labels = np.arange(count)
        unknown = [] if y is None else [one for one in np.unique(y.ravel()).tolist() if one not in labels.tolist()]
        if unknown:
            known = ", ".join(map(str, labels.tolist()))
            raise InputError(
                f"y holds {unknown[0]!r:.40}, which is none of the classes {known}",
                hint="say which label each output of the graph stands for, in order: classes=(...)",
            )
        return labels

    def predict(self, X: Any) -> np.ndarray:
        """Return (n_windows,) labels: those of `classes_`; raises as `rtserve.predict`."""
        found: np.ndarray = self.classes_[class_numbers(self._outputs(X), decision_of(self._checked()))]
        return found

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return (n_windows, n_classes) float64.

        Raises
        ------
        InputError
            As `predict`, and where the graph does not say whether its outputs are logits or probabilities.
        """
        decision = decision_of(self._checked())
        if not decision.form:
            raise InputError(
                "the graph does not say whether its outputs are logits or probabilities",
                hint='say it once: rtserve.export(..., form="logits"), or rtserve annotate GRAPH.onnx --form logits',
            )
        return to_probabilities(self._outputs(X), decision, CALLED)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy; y may hold names or numbers of classes."""
        y = to_numpy(y)
        labels = self.classes_ if hasattr(self, "labels_") else self._labels(y)
        found = labels[class_numbers(self._outputs(X), decision_of(self._checked()))]
        return float(accuracy_score(y, found, sample_weight=sample_weight))
