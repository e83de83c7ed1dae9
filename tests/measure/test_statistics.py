"""Intervals cover what they say, and a null difference is not called one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.measure.metrics import METRICS
from rtserve.measure.statistics import Units, bootstrap_ends, difference, interval, resampled

METRIC = METRICS["nrmse"]


def population(rng: np.random.Generator, subjects: int = 20, each: int = 15) -> tuple[np.ndarray, ...]:
    """Targets, two equally bad predictions, subjects; the errors of one subject are alike."""
    subject = np.repeat(np.arange(subjects), each)
    n = len(subject)
    y = rng.standard_normal(n)
    shared = rng.standard_normal((2, subjects))[:, subject]
    own = rng.standard_normal((2, n))
    return y, 0.5 * shared[0] + own[0], 0.5 * shared[1] + own[1], subject


def test_interval_over_subjects_covers_the_truth():
    """Errors have variance 0.25 + 1 + var(y) and y variance 1: the truth is sqrt(2.25)."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(150):
        y, p, _, subject = population(rng)
        ends = interval(METRIC, y, p, Units.of(subject, len(y)), resamples=400)
        assert ends is not None
        assert ends.over == "subjects"
        hits += np.sqrt(2.25) in ends
    assert hits >= 150 * 0.90


def test_interval_over_windows_of_alike_subjects_is_too_narrow():
    """Why subjects are resampled: with what a subject shares large, windows as units cover far too rarely."""
    rng = np.random.default_rng(2)
    hits = {"subjects": 0, "windows": 0}
    for _ in range(60):
        subject = np.repeat(np.arange(20), 15)
        y = rng.standard_normal(20)[subject] + 0.3 * rng.standard_normal(300)
        p = np.zeros(300)
        for over, units in (("subjects", Units.of(subject, 300)), ("windows", Units.of(np.empty(0), 300))):
            ends = interval(METRICS["mse"], y, p, units, resamples=300)
            hits[over] += ends is not None and 1.09 in ends
    assert hits["subjects"] >= 48
    assert hits["windows"] < 0.75 * hits["subjects"]


def test_null_pairs_are_rarely_called_different():
    rng = np.random.default_rng(3)
    called = 0
    for _ in range(150):
        y, a, b, subject = population(rng)
        called += difference(METRIC, y, a, b, Units.of(subject, len(y)), resamples=400).different
    assert called <= 150 * 0.07


def test_a_real_difference_is_found_with_its_sign():
    rng = np.random.default_rng(4)
    y, a, _, subject = population(rng)
    better = 0.5 * (a + y)
    found = difference(METRIC, y, a, better, Units.of(subject, len(y)))
    assert found.verdict == "helps"
    assert found.value < 0
    assert found.p < 0.01
    assert found.corrected == 1.0
    assert difference(METRIC, y, better, a, Units.of(subject, len(y))).verdict == "hurts"


def test_higher_is_better_turns_the_verdict():
    rng = np.random.default_rng(5)
    y, a, _, subject = population(rng)
    found = difference(METRICS["pearson"], y, a, 0.5 * (a + y), Units.of(subject, len(y)))
    assert found.value > 0
    assert found.verdict == "helps"


def test_identical_predictions_are_called_identical_not_zero():
    y, a, _, subject = population(np.random.default_rng(6))
    same = difference(METRIC, y, a, a.copy(), Units.of(subject, len(y)))
    assert same.verdict == "identical"
    assert "identical predictions" in same.sentence()


def test_nothing_detectable_says_what_would_have_been():
    y, a, _, subject = population(np.random.default_rng(7))
    noise = 1e-4 * np.random.default_rng(8).standard_normal(len(y))
    said = difference(METRIC, y, a, a + noise, Units.of(subject, len(y)))
    assert said.verdict == "no difference detectable"
    assert f"at least {said.detectable:.2g} would have been" in said.sentence()
    assert 0 < said.detectable < 1e-3


def test_a_large_difference_of_few_subjects_is_not_called_too_small():
    """Five subjects, all better by much: p cannot be under 2 of 32, and the sentence must not contradict the number."""
    rng = np.random.default_rng(12)
    subject = np.repeat(np.arange(5), 8)
    y = rng.standard_normal(40)
    found = difference(METRIC, y, y + rng.standard_normal(40), y, Units.of(subject, 40))
    assert found.verdict == "no difference detectable"
    assert "5 subjects are too few to tell" in found.sentence()
    assert "would have been" not in found.sentence()


def test_detectable_difference_is_found_four_times_of_five():
    rng = np.random.default_rng(9)
    found = []
    for _ in range(80):
        y = rng.standard_normal(400)
        a = y + rng.standard_normal(400)
        b = y + rng.standard_normal(400)
        null = difference(METRICS["mse"], y, a, b, Units.of(np.empty(0), 400), resamples=200)
        b_worse = y + np.sign(b - y) * np.sqrt((b - y) ** 2 + null.detectable)
        found.append(difference(METRICS["mse"], y, a, b_worse, Units.of(np.empty(0), 400), resamples=200).different)
    assert 0.65 < np.mean(found) < 0.95


@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_the_difference_of_nrmse_does_not_see_shift_and_scale(seed, shift, scale):
    y, a, b, subject = population(np.random.default_rng(seed), subjects=6, each=5)
    units = Units.of(subject, len(y))
    one = difference(METRIC, y, a, b, units, resamples=50)
    two = difference(METRIC, scale * y + shift, scale * a + shift, scale * b + shift, units, resamples=50)
    assert two.value == pytest.approx(one.value, abs=1e-6)
    assert two.interval is not None
    assert one.interval is not None
    assert two.interval.low == pytest.approx(one.interval.low, abs=1e-5)


@given(seed=st.integers(0, 2**32 - 1))
def test_swapping_the_two_mirrors_the_difference(seed):
    y, a, b, subject = population(np.random.default_rng(seed), subjects=6, each=5)
    units = Units.of(subject, len(y))
    one, two = difference(METRIC, y, a, b, units, resamples=60), difference(METRIC, y, b, a, units, resamples=60)
    assert two.value == pytest.approx(-one.value)
    assert one.interval is not None
    assert two.interval is not None
    assert two.interval.low == pytest.approx(-one.interval.high)
    assert (one.corrected, one.corrupted) == (two.corrupted, two.corrected)


def test_sums_of_resamples_equal_the_metric_of_the_resampled_windows():
    rng = np.random.default_rng(10)
    y, p, _, subject = population(rng, subjects=7, each=4)
    units = Units.of(subject, len(y))
    values = resampled(units.sums(METRIC.statistics(y, p)), METRIC.of_sums, resamples=5, seed=3)
    draws = np.random.default_rng(3).integers(0, 7, size=(5, 7))
    for value, draw in zip(values, draws, strict=True):
        rows = np.concatenate([np.flatnonzero(subject == s) for s in draw])
        assert value == pytest.approx(METRIC(y[rows], p[rows]))


def test_windows_are_units_only_where_there_is_no_second_subject():
    assert Units.of(np.array(["a"] * 20), 20).over == "windows"
    assert Units.of(np.empty(0), 20).over == "windows"
    assert Units.of(np.array(["a", "b"] * 10), 20).over == "subjects"


def test_one_unit_has_no_interval():
    assert bootstrap_ends(np.ones(10), 1.0, 1) is None


def study(rng: np.random.Generator, subjects: int) -> tuple[np.ndarray, ...]:
    """Response times of children (means and spreads differ between them) and a calibrated predictor with r = 0.46."""
    subject = np.repeat(np.arange(subjects), 20)
    spread = np.exp(rng.normal(-1.075, 0.289, subjects))[subject]
    y = rng.normal(1.598, 0.194, subjects)[subject] + spread * rng.standard_normal(len(subject))
    noise = 0.46 * np.sqrt(1 - 0.46**2) * 0.408 * rng.standard_normal(len(subject))
    return y, 1.598 + 0.46**2 * (y - 1.598) + noise, subject


def test_interval_of_a_skewed_metric_over_ten_subjects_covers_the_truth():
    """A normalised error is biased up in every draw of few subjects, which the interval has to undo."""
    rng = np.random.default_rng(11)
    y, p, _ = study(rng, 20_000)
    truth, hits = METRIC(y, p), 0
    for seed in range(200):
        y, p, subject = study(rng, 10)
        ends = interval(METRIC, y, p, Units.of(subject, len(y)), resamples=400, seed=seed)
        assert ends is not None
        assert METRIC(y, p) in ends
        hits += truth in ends
    assert hits >= 0.90 * 200
