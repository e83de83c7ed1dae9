"""How close is equal, and what never is."""

import numpy as np
import pytest

from rtserve.errors import ParityError
from rtserve.graphs.parity import (
    BATCHES,
    FLOOR,
    SCALES,
    TOLERANCE,
    ParityReport,
    check_parity,
    compare_outputs,
    probe_inputs,
)
from rtserve.spec import InputSpec

SPEC = InputSpec(n_chans=4, n_times=30, sfreq=100.0)
PROBES = probe_inputs(SPEC)


def mean(x):
    return x.astype("f8").mean(axis=(1, 2), keepdims=True)[:, 0] + 1.0


def test_probes_cover_batches_scales_and_both_kinds_of_signal():
    assert {len(x) for _, x in PROBES} == set(BATCHES) == {1, 2, 5}
    kinds = {(name.split(" x ")[0], float(name.split(" x ")[1].split(",")[0])) for name, _ in PROBES}
    assert kinds == {(kind, scale) for kind in ("white noise", "window-shaped") for scale in SCALES}
    assert (min(SCALES), max(SCALES)) == (1e-6, 1e2)
    assert all(x.dtype == np.float32 and x.shape[1:] == (4, 30) for _, x in PROBES)


def test_window_shaped_probes_have_a_flat_and_a_large_channel():
    x = next(x for name, x in PROBES if name == "window-shaped x 1, batch 5")
    assert not x[0, 0].any()
    assert x[-1, -1].std() > 5 * x[-1, -2].std()


def test_probes_are_the_same_every_time():
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(PROBES, probe_inputs(SPEC), strict=True))


@pytest.mark.parametrize(("error", "passed"), [(0.0, True), (0.9, True), (1.1, False), (100.0, False)])
def test_the_tolerance_is_relative_to_the_largest_output(error, passed):
    wanted = np.array([[50.0], [1.0]])
    case = compare_outputs("case", wanted + error * TOLERANCE * 50.0, wanted)
    assert case.passed is passed
    assert case.error == pytest.approx(error * TOLERANCE, abs=1e-12)


def test_small_outputs_are_compared_absolutely():
    tiny = np.array([[1e-7]])
    assert compare_outputs("case", tiny + 0.9 * FLOOR * TOLERANCE, tiny).passed
    assert not compare_outputs("case", tiny + 1.1 * FLOOR * TOLERANCE, tiny).passed


@pytest.mark.parametrize(
    ("rounding", "error", "verdict"),
    [
        (0.0, 0.9e-5, "equal"),
        (2e-7, 1.52e-5, "NOT EQUAL"),  # 76 times what float32 costs here: no luck
        (5e-6, 1.52e-5, "equal"),  # a barely trained EEGNet: three of five seeds were refused at 1.0e-5
        (2.72e-6, 1.17e-5, "equal"),  # SPARCNet, 4.3 times the largest of four draws
        (5e-6, 3.9e-5, "equal"),
        (5e-6, 4.1e-5, "NOT EQUAL"),
        (1.3e-5, 9.9e-5, "equal"),
        (1.2e-5, 9.9e-5, "NOT EQUAL"),
        (9e-5, 1.1e-4, "ill-conditioned"),
        (2e-4, 1e-6, "ill-conditioned"),  # right by luck, and float32 is still off
        (1e-2, 7.9e-2, "ill-conditioned"),
        (1e-2, 8.1e-2, "NOT EQUAL"),
        (np.inf, 4e-2, "NOT EQUAL"),
    ],
)
def test_what_rounding_explains_is_allowed_and_never_called_equal_above_the_ceiling(rounding, error, verdict):
    one = np.ones((1, 1))
    case = compare_outputs("case", one + error, one, rounding=rounding)
    assert case.verdict == verdict
    assert case.passed is (verdict != "NOT EQUAL")


def test_a_report_is_equal_only_where_every_input_is():
    one = np.ones((1, 1))
    equal = compare_outputs("easy", one, one)
    ill = compare_outputs("white noise x 100", one + 3e-4, one, rounding=2e-4)
    unequal = compare_outputs("wrong", one + 3e-4, one)
    assert ParityReport(cases=(equal,)).verdict == "equal"
    mixed = ParityReport(cases=(equal, ill))
    assert (mixed.verdict, mixed.passed) == ("ill-conditioned", True)
    assert "ill-conditioned: float32 itself is off by 3.0e-04 (more than 1e-04) on white noise x 100" in mixed.summary()
    assert mixed.to_dict()["ill_conditioned"] == ["white noise x 100"]
    assert not ParityReport(cases=(ill, ill)).passed  # nothing was shown to be equal
    assert not ParityReport(cases=(equal, ill, unequal)).passed


def test_what_has_no_number_but_for_a_rounding_is_called_so():
    none, one = np.full((1, 1), np.nan), np.ones((1, 1))
    equal = compare_outputs("easy", one, one)
    silent = compare_outputs("constant windows", none, none, rounding=np.inf)
    assert silent.verdict == "ill-conditioned"
    said = ParityReport(cases=(equal, silent)).summary()
    assert "there is no number, and a rounding would give one, on constant windows; equal on the other 1 of 2" in said
    assert "inf" not in said
    lost = compare_outputs("noise", one, one, rounding=np.inf)
    assert "ill-conditioned: a rounding leaves no number on noise" in ParityReport(cases=(equal, lost)).summary()
    assert not compare_outputs("constant windows", one, none, rounding=np.inf).passed


def test_a_network_that_overflows_by_itself_is_not_blamed_on_the_graph():
    truth = np.array([[1e40], [1.0]])
    single = np.array([[np.inf], [1.0]])
    case = compare_outputs("case", single, truth, single=single)
    assert (case.verdict, case.overflows) == ("ill-conditioned", True)
    assert not compare_outputs("case", np.array([[np.inf], [2.0]]), truth, single=single).passed
    assert not compare_outputs("case", np.array([[np.inf], [np.nan]]), truth, single=single).passed
    assert not compare_outputs("case", single, truth).passed
    easy = compare_outputs("easy", np.ones((1, 1)), np.ones((1, 1)))
    assert "float32 itself overflows on case" in ParityReport(cases=(case, easy)).summary()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_number_and_no_number_are_never_equal(odd):
    a, b = np.array([[odd], [1.0]]), np.array([[1.0], [1.0]])
    assert not compare_outputs("case", a, b).passed
    assert not compare_outputs("case", b, a).passed
    assert compare_outputs("case", a, np.array([[np.nan], [1.0]])).passed


def test_another_shape_is_never_equal():
    assert not compare_outputs("case", np.zeros((2, 1)), np.zeros(2)).passed


def test_a_report_names_the_worst_case_and_the_tolerance_that_would_pass():
    report = check_parity(lambda x: mean(x) * (1 + 3e-5), mean, PROBES, subject="this", reference_name="that")
    assert not report.passed
    assert report.tolerance_needed == pytest.approx(3e-5, rel=1e-3)
    assert "this against that: NOT EQUAL, worst 3.00e-05 (allowed 1.0e-05) on" in report.summary()
    assert "smallest tolerance that passes 3.00e-05" in report.summary()
    with pytest.raises(ParityError, match="NOT EQUAL") as caught:
        report.require(hint="do this")
    assert caught.value.report is report
    assert check_parity(mean, mean, PROBES).passed


def test_comparing_nothing_is_no_pass():
    assert not check_parity(mean, mean, []).passed
    assert "nothing compared" in check_parity(mean, mean, []).summary()
