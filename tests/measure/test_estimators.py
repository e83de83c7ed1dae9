"""A graph as a scikit-learn estimator: its checks, pipelines, folds, clones, and labels as the caller has them."""

from __future__ import annotations

from dataclasses import replace

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import SkipTestWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from rtserve.errors import InputError, SpecMismatchError
from rtserve.measure.compare import compare
from rtserve.measure.estimators import RtserveClassifier, RtserveRegressor
from rtserve.measure.evaluate import evaluate
from rtserve.measure.predict import predict
from rtserve.spec import InputSpec, OutputSpec
from tests.fusion.making import network

SPEC = InputSpec(n_chans=4, n_times=20, sfreq=100.0, unit="uV")
RNG = np.random.default_rng(5)
X = (10 * RNG.standard_normal((24, 4, 20))).astype(np.float32)
Y = RNG.standard_normal(24)
NAMES = ("left", "right")


def classifier(n_outputs=2, *, classes=NAMES, form="logits"):
    made = network({1: 8, 2: 5}[n_outputs], spec=SPEC, n_outputs=n_outputs, target="class")  # answers both classes
    return replace(made, output_spec=OutputSpec(n_outputs=n_outputs, target="class", classes=classes, form=form))


def unsaid():
    """A fused classifier that says nothing of its numbers, as version 0.1 made them."""
    made = classifier(form="")
    return replace(made, provenance=replace(made.provenance, kind="fuse"))


@pytest.fixture(scope="module")
def regressor():
    return RtserveRegressor(network(spec=SPEC), unit="uV")


@pytest.mark.parametrize(
    "make", [lambda: RtserveRegressor(network(spec=SPEC)), lambda: RtserveClassifier(classifier())]
)
@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
        "check_get_params_invariance",
        "check_set_params",
        "check_do_not_raise_errors_in_init_or_set_params",
    ],
)
def test_the_checks_of_scikit_learn_that_need_no_table_of_numbers_pass(make, check):
    asked = getattr(estimator_checks, check, None)
    if asked is None:
        pytest.skip(f"this scikit-learn has no {check}")
    asked(type(make()).__name__, make())


@pytest.mark.skipif(not hasattr(BaseEstimator, "__sklearn_tags__"), reason="this scikit-learn has no such tags")
def test_the_rest_of_its_checks_are_left_out_by_the_tags():
    with pytest.warns(SkipTestWarning, match="two_d_array=False"):  # those that fit on (n_samples, n_features)
        assert [one["status"] for one in check_estimator(RtserveClassifier(classifier()))] == ["passed"]


def test_a_pipeline_scores_folds_as_the_graph_does(regressor):
    pipe = make_pipeline(FunctionTransformer(lambda X: 1e6 * X), regressor)
    scores = cross_val_score(pipe, 1e-6 * X.astype(np.float64), Y, cv=3)
    own = predict(regressor.graph, X, unit="uV")[:, 0]
    np.testing.assert_allclose(scores, [r2_score(Y[k : k + 8], own[k : k + 8]) for k in (0, 8, 16)], rtol=1e-4)
    np.testing.assert_array_equal(regressor.predict(X), own)
    assert regressor.score(X, Y) == pytest.approx(r2_score(Y, own))


def test_a_clone_and_a_pickle_answer_the_same(regressor, tmp_path):
    again = clone(regressor)
    assert again is not regressor
    assert again.get_params() == regressor.get_params()
    joblib.dump(regressor, tmp_path / "e.joblib")
    for other in (again, joblib.load(tmp_path / "e.joblib")):
        np.testing.assert_array_equal(other.predict(X), regressor.predict(X))
    assert again.set_params(unit="graph").fit(X, Y).unit == "graph"


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_classes_are_called_as_y_calls_them(n_outputs):
    served = RtserveClassifier(classifier(n_outputs), unit="uV")
    outputs = predict(served.graph, X, unit="uV")
    numbers = (outputs[:, 0] > 0).astype(int) if n_outputs == 1 else outputs.argmax(axis=1)
    assert 0 < numbers.mean() < 1
    names, y = np.array(NAMES)[numbers], RNG.integers(0, 2, 24)
    assert served.classes_.tolist() == list(NAMES)
    np.testing.assert_array_equal(served.predict(X), names)
    np.testing.assert_array_equal(clone(served).fit(X, y).predict(X), numbers)
    np.testing.assert_array_equal(clone(served).fit(X, names.astype(object)).predict(X), names)
    np.testing.assert_array_equal(clone(served).set_params(classes=(5, 7)).predict(X), np.array([5, 7])[numbers])
    expected = accuracy_score(y, numbers)
    assert served.score(X, y) == served.score(X, np.array(NAMES)[y]) == clone(served).fit(X, y).score(X, y) == expected
    p = served.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(p.argmax(axis=1), numbers)
    auc = cross_val_score(served, X, np.tile([0, 1], 12), cv=2, scoring="roc_auc")
    assert np.isfinite(auc).all()


@pytest.mark.parametrize(
    ("make", "call", "kind", "cure"),
    [
        (lambda: RtserveRegressor(classifier()), lambda one: one.predict(X), InputError, "RtserveClassifier"),
        (lambda: RtserveClassifier(network(spec=SPEC)), lambda one: one.fit(X), InputError, "RtserveRegressor"),
        (lambda: RtserveRegressor("nowhere.onnx"), lambda one: one.fit(X), InputError, ""),
        (lambda: RtserveRegressor(None), lambda one: one.fit(X), InputError, "rtserve.export"),
        (lambda: RtserveRegressor(network(spec=SPEC)), lambda one: one.fit(X, Y), InputError, 'unit="uV"'),
        (lambda: RtserveRegressor(network(spec=SPEC), unit="uV"), lambda one: one.fit(X[:, :2]), SpecMismatchError, ""),
        (lambda: RtserveRegressor(network(spec=SPEC), unit="uV"), lambda one: one.fit(X, Y[:3]), InputError, "one per"),
        (lambda: RtserveRegressor(network(spec=SPEC), unit="uV"), lambda one: one.fit(X[:, 0]), InputError, "X[:, None"),
        (lambda: RtserveClassifier(classifier(), unit="uV"), lambda one: one.fit(X, np.full(24, 0.5)), InputError, ""),
        (lambda: RtserveClassifier(classifier(), unit="uV"), lambda one: one.fit(X, [1, 2] * 12), InputError, "classes="),
        (lambda: RtserveClassifier(classifier(), unit="uV"), lambda one: one.fit(X, ["up"] * 24), InputError, "classes="),
        (lambda: RtserveClassifier(classifier(), classes="ab c", unit="uV"), lambda one: one.fit(X), InputError, "in order"),
        (lambda: RtserveClassifier(unsaid(), unit="uV"), lambda one: one.predict_proba(X), InputError, "form="),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_to_do(make, call, kind, cure):
    with pytest.raises(kind) as caught:
        call(make())
    assert cure in caught.value.hint


def test_graphs_and_evaluations_are_compared_without_files():
    first, second = network(1, spec=SPEC), network(2, spec=SPEC)
    found = compare(first, second, data=(X, Y), unit="uV", sfreq=100, metrics=["rmse"])
    sides = [evaluate(graph, (X, Y), unit="uV", metrics=["rmse"], resamples=50) for graph in (first, second)]
    stored = compare(*sides)
    for one in (found, stored):
        difference = one.differences[0][1]
        assert (difference.first, difference.second) == pytest.approx([side["rmse"].value for side in sides], rel=1e-6)
    for said, lacking in (({}, "unit"), ({"unit": "uV"}, "rate")):
        with pytest.raises(InputError, match=f"not say (its|their) {lacking}"):
            compare(first, second, data=(X, Y), **said)
    with pytest.raises(InputError, match="a dict cannot be compared"):
        compare({}, second)
