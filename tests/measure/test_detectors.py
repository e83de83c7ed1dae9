"""Every detector has a planted case it must catch and a clean one it must not."""

import numpy as np
import pytest

from rtserve.measure import detectors
from rtserve.measure.metrics import METRICS
from rtserve.measure.sides import Claim, Cost
from rtserve.signals.windows import WindowSet

from .conftest import make_windows


def claim(name: str, value: float, metric: str | None = None) -> Claim:
    return Claim(name=name, value=value, signature=METRICS[metric].signature(n=9, data="d") if metric else None)


def test_identical_predictions():
    p = np.arange(5.0)
    assert "bit for bit" in detectors.identical_predictions(p, p.copy(), names=("A", "B"))
    assert detectors.identical_predictions(p, p + 1e-9, names=("A", "B")) is None
    assert detectors.identical_predictions(p, p[:4], names=("A", "B")) is None


@pytest.mark.parametrize(
    ("first", "second", "caught"),
    [
        (claim("val_loss", 0.079314), claim("val_loss", 0.1608), True),
        (claim("mse", 0.1608, "mse"), claim("smooth_l1", 0.0793, "smooth_l1"), True),
        (claim("val_loss", 0.0793), claim("mse", 0.1608, "mse"), True),
        (claim("val_loss", 0.1608), claim("val_loss", 0.1601), False),
        (claim("val_loss", 0.1), claim("val_loss", 0.3), False),
        (claim("mse", 0.1, "mse"), claim("mse", 0.2, "mse"), False),
        (claim("rmse", 0.4), claim("mse", 0.2), False),
        (claim("val_nrmse", 0.5), claim("val_nrmse", 1.0), False),
        (claim("val_loss", 0.0), claim("val_loss", 0.0), False),
    ],
)
def test_half_or_double(first, second, caught):
    said = detectors.half_or_double(first, second)
    assert (said is not None) == caught
    assert (detectors.half_or_double(second, first) is not None) == caught
    if said:
        assert "half the squared error" in said


def test_equal_to_six_digits():
    assert detectors.equal_to_six_digits(claim("a", 0.1607641), claim("b", 0.1607642)) is not None
    assert detectors.equal_to_six_digits(claim("a", 0.160764), claim("b", 0.160766)) is None
    assert detectors.equal_to_six_digits(claim("a", 0.0), claim("b", 0.0)) is None
    for name, said in (("balanced_accuracy", False), ("kappa", False), ("nrmse", True), ("log_loss", True)):
        signature = METRICS[name].signature(n=60, data="d")
        pair = [Claim(name=name, value=0.75, signature=signature) for _ in range(2)]
        assert (detectors.equal_to_six_digits(*pair) is not None) is said


@pytest.mark.parametrize(
    ("value", "word"), [(1.0002, "not told apart"), (0.97, None), (1.05, "worse than"), (0.998, "nothing was learned")]
)
def test_predicts_the_mean(value, word):
    said = detectors.predicts_the_mean(claim("val_nrmse", value))
    assert (word in said and "no interval" in said) if word else said is None


def test_one_is_nothing_special_for_another_metric():
    assert detectors.predicts_the_mean(claim("mse", 1.0)) is None
    assert detectors.predicts_the_mean(claim("nrmse", 1.0, "nrmse:range")) is None


def cost(us: float, branches: int, **more: int) -> Cost:
    return Cost(**({"latency_us": us, "batch": 1, "threads": 1, "branches": branches} | more))


def test_faster_with_more_work():
    assert "were all branches run" in detectors.faster_with_more_work(cost(92, 5), cost(100, 1))
    assert detectors.faster_with_more_work(cost(100, 1), cost(92, 5)) is not None
    assert detectors.faster_with_more_work(cost(480, 5), cost(100, 1)) is None
    assert detectors.faster_with_more_work(cost(92, 5, passes=3), cost(100, 1)) is None
    assert detectors.faster_with_more_work(cost(92, 5, batch=64), cost(100, 1)) is None
    assert detectors.faster_with_more_work(cost(92, 1), cost(100, 1)) is None


def test_shared_windows():
    train, test = make_windows(seed=0), make_windows(seed=1)
    assert detectors.shared_windows(train, test) is None
    leak = WindowSet(X=np.concatenate([test.X, train.X[:3]]), y=np.concatenate([test.y, train.y[:3]]))
    assert detectors.shared_windows(train, leak).startswith("3 of 123 test windows")


def test_shared_subjects():
    windows = make_windows()
    first, second = windows.take(windows.subject < "S06"), windows.take(windows.subject >= "S06")
    assert detectors.shared_subjects(first, second) is None
    assert "12 subjects are in training and test" in detectors.shared_subjects(windows, windows)


def test_subjects_across_splits():
    windows = make_windows()

    def marked(marks: np.ndarray) -> WindowSet:
        return WindowSet(X=windows.X, y=windows.y, subject=windows.subject, extra={"split": marks})

    by_trial = marked(np.where(np.arange(120) < 60, "train", "test"))
    by_subject = marked(np.where(windows.subject < "S06", "train", "test"))
    assert "12 subjects are in more than one split" in detectors.subjects_across_splits(by_trial)
    assert detectors.subjects_across_splits(by_subject) is None
    assert detectors.subjects_across_splits(windows) is None
