"""AUC and logarithmic loss: against scikit-learn, their intervals against simulation, and what they ask for."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.measure.metrics import METRICS
from rtserve.measure.probabilities import class_probabilities
from rtserve.measure.standing import standing
from rtserve.measure.statistics import Units, difference, interval

SEEDS = st.integers(0, 2**32 - 1)
AUC, LOG_LOSS = METRICS["auc"], METRICS["log_loss"]


def answers(seed, *, k=2, n=60, told=1.0):
    """Class numbers and the probabilities of a classifier that is right now and then, with ties."""
    rng = np.random.default_rng(seed)
    y = np.r_[np.arange(k), rng.integers(0, k, n - k)]
    p = np.round(class_probabilities(rng.standard_normal((n, k)) + told * np.eye(k)[y], "logits", name="it"), 2)
    p[:, -1] = np.round(1 - p[:, :-1].sum(axis=1), 2)
    return y, np.abs(p)


@given(seed=SEEDS, k=st.integers(2, 4))
def test_both_agree_with_scikit_learn(seed, k):
    y, p = answers(seed, k=k)
    theirs = sk.roc_auc_score(y, p[:, 1]) if k == 2 else sk.roc_auc_score(y, p, multi_class="ovr", average="macro")
    assert AUC(y, p) == pytest.approx(theirs, abs=1e-12)
    p = p.astype("f4")
    assert LOG_LOSS(y, p) == pytest.approx(sk.log_loss(y, p, labels=range(k)), rel=1e-6)


def test_a_probability_of_nothing_costs_what_scikit_learn_says():
    y, p = np.array([0, 1, 1]), np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert LOG_LOSS(y, p) == pytest.approx(sk.log_loss(y, p))


def test_probabilities_that_float_cannot_tell_from_one_keep_their_order():
    logits = np.array([[38.0], [40.0], [45.0], [50.0]])
    p = class_probabilities(logits, "logits", name="it")
    assert AUC([0, 0, 1, 1], p) == 1.0
    assert AUC([0, 1, 0, 1], p) == 0.75


def test_certain_answers_on_both_sides_are_ranked():
    p = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.4, 0.6]])
    assert AUC([0, 1, 1, 0], p) == sk.roc_auc_score([0, 1, 1, 0], p[:, 1])


@pytest.mark.parametrize("k", [2, 3])
def test_the_constant_gets_a_half_and_the_entropy_and_no_constant_gets_more(k):
    y, _ = answers(1, k=k)
    assert AUC(y, AUC.constant(y)) == 0.5
    shares = np.bincount(y) / len(y)
    best = LOG_LOSS(y, LOG_LOSS.constant(y))
    assert best == pytest.approx(-(shares * np.log(shares)).sum())
    for other in np.random.default_rng(0).dirichlet(np.ones(k), 50):
        assert best <= LOG_LOSS(y, np.tile(other, (len(y), 1)))


def test_every_form_of_one_and_several_outputs_is_the_same_probability():
    one = np.array([[-1.2], [0.3], [2.0]])
    chance = 1 / (1 + np.exp(-one))
    both = np.concatenate([1 - chance, chance], axis=1)
    known = {"logits": one, "probabilities": chance, "log-probabilities": np.log(both)}
    for form, outputs in [*known.items(), ("probabilities", both)]:
        np.testing.assert_allclose(class_probabilities(outputs, form, name="it"), both, rtol=1e-12)


@pytest.mark.parametrize(
    ("outputs", "form", "said"),
    [
        ([[0.2, 0.2]], "probabilities", "at window 0 they are"),
        ([[1.4]], "probabilities", "says that its outputs are probabilities"),
        ([[0.1, 0.9]], "", "does not say whether its 2 outputs are logits or probabilities"),
    ],
)
def test_what_are_no_probabilities_are_not_read_as_such(outputs, form, said):
    with pytest.raises(InputError, match=said):
        class_probabilities(np.array(outputs), form, name="it")


def test_a_class_that_is_not_there_has_no_auc():
    with pytest.raises(InputError, match=r"auc is not defined here: windows of the classes 0\.\.1: 5, 0"):
        AUC(np.zeros(5), np.full((5, 2), 0.5))


def test_standard_errors_are_those_of_delong_for_independent_windows():
    from scipy.stats import norm

    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], 150)
    score = rng.standard_normal(300) + y
    p = class_probabilities(score[:, None], "logits", name="it")
    found = interval(AUC, y, p, Units.of(np.empty(0), 300), resamples=400)
    above = score[y == 1][:, None] > score[y == 0][None]
    variance = above.mean(1).var(ddof=1) / 150 + above.mean(0).var(ddof=1) / 150
    half = norm.ppf(0.975) * np.sqrt(variance)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.12)


def test_intervals_over_people_hold_the_true_area_about_as_often_as_they_say():
    from scipy.stats import norm

    held, rng = 0, np.random.default_rng(5)
    truth = norm.cdf(1 / np.sqrt(2 * (1 + 0.5**2)))
    for _ in range(100):
        subject = np.repeat(np.arange(15), 16)
        y = rng.integers(0, 2, len(subject))
        score = y + rng.standard_normal(len(y)) + 0.5 * rng.standard_normal(15)[subject]
        p = class_probabilities(score[:, None], "logits", name="it")
        found = interval(AUC, y, p, Units.of(subject, len(y)), resamples=100)
        held += found.low <= truth <= found.high
    assert held >= 90


@pytest.mark.parametrize("name", ["auc", "log_loss", "accuracy", "kappa", "f1", "balanced_accuracy"])
def test_verdicts_tell_a_better_classifier_from_a_worse_one_and_not_from_its_like(name):
    rng, metric = np.random.default_rng(2), METRICS[name]
    subject = np.repeat(np.arange(20), 20)
    y = rng.integers(0, 3, len(subject))
    logits = [told * np.eye(3)[y] + rng.standard_normal((len(y), 3)) for told in (0.0, 0.0, 2.0)]
    p = [class_probabilities(x, "logits", name="it") for x in logits]
    p = p if metric.reads == "probabilities" else [x.argmax(axis=1) for x in p]
    units = Units.of(subject, len(y))
    assert difference(metric, y, p[0], p[2], units, resamples=300).verdict == "helps"
    assert difference(metric, y, p[2], p[0], units, resamples=300).verdict == "hurts"
    same = difference(metric, y, p[0], p[1], units, resamples=300)
    assert same.verdict == "no difference detectable"
    assert difference(metric, y, p[2], p[2], units, resamples=300).verdict == "identical"
    assert standing(metric, y, p[2], units, resamples=300).side == 1
    assert same.constant == pytest.approx(metric(y, metric.constant(y)))


def test_swapping_alike_models_calls_them_different_no_oftener_than_it_says():
    rng, called = np.random.default_rng(8), 0
    subject = np.repeat(np.arange(12), 12)
    units = Units.of(subject, len(subject))
    for _ in range(120):
        y = rng.integers(0, 2, len(subject))
        shared = y + 0.7 * rng.standard_normal(12)[subject]
        pair = [class_probabilities((shared + rng.standard_normal(len(y)))[:, None], "logits", name="it") for _ in "ab"]
        called += difference(AUC, y, *pair, units, resamples=150).different
    assert called <= 12
