"""Classes from one output or several: the threshold is named, and what is no class is not scored as one."""

from dataclasses import replace

import numpy as np
import pytest

from rtserve.errors import InputError, SpecMismatchError
from rtserve.fusion.fuse import fuse
from rtserve.measure.branches import try_branches
from rtserve.measure.calibrate import calibrate
from rtserve.measure.evaluate import evaluate
from rtserve.measure.search import search
from rtserve.measure.signature import Signature
from rtserve.signals.windows import WindowSet, save_windows

from .conftest import N_CHANS, N_TIMES, linear_graph


def labelled(n=160, *, right=0.9, seed=0, target="class"):
    """Windows whose channel 0 minus channel 1, in units of 1e-5 V, has the sign of the class in 90 % of them."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0, 1], n // 2))
    logit = np.where(rng.random(n) < right, 1, -1) * np.where(y == 1, 1, -1) * rng.uniform(0.5, 3, n)
    X = np.zeros((n, N_CHANS, N_TIMES))
    X[:, 0], X[:, 1] = 0.5e-5 * logit[:, None], -0.5e-5 * logit[:, None]
    subject = np.array([f"s{k % 16:02d}" for k in range(n)])
    truth = float(np.mean([np.mean((logit > 0)[y == k] == k) for k in (0, 1)]))
    return WindowSet(X=X.astype("f4"), y=y.astype("f4"), subject=subject, sfreq=100.0, target=target), truth


ONE = linear_graph([[1e5], [-1e5], [0.0]])
TWO = linear_graph([[0.0, 1e5], [0.0, -1e5], [0.0, 0.0]], target="class")


def test_one_logit_is_a_binary_classifier_with_its_threshold_named():
    windows, truth = labelled()
    for graph in (ONE, replace(ONE, output_spec=replace(ONE.output_spec, target="class"))):
        for metrics in (None, ["balanced_accuracy"]):
            found = evaluate(graph, windows, metrics=metrics, resamples=50)
            assert found.scores[0].value == pytest.approx(truth)
            assert "|from:logit > 0|" in str(found.scores[0].signature)
    spoken = evaluate(ONE, replace(windows, target=""), metrics=["balanced_accuracy"], resamples=50)
    assert spoken.scores[0].value == pytest.approx(truth)


def test_no_least_squares_are_fitted_to_the_numbers_of_classes():
    windows, _ = labelled()
    named = replace(windows, target="", classes=("no", "yes"))
    for graph, data in ((ONE, windows), (TWO, windows), (ONE, named)):
        with pytest.raises(InputError, match=r"is a classifier, or the windows. y are classes"):
            calibrate(graph, data, split="all")


def test_a_search_asks_what_to_average_where_the_windows_alone_say_class():
    windows, truth = labelled()
    unsaid = [linear_graph([[c], [-c], [0.0]]) for c in (1e5, 2e5)]
    with pytest.raises(InputError, match="can be of logits or of probabilities"):
        search(unsaid, windows, resamples=50)
    found = search(unsaid, windows, average="logits", resamples=50, hold_out=0)
    assert found.choice.value == pytest.approx(truth)


def test_one_probability_is_decided_at_a_half():
    windows, truth = labelled()
    half = linear_graph([[1e4], [-1e4], [0.0]], 0.5)
    half = replace(half, output_spec=replace(half.output_spec, target="class", form="probabilities"))
    found = evaluate(half, windows, resamples=50)
    assert found.scores[0].value == pytest.approx(truth)
    assert "from:probability > 0.5" in str(found.scores[0].signature)


def test_several_outputs_say_what_the_largest_is_of():
    windows, truth = labelled()
    found = evaluate(TWO, windows, resamples=50)
    assert found.scores[0].value == pytest.approx(truth)
    assert "from:argmax of logits" in str(found.scores[0].signature)
    pair = fuse([TWO, TWO], views="identity,scale:0.9", merge="mean-probabilities")
    told = evaluate(pair, windows, resamples=50).scores[0].signature
    assert "from:argmax of merged probabilities" in str(told)
    assert found.scores[0].signature.differences(told) == ()
    assert Signature.parse(str(told)) == told


def test_classes_are_known_by_their_names_too_and_scored_in_several_ways():
    windows, _ = labelled()
    sexes = replace(windows, target="sex", classes=("F", "M"))
    graph = replace(ONE, output_spec=replace(ONE.output_spec, target=""))
    names = ("balanced_accuracy", "accuracy", "kappa", "f1")
    found = evaluate(graph, sexes, metrics=names, resamples=50)
    assert [score.signature.metric for score in found.scores] == list(names)
    assert all("|from:logit > 0|" in str(score.signature) for score in found.scores)
    assert found["kappa"].value == pytest.approx(2 * found["accuracy"].value - 1, abs=0.02)
    assert next(c for c in found.baseline if c.signature.metric == "kappa").value == 0.0
    with pytest.raises(InputError, match="nrmse is a metric of numbers"):
        evaluate(graph, sexes, metrics=["nrmse"])


def test_what_is_no_class_is_not_scored_as_one():
    windows, _ = labelled()
    with pytest.raises(InputError, match="mse is a metric of numbers, and graph is scored on classes"):
        evaluate(ONE, windows, metrics=["mse"])
    with pytest.raises(InputError, match=r"so y must be classes 0\.\.1; window"):
        evaluate(ONE, replace(windows, y=windows.y + 1))
    timed = linear_graph([[1e5], [0.0], [0.0]], target="response_time")
    with pytest.raises(SpecMismatchError, match="graph predicts response_time, the y of the windows is class"):
        evaluate(timed, windows)
    with pytest.raises(InputError, match="graph predicts response_time, which is no class"):
        evaluate(timed, replace(windows, target=""), metrics=["balanced_accuracy"])


def test_a_response_time_graph_is_not_scored_on_ages():
    windows, _ = labelled(target="age")
    timed = linear_graph([[1e5], [0.0], [0.0]], target="response_time")
    with pytest.raises(SpecMismatchError, match="graph predicts response_time, the y of the windows is age"):
        evaluate(timed, windows)
    named = replace(TWO, output_spec=replace(TWO.output_spec, classes=("left", "right")))
    with pytest.raises(SpecMismatchError, match="knows the classes left, right, the windows right, left"):
        evaluate(named, replace(labelled()[0], classes=("right", "left")))


def test_a_graph_that_does_not_state_its_unit_says_what_it_was_given():
    windows, _ = labelled()
    silent = replace(ONE, input_spec=replace(ONE.input_spec, unit=None))
    note = next(note for note in evaluate(silent, windows, resamples=50).notes if "does not state its unit" in note)
    assert "in V" in note
    assert "rtserve annotate" in note
    assert not any("does not state" in note for note in evaluate(ONE, windows, resamples=50).notes)


@pytest.mark.parametrize("merge", ["mean-logits", "mean-probabilities"])
def test_branches_of_a_classifier_are_judged_as_it_merges(tmp_path, merge):
    windows, _ = labelled()
    other = linear_graph([[1e3, 0.0], [0.0, 0.0], [0.0, 1e4]], target="class")
    TWO.save(tmp_path / "good.onnx")
    other.save(tmp_path / "other.onnx")
    graph = fuse([tmp_path / "other.onnx", tmp_path / "good.onnx"], merge=merge)
    graph.save(tmp_path / "f.onnx")
    report = try_branches(tmp_path / "f.onnx", windows, by=["member"], cost=False, resamples=50)
    assert not any("differ from its branches" in note for note in report.notes)
    assert report.metric == "balanced_accuracy"
    alone = {trial.name: trial.alone for trial in report.trials}
    assert set(alone) == {"good.onnx", "other.onnx"}
    assert alone["good.onnx"] > 0.8 > alone["other.onnx"]


def test_a_search_among_classifiers_asks_what_to_average(tmp_path):
    windows, _ = labelled()
    with pytest.raises(InputError, match="is a classifier"):
        search([TWO, TWO], windows, resamples=50)
    path = save_windows(tmp_path / "w.npz", windows)
    report = search([TWO, TWO], path, average="probabilities", resamples=50)
    assert report.signature.metric == "balanced_accuracy"
    assert {option.average for option in report.options} == {"probabilities"}
    one = replace(ONE, output_spec=replace(ONE.output_spec, target="class"))
    assert search([one], path, average="logits", resamples=50).signature.metric == "balanced_accuracy"
