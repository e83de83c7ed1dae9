"""Pipelines of scikit-learn, pyRiemann and MNE as networks: the fitted numbers as tensors, nothing of the libraries.

``rtserve export MODEL.joblib --exporter exporters/sklearn_pipeline.py --set n_chans=22 --set n_times=250 -o M.onnx``

Loading a joblib or pickle runs the code in it. It happens in the export's child process alone, and what comes out is
compared with the library's own answers: to 1e-10 in float64. What has no module here is refused by its name.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filter_steps  # type: ignore[import-not-found]
import numpy as np
from ensembles import Ensemble, Unlinked, chain_of  # type: ignore[import-not-found]
from estimators import VOTES, answering, modules_of  # type: ignore[import-not-found]
from riemann_steps import refuse  # type: ignore[import-not-found]
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rtserve.errors import CheckpointError, InputError
from rtserve.graphs.exporter import Built, FileExporter, Quirk, Within
from rtserve.spec import InputSpec, OutputSpec

__all__ = ["Member", "exporter"]

SETTINGS: dict[str, Any] = {
    "n_chans": 0, "n_times": 0, "sfreq": 0.0, "unit": None, "ch_names": (), "target": "", "answer": "", "combine": "",
    "key": "",
}  # fmt: skip
ANSWERS = ("probabilities", "decision", "predict")
METHODS = {"probabilities": "predict_proba", "decision": "decision_function", "predict": "predict"}
UNFITTED = "call fit, then write the file"
MOST_WITHIN = 8
"""Models of a file whose features and scores are compared too."""


class Member(nn.Module):  # type: ignore[misc]
    """A pipeline as a network: it computes in float64 whatever the type of its windows."""

    def __init__(self, steps: nn.Module) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times), in the type of x."""
        return self.steps(x.double()).to(x.dtype)


def _answer_of(estimator: Any, wanted: str) -> str:
    """Return which method of an estimator the graph answers as."""
    if wanted and wanted not in ANSWERS:
        raise InputError(f"answer {wanted!r} is not one of {', '.join(ANSWERS)}", hint="--set answer=probabilities")
    if not hasattr(estimator, "predict"):
        raise refuse(
            estimator, "predicts nothing", "a member ends in a classifier or a regression, not in a transformer"
        )
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise refuse(estimator, "is not fitted", UNFITTED) from None
    if not hasattr(estimator, "classes_"):
        if wanted not in ("", "predict"):
            raise InputError(
                f"{type(estimator).__name__} classifies nothing, so it has no {wanted}", hint="leave it out"
            )
        return "predict"
    if wanted == "predict":
        raise InputError("the class itself is no number a graph could be merged by", hint="--set answer=decision")
    found = wanted or next((a for a in ANSWERS[:2] if hasattr(estimator, METHODS[a])), "")
    if not found or not hasattr(estimator, METHODS[found]):
        raise refuse(estimator, f"has no {METHODS.get(found, 'predict_proba and no decision_function')}")
    return found


def _ask(estimator: Any, answer: str, x: np.ndarray) -> np.ndarray:
    """Return the library's own answer (batch, n_outputs)."""
    y = np.asarray(getattr(estimator, METHODS[answer])(x), dtype=np.float64)
    return y.reshape(len(x), -1)


def _quiet(own: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a library's function without what it warns of while it answers: odd windows are asked for on purpose.

    It is given a copy: filters of MNE write over their windows.
    """

    def asked(x: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return own(x.copy())

    return asked


def _load(path: Path) -> Any:
    """Load a file by its own library. Runs what is in it."""
    if path.suffix == ".skops":
        try:
            from skops import io
        except ImportError:
            raise InputError(f"{path.name} needs skops, which is not installed", hint="pip install skops") from None
        return io.load(path, trusted=io.get_untrusted_types(file=path))
    import joblib

    try:
        return joblib.load(path)
    except ModuleNotFoundError as error:
        bring = (
            "pip install 'rtserve[pyriemann]'" if error.name in ("pyriemann", "sklearn") else "install what saved it"
        )
        raise CheckpointError(
            f"{path.name} needs the package {error.name}, which is not installed here",
            hint=f"{bring}; a class of your own cannot be exported",
        ) from None
    except AttributeError as error:  # what a script or notebook defined, or another version of the library
        raise CheckpointError(
            f"{path.name} holds what cannot be found here: {' '.join(str(error).split())[:200]}",
            hint=f"a function or class of your own cannot be exported: {filter_steps.CURE}; or another version saved it",
        ) from None


def _models(loaded: Any, settings: Mapping[str, Any]) -> list[Any]:
    """Return the models of a file: one, or those of a list whose mean is asked for."""
    if isinstance(loaded, Mapping):
        key = str(settings["key"])
        if key not in loaded:
            listed = ", ".join(map(str, list(loaded)[:8]))
            raise InputError(f"the file holds a dict of {listed}", hint="say which: --set key=NAME")
        loaded = loaded[key]
    if not isinstance(loaded, list | tuple):
        return [loaded]
    if settings["combine"] != "mean" or not loaded:
        raise InputError(
            f"the file holds a {type(loaded).__name__} of {len(loaded)} models",
            hint="if their answers are averaged, say so: --set combine=mean",
        )
    return list(loaded)


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    for key in settings:
        if key not in SETTINGS:
            raise InputError(f"pipelines have no setting {key!r}", hint=f"they take {', '.join(SETTINGS)}")
    values = SETTINGS | dict(settings)
    if not (values["n_chans"] and values["n_times"]):
        raise InputError("a pipeline does not say the size of its windows", hint="--set n_chans=... --set n_times=...")
    return values


def _names(given: Any) -> tuple[str, ...]:
    return tuple(n.strip() for n in given.split(",")) if isinstance(given, str) and given else tuple(map(str, given))


def _quirks(said: list[str], answer: str, link: bool) -> tuple[Quirk, ...]:
    quirks = [Quirk(name="float64", reason="the pipeline computes in float64, and so does its graph")]
    quirks += [Quirk(name="warned", reason=text) for text in dict.fromkeys(said)]
    if answer == "decision" and not link:
        quirks.append(
            Quirk(name="margin", reason="its scores are distances, not logits: their softmax is no probability")
        )
    return tuple(quirks)


def _has_link(model: Any) -> bool:
    return hasattr(model, "predict_proba")


def _build(path: Path, settings: Mapping[str, Any]) -> Built:
    """Load a pipeline and return its network, with the library's own answers to compare it with."""
    values = _settings(settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = _load(path)
    models = _models(loaded, values)
    said = [" ".join(str(w.message).split())[:200] for w in caught if "Version" in w.category.__name__]
    answer = _answer_of(models[0], str(values["answer"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filters say that a window is short for them
        chains = [answering(model, answer, int(values["n_times"])) for model in models]
    network = Member(chain_of(chains[0]) if len(chains) == 1 else Ensemble(chains, None))

    def own(x: np.ndarray) -> np.ndarray:
        mean: np.ndarray = np.mean([_ask(model, answer, x) for model in models], axis=0)
        return mean

    rng = np.random.default_rng(0)
    n_outputs = _width(own, rng.standard_normal((2, int(values["n_chans"]), int(values["n_times"]))))
    return _built(network, _quiet(own), models, values, answer, n_outputs, said)


def _within(network: nn.Module, models: list[Any], answer: str, n_times: int) -> tuple[Within, ...]:
    """Return what is compared on the way: the features before the last step, and the scores before a probability."""
    found = []
    for model in models[:MOST_WITHIN]:
        inner = getattr(model, "best_estimator_", model)
        if type(inner).__name__ == "Pipeline" and len(inner.steps) > 1:
            before = inner[:-1]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                steps = modules_of(before, n_times)
            found.append(Within(name="features", network=chain_of(steps), own=_quiet(before.transform)))
    if answer == "probabilities" and all(map(_scored, models)):

        def scores(x: np.ndarray) -> np.ndarray:
            mean: np.ndarray = np.mean([_scores(model, x) for model in models], axis=0)
            return mean

        found.append(Within(name="scores", network=Unlinked(network), own=_quiet(scores)))
    return tuple(found)


def _scored(model: Any) -> bool:
    """Whether the library has scores behind a model's probabilities."""
    inner = _last(model)
    members = inner.estimators_ if type(inner).__name__ in VOTES else []
    return all(map(_scored, members)) if members else hasattr(inner, "decision_function") or _is_mdm(inner)


def _last(model: Any) -> Any:
    inner = getattr(model, "best_estimator_", model)
    return _last(inner.steps[-1][1]) if type(inner).__name__ == "Pipeline" else inner


def _is_mdm(model: Any) -> bool:
    return type(model).__name__ == "MDM"


def _scores(model: Any, x: np.ndarray) -> np.ndarray:
    """Return the scores behind a model's probabilities, of an ensemble their mean, (batch, n)."""
    inner = getattr(model, "best_estimator_", model)
    if type(inner).__name__ == "Pipeline":
        return _scores(inner.steps[-1][1], inner[:-1].transform(x) if len(inner.steps) > 1 else x)
    if type(inner).__name__ == "VotingClassifier":
        scores = [_scores(member, x) for member in inner.estimators_]
        mean: np.ndarray = np.average(scores, axis=0, weights=inner._weights_not_none)
        return mean
    y = -np.square(inner.transform(x)) if _is_mdm(inner) else inner.decision_function(x)
    return np.asarray(y, dtype=np.float64).reshape(len(x), -1)


def _mixing(network: nn.Module, n_chans: int) -> np.ndarray | None:
    """Return the root of the first reference covariance that fits the channels."""
    for part in network.modules():
        point = getattr(part, "point", None)
        if point is not None and point.shape[-1] == n_chans:
            values, vectors = np.linalg.eigh(point.reshape(-1, n_chans, n_chans)[0])
            root: np.ndarray = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
            return root
    return None


def _width(own: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> int:
    try:
        return int(_quiet(own)(x).shape[1])
    except Exception as error:
        raise InputError(
            f"the pipeline itself fails on windows of {x.shape[1]} x {x.shape[2]}: {type(error).__name__}:"
            f" {' '.join(str(error).split())[:200]}",
            hint=UNFITTED
            if isinstance(error, NotFittedError)
            else "n_chans and n_times must be those it was fitted with",
        ) from None


def _built(
    network: nn.Module, own: Any, models: list[Any], values: Mapping[str, Any], answer: str, n: int, said: list[str]
) -> Built:
    classes = tuple(map(str, getattr(models[0], "classes_", ())))
    if any(tuple(map(str, getattr(model, "classes_", ()))) != classes for model in models):
        raise InputError("the models of the file know other classes, or order them otherwise", hint="export each alone")
    form = "" if not classes else "probabilities" if answer == "probabilities" else "logits"
    versions = {name: importlib.metadata.version(name) for name in ("scikit-learn", "pyriemann") if _installed(name)}
    return Built(
        network=network,
        input_spec=InputSpec(
            n_chans=int(values["n_chans"]),
            n_times=int(values["n_times"]),
            sfreq=float(values["sfreq"]),
            ch_names=_names(values["ch_names"]),
            unit=values["unit"],
        ),
        output_spec=OutputSpec(
            n_outputs=n, target="class" if classes else str(values["target"]), classes=classes, form=form
        ),
        quirks=_quirks(said, answer, _has_link(models[0])),
        own=own,
        within=_within(network, models, answer, int(values["n_times"])),
        mixing=_mixing(network, int(values["n_chans"])),
        own_name=", ".join(f"{name} {version}" for name, version in versions.items()),
    )


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


exporter = FileExporter(build=_build)
