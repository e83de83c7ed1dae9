"""Verdicts of one report together, few people, bounds and heavy tails: small versions of `benchmarks/coverage.py`."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.measure.intervals import exact_ends
from rtserve.measure.metrics import METRICS
from rtserve.measure.power import detectable, smallest_p
from rtserve.measure.signature import Interval
from rtserve.measure.standing import Standing, standing, together
from rtserve.measure.statistics import Units, corrected, difference, holm, interval
from rtserve.measure.tails import HEAVY, tail_index
from rtserve.signals.targets import draw_trials

NRMSE = METRICS["nrmse"]


def branches(rng: np.random.Generator, count: int, subjects: int = 12, each: int = 8) -> tuple[np.ndarray, ...]:
    """Targets, equally good predictions (count + 1, n) that share most of their error, subjects."""
    subject = np.repeat(np.arange(subjects), each)
    y = rng.standard_normal(len(subject))
    shared = rng.standard_normal(subjects)[subject] + rng.standard_normal(len(subject))
    own = rng.standard_normal((count + 1, subjects))[:, subject] + rng.standard_normal((count + 1, len(subject)))
    return y, 0.3 * y + 0.4 * shared + 0.2 * own, subject


def report(rng: np.random.Generator, count: int = 6, resamples: int = 250) -> tuple:
    y, p, subject = branches(rng, count)
    units = Units.of(subject, len(y))
    return corrected([difference(NRMSE, y, p[0], other, units, resamples=resamples) for other in p[1:]], "branches")


def test_a_report_of_null_branches_seldom_holds_a_verdict():
    rng = np.random.default_rng(0)
    alone = together_ = 0
    for _ in range(80):
        found = report(rng)
        together_ += any(d.different for d in found)
        alone += any(d.p <= 0.05 and 0 not in d.interval for d in found)
    assert together_ <= 80 * 0.08
    assert alone > together_


def test_raw_and_corrected_p_stand_in_the_sentence_with_the_family():
    found = report(np.random.default_rng(1))
    assert all(d.p <= d.p_corrected <= 1 for d in found)
    assert all(f"p {d.p:.3g}, corrected {d.p_corrected:.3g} (6 verdicts on branches)" in d.sentence() for d in found)
    assert all(d.to_dict()["p_corrected"] == d.p_corrected for d in found)
    assert min(d.detectable for d in found) > 0


def test_a_real_branch_is_found_among_null_ones():
    rng = np.random.default_rng(2)
    y, p, subject = branches(rng, 5, subjects=20)
    p[1] = 0.5 * p[1] + 0.5 * y
    units = Units.of(subject, len(y))
    found = corrected([difference(NRMSE, y, p[0], other, units, resamples=500) for other in p[1:]], "branches")
    assert [d.verdict for d in found] == ["helps"] + ["no difference detectable"] * 4


def test_one_verdict_and_identical_predictions_are_no_family():
    y, p, subject = branches(np.random.default_rng(3), 1)
    units = Units.of(subject, len(y))
    one, same = (difference(NRMSE, y, p[0], other, units, resamples=100) for other in (p[1], p[0]))
    assert corrected([one, same], "branches") == (one, same)
    assert one.p_corrected is None


def test_other_units_are_corrected_by_holm():
    y, p, subject = branches(np.random.default_rng(4), 1)
    first = difference(NRMSE, y, p[0], p[1], Units.of(subject, len(y)), resamples=100)
    second = difference(NRMSE, y, p[0], p[1], Units.of(np.empty(0), len(y)), resamples=100)
    found = corrected([first, second], "reports")
    assert [d.p_corrected for d in found] == pytest.approx(holm(np.array([first.p, second.p])))


@given(p=st.lists(st.floats(1e-4, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_never_sinks(p):
    raw = np.array(p)
    found = holm(raw)
    assert (found >= raw).all()
    assert (found <= np.minimum(1, raw * len(raw)) + 1e-12).all()
    assert (np.diff(found[np.argsort(raw, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("people", [2, 3, 4, 5])
def test_under_six_people_nothing_is_shown_and_nothing_is_called_detectable(people):
    rng = np.random.default_rng(people)
    subject = np.repeat(np.arange(people), 40)
    y = rng.standard_normal(len(subject))
    units = Units.of(subject, len(y))
    found = difference(NRMSE, y, rng.standard_normal(len(y)), y + 0.01 * rng.standard_normal(len(y)), units)
    assert units.over == "subjects"
    assert found.detectable == float("inf")
    assert found.verdict == "no difference detectable"
    assert "would have been" not in found.sentence()
    assert f"{people} subjects are too few to tell" in found.sentence()
    assert found.to_dict()["detectable"] is None
    assert f"only {people} subjects" in units.caveats()[0]
    assert standing(NRMSE, y, y + 0.01 * rng.standard_normal(len(y)), units, resamples=50).side == 0
    assert smallest_p(people) > 0.05 >= smallest_p(6)


def test_three_people_have_an_interval_over_people_that_holds_the_truth():
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(150):
        y, p, subject = branches(rng, 0, subjects=3, each=30)
        hits += METRICS["mse"].name == "mse" and 0.49 + 2 * 0.16 + 2 * 0.04 in interval(
            METRICS["mse"], y, p[0], Units.of(subject, len(y)), resamples=10
        )
    assert hits >= 150 * 0.85


def test_what_is_detectable_is_found_at_least_four_times_of_five():
    """At the stated size, by the rule of the verdict, on new studies of the same kind; half of it is not."""
    rng = np.random.default_rng(6)
    stated, found, missed = [], [], []
    for _ in range(25):
        y, p, subject = branches(rng, 1, subjects=19)
        stated.append(difference(METRICS["mse"], y, p[0], p[1], Units.of(subject, len(y)), resamples=200).detectable)
    size = float(np.median(stated))
    for _ in range(100):
        y, p, subject = branches(rng, 1, subjects=19)
        for share, seen in ((1.0, found), (0.5, missed)):
            worse = y + np.sign(p[1] - y) * np.sqrt((p[1] - y) ** 2 + share * size)
            seen.append(difference(METRICS["mse"], y, p[0], worse, Units.of(subject, len(y)), resamples=200).different)
    assert np.mean(found) >= 0.8
    assert np.mean(missed) < 0.6


def test_a_stricter_family_needs_more():
    influence = np.random.default_rng(7).standard_normal(15) / 15
    influence -= influence.mean()
    assert detectable(influence, level=0.95, stricter=1.4) > 1.2 * detectable(influence, level=0.95)
    assert detectable(np.zeros(10), level=0.95) == 0.0


def test_all_right_is_not_certain():
    y = np.repeat([0.0, 1.0], 32)
    found = interval(METRICS["balanced_accuracy"], y, y, Units.of(np.empty(0), 64))
    assert (found.low, found.high) == (pytest.approx(0.025 ** (1 / 64)), 1.0)
    people = interval(METRICS["balanced_accuracy"], y, y, Units.of(np.arange(64) % 8, 64))
    assert people.low == pytest.approx(0.025 ** (1 / 8))
    wrong = interval(METRICS["balanced_accuracy"], y, 1 - y, Units.of(np.empty(0), 64))
    assert (wrong.low, wrong.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 64)))


def test_the_exact_end_puts_the_errors_where_they_show_least():
    """Two classes of 2 and 100: the small one can hide all of them."""
    low, high = exact_ends(1.0, np.array([2, 100]), (0.0, 1.0))
    assert high == 1.0
    assert low == pytest.approx((1 + np.sqrt(0.025)) / 2, abs=1e-3)


def test_heavy_tails_are_marked_and_light_ones_are_not():
    rng = np.random.default_rng(8)
    subject = np.repeat(np.arange(20), 60)
    units = Units.of(subject, 1200)
    y, size = rng.standard_normal(1200), np.exp(rng.standard_normal(20))[subject]
    assert not interval(METRICS["mse"], y, y + size * rng.standard_normal(1200), units, resamples=50).mark
    wild = interval(METRICS["mse"], y, y + rng.standard_t(2.5, 1200), units, resamples=50)
    assert wild.mark == HEAVY
    assert HEAVY in wild.text()
    times = draw_trials(rng, 2000, 60, "response_time")
    people = Units.of(times.subject, 2000)
    assert not interval(NRMSE, times.y, np.full(2000, times.y.mean()), people, resamples=50).mark
    assert tail_index(rng.standard_normal(100), Units.of(np.empty(0), 100)) is None
    assert HEAVY in standing(NRMSE, y, y + rng.standard_t(2.5, 1200), units, resamples=50).verdict


def test_noisy_people_with_more_trials_are_covered_better_than_by_percentiles():
    from rtserve.measure.statistics import bootstrap_ends, resampled

    rng, metric = np.random.default_rng(9), METRICS["mse"]

    def study(people: int) -> tuple[np.ndarray, ...]:
        size = np.exp(0.5 * rng.standard_normal(people))
        subject = np.repeat(np.arange(people), np.clip((20 * size**2).astype(int), 1, 100))
        return np.zeros(len(subject)), size[subject] * rng.standard_normal(len(subject)), subject

    y, p, _ = study(20_000)
    truth, hits, before = metric(y, p), 0, 0
    for _ in range(120):
        y, p, subject = study(20)
        units = Units.of(subject, len(y))
        hits += truth in interval(metric, y, p, units, resamples=300)
        low, high = bootstrap_ends(
            resampled(units.sums(metric.statistics(y, p)), metric.of_sums, resamples=300), metric(y, p), 20
        )
        before += low <= truth <= high
    assert hits >= 120 * 0.88
    assert before < hits - 10


def test_standings_of_one_table_are_corrected():
    rng = np.random.default_rng(10)
    y, p, subject = branches(rng, 5, subjects=15)
    units = Units.of(subject, len(y))
    alone = [standing(NRMSE, y, row, units, resamples=300) for row in p]
    found = together(alone, "attempts")
    assert all(a.p <= f.p_corrected for a, f in zip(alone, found, strict=True))
    assert found[0].p_text().endswith("(6 attempts)")
    assert together(alone[:1], "attempts") == alone[:1]


def test_a_standing_agrees_with_its_interval():
    rng = np.random.default_rng(11)
    for gain in (0.0, 0.3, 0.8):
        y, p, subject = branches(rng, 0, subjects=15)
        found = standing(NRMSE, y, p[0] * (1 - gain) + gain * y, Units.of(subject, len(y)), resamples=300)
        assert (found.side != 0) == (1.0 not in found.interval)
        assert (found.p <= 0.05) == (found.side != 0)
        word = "outside" if found.side else "inside"
        assert f"1.00 is {word} the interval" in found.sentence()


def test_a_verdict_that_its_family_takes_back_says_so():
    alone = Standing(metric="NRMSE", value=0.9, constant=1.0, interval=Interval(low=0.8, high=0.99, units=20), p=0.03)
    assert alone.side == 1
    found = together([alone, replace(alone, p=0.5)], "attempts")[0]
    assert found.side == 0
    assert "1.00 is outside the interval; p 0.03, corrected 0.06 (2 attempts)" in found.sentence()
