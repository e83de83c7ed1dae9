"""One rule for better than the constant, whatever the metric."""

from dataclasses import replace

import numpy as np
import pytest

from rtserve.measure.cases import Cases
from rtserve.measure.evaluation import score_cases, score_predictions
from rtserve.measure.metrics import parse_metric
from rtserve.measure.side_standing import stored_standing
from rtserve.measure.signature import Score
from rtserve.measure.standing import standing, standing_of
from rtserve.measure.statistics import Units
from tests.measure.conftest import make_windows

ERRORS = ("nrmse", "rmse", "mse", "mae", "smooth_l1", "nrmse:range", "nrmse:iqr", "nrmse:mean")
BINNED = "binned_mae:edges=0,1.4,1.8,4:weights=3,2,1"


def predictors(noise, seed=0, n=240, people=12):
    rng = np.random.default_rng(seed)
    y = rng.normal(1.6, 0.4, n)
    return y, 1.6 + 0.5 * (y - 1.6) + noise * rng.standard_normal(n), Units.of((np.arange(n) % people).astype("U"), n)


@pytest.mark.parametrize("name", [*ERRORS, BINNED])
def test_every_error_has_a_verdict_and_the_scale_does_not_change_it(name):
    for noise, side in ((0.1, 1), (2.0, -1)):
        y, p, units = predictors(noise)
        found = standing(parse_metric(name).on({}), y, p, units, resamples=400)
        assert found.side == side, found.sentence()
        assert found.p < 0.01
    if name not in (BINNED, "nrmse:mean", "smooth_l1"):
        y, p, units = predictors(0.35)
        small = standing(parse_metric(name), 1e-6 * y, 1e-6 * p, units, resamples=400)
        assert small.side == standing(parse_metric(name), y, p, units, resamples=400).side


def test_rmse_and_mse_say_what_nrmse_says():
    for noise in (0.1, 0.3, 0.34, 0.4, 1.0):
        y, p, units = predictors(noise, seed=3)
        found = [standing(parse_metric(name), y, p, units, resamples=400) for name in ERRORS if name[:1] in "nr"]
        assert len({one.side for one in found}) == 1
        assert len({one.p for one in found}) == 1


def test_a_useless_predictor_is_called_better_in_few_studies():
    """Predictions that know nothing of y are hardly ever better than the constant by MAE and binned MAE."""
    wrong = {"mae": 0, BINNED: 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = rng.normal(1.6, 0.3, 120) + 0.2 * rng.standard_normal(12)[np.arange(120) % 12]
        p = 1.6 + 0.02 * rng.standard_normal(120)
        units = Units.of((np.arange(120) % 12).astype("U"), 120)
        for name in wrong:
            wrong[name] += standing(parse_metric(name).on({}), y, p, units, resamples=200).side > 0
    assert max(wrong.values()) <= 4


def test_pearson_stands_against_what_unrelated_answers_score():
    y, p, units = predictors(0.3)
    found = standing(parse_metric("pearson"), y, p, units)
    assert found.side == 1
    assert found.verdict == "better than 0.00, what unrelated answers score"
    assert standing(parse_metric("pearson"), y, -p, units).side == -1
    stored = Score(value=0.01, signature=parse_metric("pearson").signature(n=9, data=""), interval=found.interval)
    assert standing_of(stored).verdict == found.verdict
    assert standing_of(replace(stored, interval=None)).side == 1
    assert "0.00 is inside the interval" in standing(parse_metric("pearson"), y, units.index**2.0, units).sentence()


def test_unrelated_answers_have_a_pearson_of_0_by_the_rule():
    told = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        person = np.arange(120) % 12
        y, p = (rng.normal(1.6, 0.3, 120) + 0.2 * rng.standard_normal(12)[person] for _ in range(2))
        told += standing(parse_metric("pearson"), y, p, Units.of(person.astype("U"), 120), resamples=200).side != 0
    assert told <= 7


def test_under_six_people_no_error_is_better():
    y, p, units = predictors(0.05, people=5)
    for name in ("mae", "rmse", BINNED):
        found = standing(parse_metric(name).on({}), y, p, units, resamples=200)
        assert found.side == 0
        assert "5 people are too few" in found.verdict


def test_each_metric_that_is_asked_for_has_its_verdict():
    windows = make_windows(120)
    p = windows.y + 2.0 * np.random.default_rng(0).standard_normal(120)
    found = score_predictions(p, windows, metrics=["mae", "pearson", "rmse", "mse"], resamples=200)
    text = "\n".join(found.lines())
    assert (
        "the constant, each by itself (pearson: 0.00, what unrelated answers score): better: pearson; worse: mae, r"
        in text
    )
    assert text.count("is worse than") == 2
    stored = found.to_dict()["against_constant"]
    assert [one and one["verdict"] for one in stored] == [
        "worse than the constant",
        "better than 0.00, what unrelated answers score",
        *["worse than the constant"] * 2,
    ]


def test_the_default_metrics_print_as_before_where_they_are_better():
    windows = make_windows(120)
    found = score_predictions(windows.y + 0.01 * np.arange(120) % 0.1, windows, resamples=200)
    assert not any("constant" in note for note in found.notes)
    assert not any("against the constant" in line for line in found.lines())


def test_a_classifier_whose_probabilities_vary_answers_no_constant():
    windows = replace(make_windows(60), y=(np.arange(60) % 2).astype("f4"), target="class")
    sure = 0.6 + 0.2 * windows.y + 0.05 * np.random.default_rng(0).random(60)
    cases = Cases.of(windows, np.ones(60, "f4"), np.stack([1 - sure, sure], axis=1))
    notes = score_cases(cases, windows, metrics=["auc", "accuracy"], resamples=200).notes
    assert not any("answers a constant" in note for note in notes)
    assert any(note.startswith("accuracy 0.5000") for note in notes)
    same = Cases.of(windows, np.ones(60, "f4"), np.tile([0.4, 0.6], (60, 1)))
    assert any("answers a constant" in note for note in score_cases(same, windows, metrics=["accuracy"]).notes)


def test_guesses_are_not_better_by_f1_than_guesses():
    """Guesses at the classes' shares have a macro F1 of 1/k, above any constant's: against that each would be better."""
    better, metric = {"guesses": 0, "answers": 0}, parse_metric("f1")
    for seed in range(40):
        rng = np.random.default_rng(seed)
        person = np.repeat(np.arange(12), 20)
        y = rng.choice(3, len(person), p=[0.5, 0.3, 0.2]).astype(float)
        guesses = rng.choice(3, len(person), p=[0.5, 0.3, 0.2]).astype(float)
        answers = np.where(rng.random(len(person)) < 0.4, y, guesses)
        for name, p in (("guesses", guesses), ("answers", answers)):
            found = standing(metric, y, p, Units.of(person.astype("U"), len(y)), resamples=200)
            better[name] += found.side > 0
        assert found.constant == pytest.approx(1 / 3)
        assert metric(y, metric.constant(y)) < 0.25
    assert better["guesses"] <= 4
    assert better["answers"] >= 36
    assert found.verdict.endswith("0.33, what unrelated answers score")


def test_what_f1_stood_against_is_stored_and_read_again():
    windows = replace(make_windows(120), y=(np.arange(120) % 2).astype("f4"), target="class")
    p = np.where(np.random.default_rng(0).random(120) < 0.5, windows.y, 1 - windows.y)
    document = score_cases(Cases.of(windows, p), windows, metrics=["f1"], resamples=200).to_dict(raw=False)
    stored = stored_standing(document)
    assert (stored.constant, stored.unrelated) == (0.5, True)
    assert stored.verdict == document["against_constant"][0]["verdict"]
    old = {key: document["against_constant"][0][key] for key in ("metric", "verdict", "p", "ratio")}
    assert stored_standing(document | {"against_constant": [old]}) is None


def test_the_frequent_target_is_no_finding_of_retrieval():
    """Four of five queries are of one target: to answer always with it is not better than what needs no EEG."""
    rng = np.random.default_rng(0)
    gallery, person = rng.standard_normal((6, 4)), np.repeat(np.arange(40), 5)
    image = np.where(rng.random(200) < 0.8, 0, rng.integers(1, 6, 200))
    y, units = gallery[image], Units.of(person.astype("U"), 200)
    metric = parse_metric("retrieval:top=1").on({})
    always = gallery[[0]] + 0.01 * rng.standard_normal((200, 4))
    found = standing(metric, y, always, units, resamples=200)
    assert metric(y, metric.constant(y)) < 0.5 < found.value
    assert (found.side, found.constant) == (0, pytest.approx(np.mean(image == 0)))
    assert standing(metric, y, y + 0.01 * rng.standard_normal(y.shape), units, resamples=200).side == 1
    assert standing(parse_metric("retrieval:top=6").on({}), y, always, units, resamples=200).side == 0
