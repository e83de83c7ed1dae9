"""Metrics: against their definitions, against torchmetrics, and the laws they obey."""

from functools import partial

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torchmetrics.functional as tm
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.measure.metrics import METRICS, parse_metric
from rtserve.measure.overall import combined
from rtserve.measure.signature import Interval, Score, Signature
from rtserve.measure.statistics import Units, interval
from rtserve.submission.ranking import weights_of

SEEDS = st.integers(0, 2**32 - 1)


def pair(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = 1.6 + 0.4 * rng.standard_normal(n)
    return y, y + 2.0 * rng.standard_normal(n)


def smooth_l1(p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.smooth_l1_loss(p, y, beta=1.0)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("nrmse", lambda p, y: tm.normalized_root_mean_squared_error(p, y, normalization="std")),
        ("nrmse:range", lambda p, y: tm.normalized_root_mean_squared_error(p, y, normalization="range")),
        ("nrmse:mean", lambda p, y: tm.normalized_root_mean_squared_error(p, y, normalization="mean")),
        ("rmse", lambda p, y: tm.mean_squared_error(p, y, squared=False)),
        ("mse", tm.mean_squared_error),
        ("mae", tm.mean_absolute_error),
        ("pearson", tm.pearson_corrcoef),
        ("smooth_l1", smooth_l1),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_torchmetrics(name, theirs, seed):
    y, p = pair(seed)
    expected = float(theirs(torch.tensor(p), torch.tensor(y)))
    assert METRICS[name](y, p) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_accuracy_agrees_with_torchmetrics(seed):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 4, 90), rng.integers(0, 4, 90)
    y[:40] = 2
    expected = tm.classification.multiclass_accuracy(torch.tensor(p), torch.tensor(y), num_classes=4, average="macro")
    assert METRICS["balanced_accuracy"](y, p) == pytest.approx(float(expected), rel=1e-6)


CLASS_METRICS = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "kappa": sk.cohen_kappa_score,
    "f1": partial(sk.f1_score, average="macro", zero_division=0.0),
}


def test_every_metric_of_classes_has_a_second_opinion():
    assert set(CLASS_METRICS) == {name for name, metric in METRICS.items() if metric.reads == "class"}


@pytest.mark.parametrize("name", CLASS_METRICS)
@given(seed=SEEDS)
def test_metrics_of_classes_agree_with_scikit_learn(name, seed):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 3, 40), rng.integers(0, 4, 40)
    y[:20] = p[:20] = 2
    p[:5] = 0
    y[-4:] = range(4)  # scikit-learn warns of a class that is predicted and never there
    assert METRICS[name](y, p) == pytest.approx(CLASS_METRICS[name](y, p), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_the_sums_of_people_give_the_score_of_all_and_an_interval(name):
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 300)
    p = np.where(rng.random(300) < 0.6, y, rng.integers(0, 3, 300))
    metric, units = METRICS[name], Units.of(np.arange(300) % 15, 300)
    assert metric.of_sums(units.sums(metric.statistics(y, p)).sum(axis=0)) == pytest.approx(metric(y, p))
    found = interval(metric, y, p, units, resamples=300)
    assert found.over == "subjects"
    assert found.low < metric(y, p) < found.high


def test_kappa_of_one_class_alone_is_not_defined():
    with pytest.raises(InputError, match="kappa is not defined here"):
        METRICS["kappa"](np.ones(9), np.ones(9))


def test_iqr_norm_by_hand():
    y, p = pair(0)
    iqr = np.percentile(y, 75) - np.percentile(y, 25)
    assert METRICS["nrmse:iqr"](y, p) == pytest.approx(np.sqrt(np.mean((p - y) ** 2)) / iqr)


@given(seed=SEEDS, shift=st.floats(-100, 100), scale=st.floats(1e-3, 1e3))
def test_nrmse_does_not_see_shift_and_scale_of_both(seed, shift, scale):
    y, p = pair(seed)
    for name in ("nrmse", "nrmse:range", "nrmse:iqr"):
        metric = METRICS[name]
        assert metric(scale * y + shift, scale * p + shift) == pytest.approx(metric(y, p), rel=1e-6)


@given(seed=SEEDS)
def test_nrmse_of_the_mean_is_one_and_of_the_truth_is_zero(seed):
    y, _ = pair(seed)
    metric = METRICS["nrmse"]
    assert metric(y, metric.constant(y)) == pytest.approx(1.0, abs=1e-12)
    assert metric(y, y) == 0.0


@given(seed=SEEDS)
def test_smooth_l1_is_half_the_mse_for_errors_under_one(seed):
    y, _ = pair(seed)
    p = y + np.random.default_rng(seed).uniform(-0.99, 0.99, len(y))
    assert METRICS["smooth_l1"](y, p) == pytest.approx(METRICS["mse"](y, p) / 2)


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if n != "pearson" and m.reads != "probabilities"])
def test_the_constant_is_the_best_constant(name):
    y = np.round(pair(3)[0]) if METRICS[name].classes else pair(3)[0]
    metric = METRICS[name]
    sign = -1 if metric.higher_is_better else 1
    best = sign * metric(y, metric.constant(y))
    for other in np.linspace(y.min(), y.max(), 41):
        if name == "smooth_l1" and abs(other - y.mean()) > 1:
            continue
        assert best <= sign * metric(y, np.full(len(y), other)) + 1e-9


@pytest.mark.parametrize("value", [0.0, 1.598, -3e5])
@pytest.mark.parametrize("name", ["nrmse", "nrmse:range", "nrmse:iqr"])
def test_constant_targets_are_refused(name, value):
    y = np.full(50, value, dtype=np.float32)
    with pytest.raises(InputError, match="std of y is 0"):
        METRICS[name](y, y + 1)


def test_nan_is_refused():
    y, p = pair(0)
    p[3] = np.nan
    with pytest.raises(InputError, match="1 predictions are not finite"):
        METRICS["mse"](y, p)


def test_unknown_metric_names_the_known():
    with pytest.raises(InputError) as error:
        parse_metric("val_loss")
    assert "nrmse" in error.value.hint


def test_overall_is_the_contest_formula_rounded():
    weights = weights_of("eeg2025")
    assert weights == (0.3, 0.7)
    assert combined((0.887, 0.978), weights) == 0.9507
    assert combined((1.0, 1.0), weights) == 1.0
    assert combined((0.123456, 0.654321), weights) == round(0.3 * 0.123456 + 0.7 * 0.654321, 5)
    with pytest.raises(InputError, match="no overall score of two challenges"):
        weights_of("eeg2026")


def test_signature_reads_as_written():
    signature = METRICS["nrmse"].signature(n=452, data="abcdef0123456789", split="valid")
    assert str(signature) == "nrmse|norm:std|ddof:0|agg:windows|n:452|data:abcdef012345|split:valid|v:1"
    assert Signature.parse(str(signature)) == signature
    score = Score(value=0.912, signature=signature, interval=Interval(low=0.897, high=0.928))
    assert str(score).endswith("v:1 = 0.912 [0.897, 0.928]")
    assert Score.from_dict(score.to_dict()) == score


def test_differences_name_both_values():
    mine, theirs = (METRICS[m].signature(n=n, data="d") for m, n in (("smooth_l1", 5), ("mse", 6)))
    assert mine.differences(mine) == ()
    said = mine.differences(theirs)
    assert "metric: smooth_l1 against mse" in said
    assert "n: 5 against 6" in said


@pytest.mark.parametrize("text", ["", "nrmse|n", "nrmse|n:x", "|n:4"])
def test_no_signature(text):
    with pytest.raises(InputError):
        Signature.parse(text)
