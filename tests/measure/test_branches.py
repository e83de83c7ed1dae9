"""Views and members on trial: each verdict has a case that must get it and one that must not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.fusion.fuse import fuse
from rtserve.fusion.plan import Calibration, Merge
from rtserve.measure.branches import try_branches
from rtserve.measure.evaluate import evaluate
from rtserve.measure.folds import fold_of, held_out_choice
from rtserve.measure.metrics import METRICS
from rtserve.measure.outputs import BranchOutputs, branch_outputs, merge_outputs
from rtserve.measure.predict import predict
from rtserve.measure.statistics import Units
from rtserve.signals.windows import WindowSet, save_windows

from .conftest import N_TIMES, linear_graph, make_windows


def two_halves(seed: int = 0) -> WindowSet:
    """Windows in which channels 0 and 1 each carry half of the target; channel 2 is noise."""
    rng = np.random.default_rng(seed)
    n = 240
    signal = rng.standard_normal((n, 3))
    X = 1e-5 * signal[:, :, None] + 1e-7 * rng.standard_normal((n, 3, N_TIMES))
    y = 1.6 + 0.2 * (signal[:, 0] + signal[:, 1]) + 0.1 * rng.standard_normal(n)
    subject = np.array([f"S{i % 20:02}" for i in range(n)])
    return WindowSet(X=X.astype("f4"), y=y.astype("f4"), subject=subject, sfreq=100.0)


GOOD = [linear_graph(w, 1.6, target="response_time") for w in ([[4e4], [0], [0]], [[0], [4e4], [0.0]])]
NOISE = linear_graph([[0.0], [0], [9e4]], 1.6, target="response_time")


def trials(graph, windows, **more):
    report = try_branches(graph, windows, cost=False, resamples=400, **more)
    return {t.name: t for t in report.trials}, dict(report.whole), report


def test_members_that_help_and_one_that_hurts():
    members = [*GOOD, NOISE]
    found, whole, _ = trials(fuse(members), two_halves(), by=["member"], members=members)
    verdicts = [t.change.verdict for t in found.values()]
    assert verdicts == ["helps", "helps", "hurts"]
    assert all(t.status == "active" for t in found.values())
    assert found[list(found)[2]].alone > 1.0
    assert "without views -> with views" not in whole


def test_the_ensemble_is_judged_against_the_best_single_member():
    _, whole, _ = trials(fuse(GOOD), two_halves(), members=GOOD)
    assert whole["best single member, chosen on other subjects -> whole"].verdict == "helps"
    uneven = [linear_graph([[2e4], [2e4], [0]], 1.6, target="response_time"), NOISE]
    _, whole, _ = trials(fuse(uneven), two_halves(), members=uneven)
    assert whole["best single member, chosen on other subjects -> whole"].verdict == "hurts"


def test_a_roll_of_a_mean_over_time_is_inert_and_a_flip_is_not():
    windows, member = two_halves(), linear_graph([[2e4], [2e4], [0]], 1.6, target="response_time")
    found, whole, report = trials(fuse([member], views="identity,roll:+3,sign-flip"), windows, members=[member])
    assert found["roll:+3"].status == "inert on this data"
    assert found["sign-flip"].status == "active"
    assert found["sign-flip"].change.verdict == "hurts"
    assert found["sign-flip"].correlation < -0.99
    assert whole["without views -> with views"].verdict == "hurts"
    assert any("inert on this data" in line for line in report.lines())


def test_a_duplicate_and_a_weight_of_zero_are_structurally_inert():
    windows, member = two_halves(), GOOD[0]
    found, _, _ = trials(fuse([member], views="identity,scale:0.5,identity"), windows, members=[member], by=["view"])
    assert found["identity"].status.startswith("structurally inert (duplicate")
    assert found["scale:0.5"].status == "active"
    merge = Merge(kind="weighted", weights=(1.0, 0.0))
    found, _, _ = trials(
        fuse([member], views="identity,scale:0.5", merge=merge), windows, members=[member], by=["view"]
    )
    assert found["scale:0.5"].status == "structurally inert (weight zero)"
    assert found["identity"].change is None


def test_nothing_is_ever_a_bare_zero():
    windows, member = two_halves(), GOOD[0]
    _, _, report = trials(fuse([member], views="identity,scale:1.0001"), windows, members=[member])
    text = "\n".join(report.lines())
    assert "would have been" in text or "inert" in text or "helps" in text or "hurts" in text
    assert "0.00 %" not in text


def test_cost_is_timed_where_asked():
    report = try_branches(fuse(GOOD, views="identity,scale:0.5"), two_halves(), members=GOOD, resamples=50)
    assert len(report.trials) == 4
    assert all(t.cost is not None and t.cost[1] <= t.cost[0] <= t.cost[2] for t in report.trials)


def test_an_exported_graph_has_no_branches(windows):
    with pytest.raises(InputError, match="no views and members"):
        try_branches(linear_graph([[1.0], [0], [0]]), windows)


def test_missing_members_are_named_by_digest(tmp_path, run_cli):
    windows = save_windows(tmp_path / "w.npz", two_halves())
    (tmp_path / "f").mkdir()
    f = fuse(GOOD).save(tmp_path / "f" / "f.onnx")
    code, _, err = run_cli("evaluate", f, "--data", windows, "--by", "member")
    assert code == 2
    assert GOOD[0].digest[:12] in err
    paths = [g.save(tmp_path / f"m{k}.onnx") for k, g in enumerate(GOOD)]
    argv = ["evaluate", f, "--data", windows, "--by", "member", "--no-cost", "--json"]
    code, text, _ = run_cli(*argv, "--members", paths[0], "--members", paths[1], "-o", tmp_path / "r.json")
    assert code == 0
    assert [t["kind"] for t in json.loads(text)["branches"]["trials"]] == ["member", "member"]
    assert "branches" in json.loads((tmp_path / "r.json").read_text())
    beside = fuse(GOOD).save(tmp_path / "g.onnx")
    assert run_cli("evaluate", beside, "--data", windows, "--by", "view,member", "--no-cost")[0] == 0
    assert run_cli("evaluate", beside, "--data", windows, "--by", "colour")[0] == 2


def test_members_alike_in_name_are_told_apart_whatever_order_they_are_named_in(tmp_path):
    windows = save_windows(tmp_path / "w.npz", two_halves())
    f = fuse(GOOD).save(tmp_path / "f.onnx")
    for folder in "ab":
        (tmp_path / folder).mkdir()
    paths = [g.save(tmp_path / folder / "m.onnx") for folder, g in zip("ab", GOOD, strict=True)]
    for order in (paths, paths[::-1]):
        report = try_branches(f, windows, by=("member",), members=order, resamples=50, cost=False)
        alone = {trial.name: trial.alone for trial in report.trials}
        for path in paths:
            assert alone[f"{path.parent.name}/m.onnx"] == pytest.approx(evaluate(path, windows).scores[0].value)


@pytest.mark.parametrize(
    ("merge", "calibration"),
    [
        (Merge(), None),
        (Merge(kind="median"), None),
        (Merge(kind="trimmed", proportion=0.2), Calibration(scale=1.1, offset=-0.2)),
        (Merge(kind="weighted", weights=(0.1, 0.2, 0.3, 0.1, 0.2, 0.1)), Calibration(low=1.4, high=1.8)),
    ],
)
def test_branches_merged_here_are_the_fused_graph(merge, calibration):
    windows = two_halves()
    graph = fuse(GOOD, views="identity,scale:0.5,sign-flip", merge=merge, calibration=calibration)
    from rtserve.fusion.plan import FusionPlan

    plan = FusionPlan.from_dict(graph.provenance.details["plan"])
    outputs = branch_outputs(GOOD, plan.views, windows)
    merged = outputs.merged(merge=plan.merge, calibration=plan.calibration)
    assert np.allclose(merged, predict(graph, windows), atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 7))
def test_merges_do_not_see_the_order_of_branches(seed, count):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, 5, 1)).astype("f4")
    order = rng.permutation(count)
    for merge in (Merge(), Merge(kind="median"), Merge(kind="trimmed", proportion=0.3)):
        assert np.allclose(merge_outputs(values, merge), merge_outputs(values[order], merge))
    assert np.allclose(merge_outputs(values, Merge(kind="median"))[:, 0], np.median(values[..., 0], axis=0))


def test_weights_of_the_chosen_branches_are_renormalised():
    values = np.arange(4.0, dtype="f4").reshape(2, 2, 1, 1)
    outputs = BranchOutputs(values=values, members=("a", "b"), views=("u", "v"))
    merge = Merge(kind="weighted", weights=(0.1, 0.2, 0.3, 0.4))
    assert outputs.merged([0], merge=merge)[0, 0] == pytest.approx((0.1 * 0 + 0.2 * 1) / 0.3)


@given(seed=st.integers(0, 2**32 - 1), subjects=st.integers(5, 30))
def test_folds_never_split_a_subject_and_are_of_one_size(seed, subjects):
    windows = make_windows(n=subjects * 4, subjects=subjects)
    fold = fold_of(Units.of(windows.subject, len(windows)), seed=seed)
    assert all(len(np.unique(fold[windows.subject == s])) == 1 for s in np.unique(windows.subject))
    sizes = np.bincount(fold) // 4
    assert sizes.max() - sizes.min() <= 1


def test_a_choice_among_noise_gains_nothing_on_other_subjects():
    """Best of 200 useless candidates: far better than most where it was chosen, like most where it was not."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal(200)
    candidates = 0.5 * rng.standard_normal((200, 200))
    metric, units = METRICS["nrmse"], Units.of(np.empty(0), 200)
    scores = [metric(y, c) for c in candidates]
    held_out = metric(y, held_out_choice(metric, y, candidates, units))
    assert min(scores) < np.median(scores) - 0.05
    assert held_out > np.median(scores) - 0.03
