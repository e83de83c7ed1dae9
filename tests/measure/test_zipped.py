"""What a zip is worth: its entry point's answers scored as a graph's are, and what it cannot be asked."""

from dataclasses import replace
from zipfile import ZipFile  # noqa: TID251  (to make submissions that were not built here)

import numpy as np
import pytest

from rtserve.errors import InputError, SpecMismatchError
from rtserve.measure.evaluation import score_predictions
from rtserve.measure.zipped import ENGINE, evaluate_zip
from rtserve.signals.windows import WindowSet, save_windows
from rtserve.submission.scoring import predict_zip
from tests.measure.conftest import FOREIGN, make_windows


@pytest.fixture
def zipped(tmp_path):
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("submission.py", FOREIGN)
    return tmp_path / "a.zip"


def contest_windows(target="response_time"):
    rng = np.random.default_rng(0)
    X = (1e-5 * (rng.standard_normal((24, 129, 200)) + rng.standard_normal((24, 129, 1)))).astype("f4")
    y = (1.6 + 2e4 * X[:, 0].mean(axis=1) + 0.05 * rng.standard_normal(24)).astype("f4")
    return WindowSet(X=X, y=y, subject=np.array([f"S{k % 8}" for k in range(24)]), sfreq=100.0, target=target)


def test_evaluate_scores_any_zip_through_its_entry_point(zipped, tmp_path, run_cli):
    windows = contest_windows()
    w = save_windows(tmp_path / "w.npz", windows)
    code, text, _ = run_cli("evaluate", zipped, "--data", w, "-o", tmp_path / "e.json")
    assert code == 0
    answers = (1.6 + 2e4 * windows.X[:, 0].mean(axis=1)).astype("f4")
    theirs = score_predictions(answers, windows)
    assert f"= {theirs['nrmse'].value:.5g}" in text
    assert str(theirs["nrmse"].signature) in text
    assert run_cli("report", tmp_path / "e.json", "-o", tmp_path / "r.md")[0] == 0
    code, _, err = run_cli("evaluate", zipped, "--data", w, "--profile", "eeg2025/2")
    assert code == 2
    assert "challenge 2 of eeg2025/2 predicts externalizing" in err
    code, _, err = run_cli("evaluate", zipped, "--data", w, "--by", "view")
    assert code == 2
    assert "is a zip" in err


def test_which_challenge_answers_is_asked_where_nothing_says_it(zipped):
    with pytest.raises(InputError, match="do not say what y is"):
        predict_zip(zipped, contest_windows(target=""))
    with pytest.raises(SpecMismatchError, match="predicts externalizing"):
        predict_zip(zipped, contest_windows(), challenge="2")


def test_vectors_are_scored_by_metrics_of_vectors_alone(zipped):
    rng = np.random.default_rng(0)
    y = rng.standard_normal((24, 3)).astype("f4")
    windows = replace(contest_windows(target="embedding"), y=y)
    found = evaluate_zip(zipped, windows, lambda path, w: w.y, metrics=["retrieval:top=1"])
    assert found.scores[0].value == 1.0
    for metrics in (None, ["nrmse"]):
        with pytest.raises(InputError, match=r"y is \(24, 3\): several targets per window"):
            evaluate_zip(zipped, windows, lambda path, w: w.y, metrics=metrics)
    with pytest.raises(InputError, match="retrieval reads several numbers per window"):
        evaluate_zip(zipped, contest_windows(), lambda path, w: w.y, metrics=["retrieval"])


def test_classes_of_a_zip_are_scored_as_classes(zipped):
    windows = make_windows(24, subjects=8)
    y = np.arange(24) % 2
    classes = replace(windows, y=y.astype("f4"), target="class", classes=("a", "b"))
    found = evaluate_zip(zipped, classes, lambda path, w: w.y)
    (score,) = found.scores
    assert score.value == 1.0
    assert score.interval.low < 0.8
    assert found.engine == ENGINE
    for metric in ("nrmse", "auc"):
        with pytest.raises(InputError, match=metric):
            evaluate_zip(zipped, classes, lambda path, w: w.y, metrics=[metric])
    with pytest.raises(InputError, match="accuracy is a metric of classes"):
        evaluate_zip(zipped, contest_windows(), lambda path, w: w.y, metrics=["accuracy"])


def test_what_decides_for_one_class_alone_is_called_by_its_name(zipped):
    windows = replace(make_windows(200, subjects=8), y=(np.arange(200) % 2).astype("f4"), target="class")
    answered = evaluate_zip(zipped, windows, lambda path, part: np.r_[np.ones(199), 0].astype("f4"))
    text = "\n".join(answered.lines())
    assert "note: a.zip decides for 1 in 199 of 200" in text
    answered = evaluate_zip(zipped, windows, lambda path, part: np.ones(200, "f4"))
    assert "a.zip answers a constant (1)" in "\n".join(answered.lines())
    assert "the graph" not in text
