"""The simulator: real targets, real electrodes, volts, and an oracle that scores what was planted."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from scipy.stats import skew

from rtserve.errors import InputError
from rtserve.measure.metrics import parse_metric
from rtserve.signals import hbn
from rtserve.signals.electrodes import CHANNELS, positions
from rtserve.signals.simulate import oracle_prediction, simulate
from rtserve.signals.targets import draw_trials
from rtserve.training.planted import planted_report

N = 1500


@pytest.fixture(scope="module")
def planted():
    return {r: simulate(N, r=r, seed=11, n_subjects=60) for r in (0.0, 0.21, 0.46)}


@pytest.mark.parametrize("r", [0.0, 0.21, 0.46])
def test_the_oracle_reaches_what_was_planted(planted, r):
    report = planted_report(planted[r])
    assert report.expected == pytest.approx(math.sqrt(1 - r * r))
    assert r in report.correlation.interval
    assert report.expected in report.oracle["nrmse"].interval
    assert ("1.00 is inside the interval" in "\n".join(report.lines())) == (r == 0)
    assert report.reached


def test_an_oracle_for_another_r_is_told_apart(planted):
    reports = {r: planted_report(windows) for r, windows in planted.items()}
    assert 0.21 not in reports[0.0].correlation.interval
    assert 0.46 not in reports[0.21].correlation.interval
    assert 0.21 not in reports[0.46].correlation.interval
    assert 1.0 not in reports[0.46].oracle["nrmse"].interval


def test_at_zero_the_windows_say_nothing_about_the_target(planted):
    from rtserve.signals.effects import oracle

    windows = planted[0.0]
    assert abs(np.corrcoef(oracle().marker(windows.X), windows.y)[0, 1]) < 4 / math.sqrt(N)
    # The marker itself is in the windows: it is the link to the target that is cut, not the signal.
    assert oracle().marker(windows.X).std() == pytest.approx(1.0, abs=0.15)


def test_windows_are_volts_at_real_electrodes(planted):
    windows = planted[0.46]
    assert windows.X.shape == (N, 129, 200)
    assert windows.X.dtype == np.float32
    assert np.isfinite(windows.X).all()
    assert 5e-6 < windows.X.std() < 2e-5
    assert (windows.sfreq, windows.t0, windows.ch_names) == (100.0, 0.5, CHANNELS)
    assert len(set(windows.subject)) == 60
    assert set(np.char.rpartition(windows.run_id, "-")[:, 2]) == {"1", "2", "3"}


def test_background_has_the_marks_of_eeg(planted):
    X = planted[0.0].X
    power = (np.abs(np.fft.rfft(X - X.mean(-1, keepdims=True), axis=-1)) ** 2).mean((0, 1))
    hz = np.fft.rfftfreq(200, 0.01)
    band = {(lo, hi): power[(hz >= lo) & (hz < hi)].mean() for lo, hi in ((1, 4), (12, 18), (24, 38))}
    assert band[1, 4] > 4 * band[12, 18] > 5 * band[24, 38]
    occipital, frontal = CHANNELS.index("E75"), CHANNELS.index("E15")  # E15: between the eyes, where blinks are
    share = {c: (np.abs(np.fft.rfft(X[:, c], axis=-1)) ** 2).mean(0) for c in (occipital, frontal)}
    alpha = (hz >= 8) & (hz <= 12)
    assert share[occipital][alpha].sum() > 3 * share[frontal][alpha].sum()
    assert skew(X[:, frontal].ravel()) > 0.3 > 5 * abs(skew(X[:, occipital].ravel()))  # blinks go one way
    # Neighbours are alike, electrodes on opposite sides of the head are not.
    near = np.corrcoef(X[:, CHANNELS.index("E36")].ravel(), X[:, CHANNELS.index("E42")].ravel())[0, 1]
    assert near > 0.5
    flat = (X.std(axis=-1) == 0).all(axis=0)
    assert not flat.any()
    assert (X.std(axis=-1) == 0).any()  # some subject's flat channel


def test_response_times_have_the_real_quantiles():
    trials = draw_trials(np.random.default_rng(0), 116_000, 1964, "response_time")
    for probability, wanted in hbn.QUANTILES["response_time"].items():
        # Few children have the slowest and the fastest answers: their quantiles are of few people.
        assert np.quantile(trials.y, probability) == pytest.approx(wanted, abs=0.06 if probability < 0.03 else 0.02)
    assert trials.y.min() >= 0.0
    assert trials.y.max() <= 2.4
    assert trials.y.mean() == pytest.approx(hbn.MEAN["response_time"], rel=0.01)
    assert trials.y.std() == pytest.approx(hbn.SD["response_time"], rel=0.02)


@pytest.mark.parametrize("target", ["response_time", "externalizing"])
def test_every_set_is_a_new_draw(target):
    """A study of 19 children has its own mean and spread, as far from the population's as such studies are."""
    sets = [draw_trials(np.random.default_rng(seed), 241, 19, target) for seed in range(150)]
    means, spreads = (np.array([of(t.y) for t in sets]) for of in (np.mean, np.std))
    between = hbn.BETWEEN_SUBJECT_SD_S if target == "response_time" else hbn.SD[target]
    assert 0.8 * between / math.sqrt(19) < means.std() < 2.0 * between / math.sqrt(19)
    assert spreads.std() > 0.02 * hbn.SD[target]
    assert means.mean() == pytest.approx(hbn.MEAN[target], abs=4 * means.std() / math.sqrt(150))


def test_subjects_runs_and_fore_periods_shift_response_times():
    trials = draw_trials(np.random.default_rng(1), 116_000, 1964, "response_time")
    n = np.bincount(trials.subject)
    mean = np.bincount(trials.subject, trials.y) / n
    within = np.sqrt(np.sum((trials.y - mean[trials.subject]) ** 2) / (len(trials.y) - len(n)))
    between = math.sqrt(mean.var() - np.mean(within**2 / n))
    assert between == pytest.approx(hbn.BETWEEN_SUBJECT_SD_S, rel=0.05)
    assert within == pytest.approx(0.3609, rel=0.03)
    by_run = [trials.y[trials.run == run].mean() for run in "123"]
    assert by_run == pytest.approx([1.618, 1.605, 1.568], abs=0.015)
    by_period = np.array([trials.y[trials.fore_period == period].mean() for period in (2.8, 4.4, 6.0)])
    assert by_period - by_period.mean() == pytest.approx(np.array([1.6708, 1.6046, 1.5747]) - 1.6167, abs=0.015)
    assert np.quantile(n, 0.5) == pytest.approx(64, abs=6)


def test_externalizing_is_one_score_per_subject():
    windows = simulate(90, r=0.21, seed=2, target="externalizing", n_subjects=30)
    for subject in set(windows.subject):
        assert len(set(windows.y[windows.subject == subject])) == 1
    trials = draw_trials(np.random.default_rng(0), 3000, 3000, "externalizing")
    for probability, wanted in hbn.QUANTILES["externalizing"].items():
        assert np.quantile(trials.y, probability) == pytest.approx(wanted, rel=0.1, abs=0.04)


def test_same_seed_same_windows_other_seed_others():
    first, again, other = (simulate(40, r=0.46, seed=seed) for seed in (3, 3, 4))
    assert first.digest == again.digest != other.digest


def test_the_background_of_a_seed_does_not_depend_on_r(planted):
    # So that a comparison of two planted r changes the answer and nothing else of the people.
    assert planted[0.0].subject.tolist() == planted[0.46].subject.tolist()
    assert np.array_equal(planted[0.0].y, planted[0.46].y)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"r": 0.99}, "0.99"),
        ({"r": -0.1}, "-0.1"),
        ({"r": float("nan")}, "nan"),
        ({"target": "age"}, "age"),
        ({"n_windows": 0}, "0 windows"),
        ({"n_subjects": 11}, "11 subjects for 10 windows"),
        ({"seed": -1}, "-1"),
    ],
)
def test_the_impossible_is_refused(change, says):
    arguments = {"n_windows": 10, "r": 0.46, "seed": 0} | change
    with pytest.raises(InputError, match=says) as caught:
        simulate(arguments.pop("n_windows"), **arguments)
    assert caught.value.hint


def test_only_simulated_windows_have_an_oracle(planted):
    from dataclasses import replace

    with pytest.raises(InputError, match="no simulator"):
        oracle_prediction(replace(planted[0.46].take(np.arange(3)), extra={}))


def test_the_oracle_is_calibrated(planted):
    windows = planted[0.46]
    prediction, _ = oracle_prediction(windows)
    slope = np.cov(prediction, windows.y)[0, 1] / prediction.var()
    assert slope == pytest.approx(1.0, abs=0.2)
    assert parse_metric("nrmse")(windows.y, prediction) < 0.95


@pytest.mark.shared
def test_electrodes_are_those_of_the_contest(shared_dir):
    with open(shared_dir / "data/hbn/electrodes_gsn_hydrocel_129.tsv") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert tuple(row["name"] for row in rows) == CHANNELS
    # The file's axes are nose, left ear, up.
    points = np.array([[-float(r["y"]), float(r["x"]), float(r["z"])] for r in rows])
    points -= [0.0, 0.0, points[:, 2].min() * 0.4]
    assert positions() == pytest.approx(points / np.linalg.norm(points, axis=1, keepdims=True), abs=1e-3)


@pytest.mark.shared
def test_embedded_figures_are_the_real_ones(shared_dir):
    import json

    real = json.loads((shared_dir / "data/hbn/hbn_params.json").read_text())
    assert pytest.approx(real["rt_mean_s"]) == hbn.MEAN["response_time"]
    assert pytest.approx(real["externalizing"]["sd"]) == hbn.SD["externalizing"]
    for target, quantiles in (
        ("response_time", real["rt_quantiles"]),
        ("externalizing", real["externalizing"]["quantiles"]),
    ):
        for probability, value in quantiles.items():
            assert hbn.QUANTILES[target][float(probability)] == pytest.approx(value)
    assert (
        pytest.approx((real["within_sd_lognormal"]["mu"], real["within_sd_lognormal"]["sigma"]))
        == hbn.WITHIN_SD_LOGNORMAL
    )
    assert {float(k): v for k, v in real["trials_per_subject_quantiles"].items()} == hbn.TRIALS_PER_SUBJECT
