"""Pipelines that are no networks: every step against its library in float64, ensembles as one product, refusals."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pytest

from rtserve.errors import CheckpointError, ExportError, InputError
from rtserve.graphs.exporter import Built
from rtserve.graphs.library import library_answers
from rtserve.graphs.parity import probe_inputs

pytestmark = [
    pytest.mark.needs("pyriemann"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pyriemann"),
    pytest.mark.filterwarnings("ignore:.*expand_dims:DeprecationWarning"),
]
Load = Callable[[str], ModuleType]
CHANS, TIMES = 5, 60


def data() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return windows whose covariance says the class, and labels: three classes, two, and a number."""
    g = np.random.default_rng(0)
    y = np.arange(36) % 3
    mix = 0.3 * g.standard_normal((3, CHANS, CHANS)) + 2 * np.eye(CHANS)
    x = mix[y] @ g.standard_normal((36, CHANS, TIMES)) + np.sin(np.arange(TIMES) / 5) * (1 + y[:, None, None])
    return x, {"three": np.array(["foot", "left", "right"])[y], "two": (y > 0).astype(int), "number": x[:, 0].var(-1)}


@cache
def models() -> dict[str, tuple[Any, str]]:
    """Return unfitted pipelines by name, each with the labels it is fitted on."""
    from mne import decoding
    from pyriemann import classification, estimation, preprocessing, spatialfilters
    from pyriemann.estimation import Covariances as Cov
    from pyriemann.tangentspace import TangentSpace as Ts
    from sklearn import ensemble, linear_model, svm, tree
    from sklearn import preprocessing as scalers
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis as Lda
    from sklearn.feature_selection import SelectKBest
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline as pipe
    from sklearn.pipeline import make_union

    lr = linear_model.LogisticRegression
    found: dict[str, tuple[Any, str]] = filtered()
    for name in ("scm", "cov", "oas", "lwf", "sch"):
        found[f"cov {name}"] = pipe(Cov(name), Ts(), Lda()), "three"
    for metric in ("logeuclid", "euclid", "riemann"):
        found[f"tangent {metric}"] = pipe(Cov("oas"), Ts(metric=metric), Lda()), "two"
        found[f"mdm {metric}"] = pipe(Cov("oas"), classification.MDM(metric=metric)), "three"
    found["shrinkage"] = pipe(Cov("scm"), estimation.Shrinkage(0.2), Ts(), lr()), "three"
    found["erp"] = pipe(estimation.ERPCovariances(estimator="oas"), Ts(), Lda()), "two"
    found["xdawn covariances"] = pipe(estimation.XdawnCovariances(2, estimator="oas"), Ts(), lr()), "two"
    found["delays"] = pipe(estimation.TimeDelayCovariances(2, estimator="oas"), Ts(), Lda()), "three"
    shrunk = Lda(solver="lsqr", shrinkage="auto")
    flat = (spatialfilters.Xdawn(2), decoding.Vectorizer(), scalers.StandardScaler(), PCA(5, whiten=True), shrunk)
    found["xdawn"] = pipe(*flat), "three"
    found["csp"] = pipe(Cov("oas"), spatialfilters.CSP(4), Lda()), "three"
    found["csp matrices"] = pipe(Cov("oas"), spatialfilters.CSP(4, log=False), Ts(), Lda()), "three"
    found["spoc"] = pipe(Cov("oas"), spatialfilters.SPoC(4), linear_model.Ridge()), "number"
    found["whitening"] = pipe(Cov("oas"), preprocessing.Whitening(dim_red={"n_components": 3}), Ts(), Lda()), "three"
    found["csp of mne"] = pipe(decoding.CSP(4), Lda()), "three"
    found["csp of mne, powers"] = pipe(decoding.CSP(4, log=False), Lda()), "three"
    found["tangent classifier"] = pipe(Cov("oas"), classification.TSClassifier()), "three"
    found["union"] = pipe(Cov("oas"), make_union(Ts(), pipe(spatialfilters.CSP(3))), Lda()), "three"
    scaled = (scalers.MinMaxScaler(), scalers.RobustScaler(), scalers.MaxAbsScaler(), SelectKBest(k=8), Lda())
    found["scalers"] = pipe(Cov("oas"), Ts(), *scaled), "three"
    found["search"] = GridSearchCV(pipe(Cov("oas"), Ts(), lr()), {"logisticregression__C": [0.1, 1]}, cv=2), "three"
    heads: dict[str, tuple[Any, str]] = {
        "lda eigen": (Lda(solver="eigen", shrinkage=0.1), "three"),
        "lda as a projection": (pipe(Lda(), lr()), "three"),
        "logistic, two": (lr(), "two"),
        "liblinear": (lr(solver="liblinear"), "two"),
        "sgd": (linear_model.SGDClassifier(loss="log_loss", random_state=0), "three"),
        "hinge": (linear_model.SGDClassifier(random_state=0), "two"),
        "ridge classifier": (linear_model.RidgeClassifier(), "three"),
        "linear svc": (svm.LinearSVC(), "three"),
        "svc": (svm.SVC(kernel="linear"), "two"),
        "svr": (svm.SVR(kernel="linear"), "number"),
        "lasso": (linear_model.Lasso(0.01), "number"),
        "forest": (ensemble.RandomForestClassifier(6, random_state=0), "three"),
        "forest of numbers": (ensemble.RandomForestRegressor(6, random_state=0), "number"),
        "extra trees": (ensemble.ExtraTreesClassifier(5, random_state=0), "three"),
        "tree": (tree.DecisionTreeClassifier(random_state=0), "two"),
        "bagging": (ensemble.BaggingClassifier(pipe(scalers.StandardScaler(), Lda()), 5, random_state=0), "three"),
        "bagging of features": (ensemble.BaggingClassifier(Lda(), 4, max_features=0.5, random_state=0), "two"),
        "bagging of numbers": (ensemble.BaggingRegressor(linear_model.Ridge(), 4, random_state=0), "number"),
        "soft vote": (vote([Lda(solver="lsqr", shrinkage=s) for s in (0.1, 0.3, 0.6)], weights=[1, 2, 3]), "three"),
    }
    for name, (head, labels) in heads.items():
        found[name] = pipe(Cov("oas"), Ts(), head), labels
    members = [pipe(Cov("oas"), Ts(metric), lr(C=c)) for metric, c in (("riemann", 0.1), ("riemann", 1), ("euclid", 1))]
    found["vote of pipelines"] = vote(members), "three"
    return found


def band(low: float, high: float) -> Any:
    """Return a zero-phase filter of windows at 100 Hz as a step."""
    from scipy import signal
    from sklearn.preprocessing import FunctionTransformer

    sos = signal.butter(2, [low, high], "bandpass", fs=100, output="sos")
    return FunctionTransformer(partial(signal.sosfiltfilt, sos))


def filtered() -> dict[str, tuple[Any, str]]:
    """Return pipelines that filter along time, side by side, or columns."""
    import mne
    from pyriemann.estimation import Covariances as Cov
    from pyriemann.tangentspace import TangentSpace as Ts
    from scipy import signal
    from sklearn.compose import make_column_transformer
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis as Lda
    from sklearn.pipeline import FeatureUnion, Pipeline, make_union
    from sklearn.pipeline import make_pipeline as pipe
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    found: dict[str, tuple[Any, str]] = {}
    bands = ((6.0, 12.0), (12.0, 20.0), (20.0, 35.0))
    found["filter bank"] = pipe(make_union(*(pipe(band(*b), Cov("oas"), Ts()) for b in bands)), Lda()), "three"
    high = mne.decoding.TemporalFilter(25.0, None, 100.0, l_trans_bandwidth=20.0)
    csp = [pipe(band(4.0, 15.0), mne.decoding.CSP(2)), pipe(high, mne.decoding.CSP(2))]
    found["filter bank of csp"] = pipe(make_union(*csp), StandardScaler(), Lda()), "three"
    asked = {"sfreq": 100.0, "l_freq": 8.0, "h_freq": 30.0, "method": "iir", "verbose": False}
    found["filter of mne"] = pipe(FunctionTransformer(mne.filter.filter_data, kw_args=asked), Cov(), Ts(), Lda()), "two"
    causal = FunctionTransformer(partial(signal.lfilter, *signal.butter(2, 0.3)))
    fewer = FunctionTransformer(partial(signal.resample, axis=-1), kw_args={"num": 40})
    found["resampled"] = (
        pipe(causal, fewer, band(6.0, 20.0), FunctionTransformer(signal.detrend), Cov(), Ts(), Lda()),
        "two",
    )
    columns = make_column_transformer((StandardScaler(), slice(0, 5)), ("drop", [5]), ("passthrough", [9, 7]))
    found["columns"] = pipe(Cov("oas"), Ts(), columns, Lda()), "three"
    rest = make_column_transformer((StandardScaler(), [3, 1]), remainder="passthrough")
    inner = FeatureUnion([("a", "passthrough"), ("b", rest), ("c", "drop")], transformer_weights={"b": 0.5})
    named = [("cov", Cov("oas")), ("none", "passthrough"), ("ts", Ts()), ("both", make_union(inner, StandardScaler()))]
    found["nested union"] = Pipeline([*named, ("nothing", None), ("lda", Lda())]), "three"
    return found


def vote(members: list[Any], **more: Any) -> Any:
    from sklearn.ensemble import VotingClassifier

    return VotingClassifier([(str(i), member) for i, member in enumerate(members)], voting="soft", **more)


def fitted(model: Any, labels: str) -> Any:
    x, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x, y[labels])


def built(family: Load, path: Path, model: Any, **settings: Any) -> Built:
    joblib.dump(model, path / "m.joblib")
    found: Built = family("sklearn_pipeline").exporter.build(
        path / "m.joblib", {"n_chans": CHANS, "n_times": TIMES} | settings
    )
    return found


def probes(one: Built) -> list[tuple[str, np.ndarray]]:
    return probe_inputs(one.input_spec, scales=(1e-6, 1.0), batches=(1, 4))


NAMES = (
    "filter bank", "filter bank of csp", "filter of mne", "resampled", "columns", "nested union",
    "cov scm", "cov cov", "cov oas", "cov lwf", "cov sch", "tangent logeuclid", "mdm logeuclid", "tangent euclid",
    "mdm euclid", "tangent riemann", "mdm riemann", "shrinkage", "erp", "xdawn covariances", "delays", "xdawn", "csp",
    "csp matrices", "spoc", "whitening", "csp of mne", "csp of mne, powers", "tangent classifier", "union", "scalers",
    "search", "lda eigen", "lda as a projection", "logistic, two", "liblinear", "sgd", "hinge", "ridge classifier",
    "linear svc", "svc", "svr", "lasso", "forest", "forest of numbers", "extra trees", "tree", "bagging",
    "bagging of features", "bagging of numbers", "soft vote", "vote of pipelines",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_step_gives_the_librarys_numbers(family: Load, tmp_path: Path, name: str) -> None:
    model, labels = models()[name]
    model = fitted(model, labels)
    one = built(family, tmp_path, model)
    arrays, said = library_answers(one.network.eval(), one, probes(one))  # raises where they are 1e-10 apart
    x, own = data()[0], None
    assert one.own is not None
    own = one.own(x)
    np.testing.assert_allclose(arrays["y0"], one.own(arrays["x0"].astype(float)), rtol=1e-9, atol=1e-12)
    if hasattr(model, "predict_proba"):
        np.testing.assert_array_equal(own, model.predict_proba(x))
        assert one.output_spec.form == "probabilities"
        assert one.output_spec.classes == tuple(map(str, model.classes_))
    assert "pyriemann" in said


def test_every_pipeline_is_tried() -> None:
    assert set(models()) == set(NAMES)


def test_a_wrong_number_is_found(family: Load, tmp_path: Path) -> None:
    one = built(family, tmp_path, fitted(*models()["cov oas"]))
    head = [part for part in one.network.modules() if type(part).__name__ == "Affine"][-1]
    head.bias += 1e-7
    with pytest.raises(ExportError, match="from the library's own answers"):
        library_answers(one.network, one, probes(one))


def test_a_wrong_feature_is_found_behind_certain_probabilities(family: Load, tmp_path: Path) -> None:
    """The pipelines' answers to noise are 1 and 0; what made them is compared too."""
    one = built(family, tmp_path, fitted(*models()["cov oas"]))
    tangent = next(part for part in one.within[0].network.modules() if type(part).__name__ == "TangentSpace")
    tangent.coefficients *= 1 + 1e-8
    with pytest.raises(ExportError, match="features"):
        library_answers(one.network, one, probes(one))


def test_singular_covariances_have_no_number(family: Load, tmp_path: Path) -> None:
    import torch

    one = built(family, tmp_path, fitted(*models()["cov scm"]))
    x = torch.randn(3, CHANS, TIMES, generator=torch.Generator().manual_seed(0))
    x[1, 2] = 0.0  # a flat channel
    x[2, 0] = x[2, 1]  # two channels that are one
    with torch.inference_mode():
        y = one.network(x)
    assert torch.isfinite(y[0]).all()
    assert torch.isnan(y[1:]).all()


def test_members_that_differ_in_numbers_alone_are_one_product(family: Load, tmp_path: Path) -> None:
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis as Lda
    from sklearn.pipeline import make_pipeline as pipe

    x, y = data()
    folds = [np.arange(36) % 6 != fold for fold in range(6)]
    whole = [pipe(Covariances("oas"), TangentSpace(), Lda()).fit(x[fold], y["three"][fold]) for fold in folds]
    one = built(family, tmp_path, whole, combine="mean")
    ensemble = one.network.steps
    assert [type(step).__name__ for step in ensemble.steps] == ["Covariances", "TangentSpace", "Affine"]
    library_answers(one.network, one, probes(one))
    np.testing.assert_array_equal(one.own(x), np.mean([m.predict_proba(x) for m in whole], axis=0))
    with pytest.raises(InputError, match="list of 6 models"):
        built(family, tmp_path, whole)


def test_what_has_no_graph_is_refused_by_its_name(family: Load, tmp_path: Path) -> None:
    from mne.decoding import TemporalFilter
    from mne.filter import notch_filter
    from pyriemann.classification import FgMDM
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace
    from scipy.signal import detrend
    from sklearn.compose import TransformedTargetRegressor as Scaled
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis as Lda
    from sklearn.linear_model import Ridge
    from sklearn.linear_model import SGDClassifier as LinearSgd
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline as pipe
    from sklearn.pipeline import make_union
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.svm import SVC

    cov, tangent = Covariances("oas"), TangentSpace()
    refused = {
        "kernel 'rbf'": pipe(cov, tangent, SVC()),
        "votes between pairs": pipe(cov, tangent, SVC(kernel="linear")),
        "KNeighborsClassifier": pipe(cov, tangent, KNeighborsClassifier()),
        "tsupdate": pipe(cov, TangentSpace(tsupdate=True), Lda()),
        "'mcd'": pipe(Covariances("mcd"), tangent, Lda()),
        "FgMDM": pipe(cov, FgMDM()),
        "metric 'wasserstein'": pipe(cov, TangentSpace(metric="wasserstein"), Lda()),
        "a class of its own": pipe(cov, Own(), Lda()),
        "numpy's log": pipe(cov, tangent, FunctionTransformer(np.tanh), Lda()),
        "in a way that has no graph": pipe(cov, tangent, LinearSgd(loss="modified_huber")),
        "along axis 1": pipe(FunctionTransformer(partial(detrend, axis=1)), cov, tangent, Lda()),
        "finds the lines": pipe(FunctionTransformer(notch_filter, kw_args=NOTCH), cov, tangent, Lda()),
        "writes over the windows": pipe(
            make_union(*[pipe(TemporalFilter(None, 15.0, 100.0), cov, tangent)] * 2), Lda()
        ),
        "Ridge|Target.* is not supported": pipe(cov, tangent, Scaled(Ridge())),
        "Pipeline predicts nothing": pipe(cov, tangent, "passthrough"),
        "no numbers are known": pipe(FunctionTransformer(partial(detrend, bp=[20])), Own(), Lda()),
    }
    for said, model in refused.items():
        with pytest.raises(InputError, match=said):
            built(family, tmp_path, fitted(model, "number" if "Target" in said else "three"))
    for unfitted in (pipe(cov, TangentSpace(), Lda()), pipe(cov, TangentSpace(), Ridge()), Lda()):
        with pytest.raises(InputError, match="is not fitted") as caught:
            built(family, tmp_path, unfitted)
        assert caught.value.hint == "call fit, then write the file"
    with pytest.raises(InputError, match="fails on windows of 4"):
        built(family, tmp_path, fitted(*models()["cov oas"]), n_chans=4)
    with pytest.raises(InputError, match="no setting 'n_chan'"):
        built(family, tmp_path, fitted(*models()["cov oas"]), n_chan=4)


def test_what_a_script_defined_is_not_found_and_the_cure_is_said(
    family: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.preprocessing import FunctionTransformer

    mine = sys.modules[__name__]
    monkeypatch.setattr(mine, "smoothed", lambda x: x, raising=False)
    function: Any = mine.smoothed  # type: ignore[attr-defined]
    function.__qualname__ = "smoothed"
    joblib.dump(FunctionTransformer(function), tmp_path / "m.joblib")
    monkeypatch.delattr(mine, "smoothed")
    with pytest.raises(CheckpointError, match=r"holds what cannot be found here.*smoothed") as caught:
        family("sklearn_pipeline").exporter.build(tmp_path / "m.joblib", {"n_chans": CHANS, "n_times": TIMES})
    assert "functools.partial(scipy.signal.sosfiltfilt, sos)" in str(caught.value.hint)


NOTCH = {"Fs": 100.0, "freqs": None, "method": "spectrum_fit", "filter_length": "0.6s", "verbose": False}


class Own:
    """Somebody's own step."""

    def fit(self, x, y=None):
        return self

    def transform(self, x):
        return x.reshape(len(x), -1)
