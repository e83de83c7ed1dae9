"""What is called detectable follows from the people at hand, and never says that a plain difference could not be found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.measure import power
from rtserve.measure.metrics import METRICS
from rtserve.measure.power import detectable
from rtserve.measure.statistics import Units, difference


def people(count, seed=0):
    influence = np.random.default_rng(seed).standard_normal(count) / count
    return influence - influence.mean()


def study(seed, *, people=10, trials=60, better=0.0):
    """Targets, two predictions of which the second errs less, and whose they are."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(people), trials)
    y = rng.standard_normal(len(subject))
    shared, own, other = (rng.standard_normal(len(y)) + 0.4 * rng.standard_normal(people)[subject] for _ in range(3))
    first, second = y + 0.8 * shared + 0.6 * own, y + (1 - better) * (0.8 * shared + 0.6 * other)
    return difference(METRICS["nrmse"], y, first, second, Units.of(subject.astype(str), len(y)))


@pytest.mark.parametrize("count", [8, 10, 12])
def test_few_people_can_show_a_large_difference_and_are_told_so(count):
    """Gains that vary with the square of a difference let no size be found in ten people, while they found a fifth."""
    sizes = [study(seed, people=count).detectable for seed in range(12)]
    assert np.isfinite(sizes).all()
    assert np.mean([study(100 + seed, people=count, better=0.5).verdict == "helps" for seed in range(12)]) > 0.9


@given(factor=st.sampled_from([1e-6, 0.1, 3.0, 1e4]), count=st.sampled_from([7, 20, 300]), seed=st.integers(0, 3))
def test_it_scales_with_the_metric(factor, count, seed):
    found = detectable(people(count, seed), level=0.95)
    assert detectable(factor * people(count, seed), level=0.95) == pytest.approx(factor * found, rel=1e-6)


@pytest.mark.parametrize("count", [20, 300])
@pytest.mark.parametrize("harder", [{"wider": 1.5}, {"between": 1.5}, {"stricter": 1.5}])
def test_what_makes_a_difference_harder_to_find_makes_it_larger(count, harder):
    assert detectable(people(count), level=0.95, **harder) > 1.05 * detectable(people(count), level=0.95)


def test_a_narrow_interval_or_a_small_error_never_makes_it_easier():
    plain = detectable(people(20), level=0.95)
    assert detectable(people(20), level=0.95, wider=0.5, between=0.5) == plain


def test_the_formula_for_many_units_agrees_with_the_simulation(monkeypatch):
    influence = people(power._EXACT_UNITS + 1)
    formula = detectable(influence, level=0.95)
    monkeypatch.setattr(power, "_EXACT_UNITS", 10**6)
    assert detectable(influence, level=0.95) == pytest.approx(formula, rel=0.12)


def test_people_who_gain_unequally_need_a_larger_difference(monkeypatch):
    unequal = detectable(people(20), level=0.95)
    monkeypatch.setattr(power, "UNEQUAL", 0.0)
    assert detectable(people(20), level=0.95) < 0.95 * unequal


def test_the_error_by_leaving_people_out_travels_to_it():
    found = study(3)
    assert found.swaps.error > 0
    shown = np.sqrt(np.square(found.swaps.influence).sum() * 10 / 9)
    assert found.swaps.error == pytest.approx(shown, rel=0.5)
