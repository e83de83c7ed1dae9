"""Where nothing varies: all right, all wrong, answers that differ by rounding, windows of nobody."""

import numpy as np
import pytest

from rtserve.measure.metrics import parse_metric
from rtserve.measure.statistics import Units, corrected, difference, interval

EIGHT = Units.of(np.repeat(list("abcdefgh"), 8), 64)
Y = np.tile([0.0, 0, 0, 1], 16)


def sure_of(y):
    p = np.full((len(y), 2), 1e-9)
    p[np.arange(len(y)), y.astype(int)] = 1 - 1e-9
    return p


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "kappa", "f1"])
def test_all_right_is_not_certain(name):
    metric = parse_metric(name)
    found = interval(metric, Y, Y, EIGHT)
    assert found.high == 1.0
    assert found.low < 1 - 0.3
    more = interval(metric, np.tile(Y, 10), np.tile(Y, 10), Units.of(np.repeat(np.arange(80).astype("U"), 8), 640))
    assert found.low < more.low < 1.0


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "f1"])
def test_all_wrong_is_not_certain(name):
    found = interval(parse_metric(name), Y, 1 - Y, EIGHT)
    assert found.low == 0.0
    assert 0.3 < found.high < 1.0


def test_a_kappa_of_minus_one_is_not_certain():
    y = np.tile([0.0, 1], 32)
    found = interval(parse_metric("kappa"), y, 1 - y, EIGHT)
    assert found.low == -1.0
    assert found.high > -0.5


@pytest.mark.parametrize("name", ["kappa", "f1"])
def test_nearly_always_right_is_held(name):
    """20 people, some of them now and then wrong; a rare class: the interval holds the truth, at the edge and off it."""
    metric, shares = parse_metric(name), (0.6, 0.3, 0.1)

    def draw(seed, people):
        rng = np.random.default_rng(seed)
        y = rng.choice(3, size=5 * people, p=shares).astype(float)
        wrong = rng.random(len(y)) > np.repeat(rng.beta(19.7, 0.3, people), 5)
        return y, np.where(wrong, (y + 1) % 3, y), np.repeat(np.arange(people), 5).astype("U")

    truth = metric(*draw(0, 100_000)[:2])
    held, edge = [], []
    for seed in range(1, 81):
        y, p, subject = draw(seed, 20)
        found = interval(metric, y, p, Units.of(subject, len(y)), resamples=200)
        held.append(found is not None and truth in found)
        edge.append(bool((y == p).all()))
    assert any(edge)
    assert not all(edge)
    assert np.mean(held) >= 0.92


def test_a_loss_without_a_wrong_window_holds_what_one_would_cost():
    found = interval(parse_metric("log_loss"), Y, sure_of(Y), EIGHT)
    assert found.low < 1e-8
    assert found.high > 0.2


def test_units_that_are_alike_give_no_interval():
    assert interval(parse_metric("balanced_accuracy"), Y, np.zeros(64), EIGHT) is None
    assert interval(parse_metric("rmse"), Y, Y, EIGHT) is None


def test_rounding_is_no_difference_and_costs_a_family_nothing():
    rng = np.random.default_rng(0)
    y = rng.normal(1.6, 0.4, 64)
    worse, better = y + rng.normal(0, 0.5, 64), y + rng.normal(0, 0.3, 64)
    nrmse = parse_metric("nrmse")
    real = difference(nrmse, y, worse, better, EIGHT)
    rounded = difference(nrmse, y, better, np.nextafter(better.astype("f4"), 9).astype(float), EIGHT)
    assert rounded.verdict == "identical"
    assert "by rounding alone" in rounded.sentence()
    assert corrected([real, rounded], "branches")[0].decides == real.p


def test_a_change_above_rounding_is_one():
    y = np.random.default_rng(0).normal(1.6, 0.4, 64)
    assert not difference(parse_metric("nrmse"), y, y, y * (1 + 1e-5), EIGHT).identical


def test_windows_of_nobody_are_said_to_count_as_one_person():
    subject = np.repeat(["", *(f"S{k:02}" for k in range(12))], 5)
    units = Units.of(subject, 65)
    assert units.count == 13
    assert any("5 of 65 windows name no subject" in note for note in units.caveats())
    assert not Units.of(subject[5:], 60).caveats()
