"""From fitted estimators to modules: pipelines, unions, columns, searches and votes, down to the steps of each library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import filter_steps  # type: ignore[import-not-found]
import numpy as np
import riemann_steps  # type: ignore[import-not-found]
import sklearn_steps  # type: ignore[import-not-found]
from ensembles import Concatenated, Ensemble, chain_of  # type: ignore[import-not-found]
from riemann_steps import refuse
from torch import nn

__all__ = ["VOTES", "answering", "modules_of"]

SEARCHES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
PARALLEL = ("FeatureUnion", "ColumnTransformer")
VOTES = ("VotingClassifier", "VotingRegressor", "BaggingClassifier", "BaggingRegressor")


def _kind(estimator: Any) -> tuple[str, str]:
    """Return the library and class of an estimator; raise where it is somebody's own."""
    library = type(estimator).__module__.partition(".")[0]
    if library not in ("sklearn", "pyriemann", "mne"):
        why = "is a class of its own, of which no numbers are known"
        raise refuse(estimator, why, f"use the libraries' own steps; {filter_steps.CURE}")
    return library, type(estimator).__name__


def modules_of(estimator: Any, n_times: int) -> list[nn.Module]:
    """Return the modules of an estimator that transforms, of signals of `n_times` samples where it takes signals."""
    library, name = _kind(estimator)
    if name == "Pipeline":
        return _in_turn([step for _, step in estimator.steps], n_times)
    if name in PARALLEL:
        return [_beside(estimator, name, n_times)]
    if (found := filter_steps.filter_of(estimator, f"{library}.{name}", n_times)) is not None:
        return [found]
    table = riemann_steps.STEPS | sklearn_steps.STEPS
    if f"{library}.{name}" not in table:
        raise refuse(estimator, "is not supported")
    return [table[f"{library}.{name}"](estimator)]


def _in_turn(steps: Sequence[Any], n_times: int) -> list[nn.Module]:
    """Return the modules of transformers one after the other."""
    modules: list[nn.Module] = []
    for step in steps:
        modules += _transform(step, next((m.length for m in reversed(modules) if hasattr(m, "length")), n_times))
    return modules


def _beside(estimator: Any, name: str, n_times: int) -> nn.Module:
    """Return the transformers of a union, or of chosen columns, beside each other."""
    weights = estimator.transformer_weights or {}
    if name == "FeatureUnion":
        steps = [(key, step) for key, step in estimator.transformer_list if step != "drop"]
        for key, step in steps[:-1]:
            if type(_first(step)).__name__ in filter_steps.STEPS:
                why = f"in {key!r} of a union writes over the windows that the parts after it read"
                raise refuse(_first(step), why, filter_steps.CURE)
        parts = [(key, _transform(step, n_times)) for key, step in steps]
    else:
        columns = estimator._transformer_to_input_indices
        parts = [
            (key, [sklearn_steps.Chosen(columns[key], 1), *_transform(step, n_times)])
            for key, step, _ in estimator.transformers_
            if step != "drop" and len(columns[key])
        ]
    return Concatenated([chain_of(steps) for _, steps in parts], [weights.get(key, 1.0) for key, _ in parts])


def _first(step: Any) -> Any:
    """Return the step of a pipeline that reads its input."""
    while type(step).__name__ == "Pipeline":
        step = next((one for _, one in step.steps if not (one is None or isinstance(one, str))), None)
    return step


def _transform(step: Any, n_times: int) -> list[nn.Module]:
    return [] if step is None or isinstance(step, str) else modules_of(step, n_times)


def answering(estimator: Any, answer: str, n_times: int) -> list[nn.Module]:
    """Return the modules of an estimator that answers."""
    library, name = _kind(estimator)
    if name == "Pipeline":
        before = _in_turn([step for _, step in estimator.steps[:-1]], n_times)
        return before + answering(estimator.steps[-1][1], answer, n_times)
    if name in SEARCHES:
        return answering(estimator.best_estimator_, answer, n_times)
    if name in VOTES:
        return [_votes(estimator, name, answer, n_times)]
    if library == "pyriemann" and name == "TSClassifier":
        return answering(estimator._pipe, answer, n_times)
    if library == "pyriemann" and name == "MDM":
        metric = riemann_steps.metric_of(estimator, estimator.metric)
        return [riemann_steps.Distances(estimator.covmeans_, metric, probabilities=True)]
    if library != "sklearn":
        raise refuse(estimator, "is not supported")
    return [sklearn_steps.head_of(estimator, name, answer)]


def _votes(estimator: Any, name: str, answer: str, n_times: int) -> nn.Module:
    """Return the mean of members."""
    if answer == "decision" or (name == "VotingClassifier" and estimator.voting != "soft"):
        raise refuse(
            estimator, "counts votes, or averages scores; the mean of probabilities (voting='soft') has a graph"
        )
    weights, chains = None, []
    if name.startswith("Voting"):
        weights = estimator._weights_not_none
    for number, member in enumerate(estimator.estimators_):
        if answer == "probabilities" and not hasattr(member, "predict_proba"):
            raise refuse(member, "gives no probabilities, of which its ensemble takes the mean")
        if answer == "probabilities" and len(member.classes_) != len(estimator.classes_):
            raise refuse(
                estimator, f"has a member that knows {len(member.classes_)} of {len(estimator.classes_)} classes"
            )
        chains.append(_chosen_features(estimator, number) + answering(member, answer, n_times))
    return Ensemble(chains, weights)


def _chosen_features(estimator: Any, number: int) -> list[nn.Module]:
    """Return the choice of features of a member of a bagging, where it does not take all."""
    features = getattr(estimator, "estimators_features_", None)
    if features is None or np.array_equal(features[number], np.arange(estimator.n_features_in_)):
        return []
    return [sklearn_steps.Chosen(features[number], 1)]
