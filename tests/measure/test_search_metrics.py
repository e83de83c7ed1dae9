"""`rtserve search` chooses by any metric, on the windows and columns of each part, and signs both parts."""

from dataclasses import replace

import numpy as np
import pytest

from rtserve.measure.decisions import decide, to_cases
from rtserve.measure.metrics import parse_metric
from rtserve.measure.outputs import branch_outputs
from rtserve.measure.search import search
from rtserve.measure.signature import Signature
from rtserve.signals.windows import WindowSet
from rtserve.spec import OutputSpec

from .conftest import linear_graph
from .test_branches import GOOD, NOISE, two_halves

PEOPLE, EACH = 16, 12
N = PEOPLE * EACH


def classifier(column, *, form="logits"):
    """Two logits from one channel: channels 0 and 1 hold half of what there is to know each, 2 nothing."""
    weights = np.zeros((3, 2))
    weights[column] = (-1e5, 1e5)
    graph = linear_graph(weights, 0.0, target="class")
    return replace(graph, output_spec=OutputSpec(n_outputs=2, target="class", classes=("a", "b"), form=form))


def class_windows(seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, N)
    side = (2 * y - 1)[:, None] + 1.5 * rng.standard_normal((N, 3))
    side[:, 2] = rng.standard_normal(N)
    X = 1e-5 * np.repeat(side[:, :, None], 20, axis=2)
    return WindowSet(
        X=X.astype("f4"),
        y=y.astype("f4"),
        subject=np.array([f"S{k // EACH:02}" for k in range(N)]),
        sfreq=100.0,
        target="class",
        classes=("a", "b"),
        extra={"session": (np.arange(N) % 2).astype("U")},
    )


@pytest.mark.parametrize(
    "metric", ["auc", "log_loss", "balanced_accuracy", "kappa", "cell_balanced_accuracy:by=subject,session"]
)
def test_classifiers_are_chosen_by_any_metric_of_classes(metric):
    windows, members = class_windows(), [classifier(k) for k in range(3)]
    report = search(members, windows, metric=metric, average="logits", resamples=200)
    assert report.choice.members == ("member 1", "member 2")
    assert report.signature.metric == metric.partition(":")[0]
    told = np.isin(windows.subject, _told_people(report, windows))
    part = windows.take(told)
    outputs = branch_outputs(members[:2], [_identity()], part).merged()
    decision = decide(members[0], part, [metric], name="it")
    cases = to_cases(outputs, part, name="it", decision=decision)
    bound = parse_metric(metric).on(cases.columns)
    assert report.nested == pytest.approx(bound(cases.y, cases.read(bound)), rel=1e-6)


def _identity():
    from rtserve.fusion.views import parse_view

    return parse_view("identity")


def _told_people(report, windows):
    """Return who was set aside: the only people whose windows have the digest that the told signature names."""
    from rtserve.measure.untouched import set_aside

    parts = set_aside(windows, seed=0)
    assert report.told.data == windows.take(parts.told_on).digest[:12]
    return np.unique(windows.subject[parts.told_on])


def test_numbers_are_chosen_by_the_bins_of_a_contest():
    windows = two_halves()
    windows = replace(windows, run_id=windows.subject)
    report = search(
        [*GOOD, NOISE], windows, metric="binned_mae:edges=-9,1.4,1.8,9:weights=3,2,1:by=recording", resamples=100
    )
    assert set(report.choice.members) >= {"member 1", "member 2"} - {"member 3"}
    assert report.gain.metric == "binned_mae"
    assert not report.signature.differences(report.signature)


def test_vectors_are_chosen_by_retrieval():
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((20, 3))
    image = np.arange(N) % 20
    signal = gallery[image] + 0.4 * rng.standard_normal((N, 3))
    windows = WindowSet(
        X=(1e-5 * np.repeat(signal[:, :, None], 20, axis=2)).astype("f4"),
        y=gallery[image].astype("f4"),
        subject=np.array([f"S{k // EACH:02}" for k in range(N)]),
        sfreq=100.0,
    )
    good, bad = linear_graph(1e5 * np.eye(3)), linear_graph(1e5 * np.eye(3)[::-1].copy())
    report = search([bad, good], windows, metric="retrieval:top=1", resamples=100)
    assert report.choice.members == ("member 2",)
    assert report.nested > 0.3


def test_both_parts_of_a_search_are_signed():
    windows = two_halves()
    drawn = search(GOOD, windows, resamples=50)
    assert (drawn.signature.split, drawn.told.split) == ("all (chosen on)", "all (set aside)")
    assert drawn.signature.n + drawn.told.n == len(windows)
    assert Signature.parse(str(drawn.told)) == drawn.told
    people = np.unique(windows.subject)
    marks = np.where(np.isin(windows.subject, people[: len(people) // 2]), "valid", "test")
    marked = replace(windows, extra={"split": marks})
    found = search(GOOD, marked, resamples=50)
    assert (found.signature.split, found.told.split) == ("valid", "test")
    assert found.told.data == marked.take(marks == "test").digest[:12]
    assert str(found.told) in "\n".join(found.lines())
    assert found.to_dict()["nested"]["signature"] == str(found.told)
