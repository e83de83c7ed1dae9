"""`rtserve search`: it finds what was planted, keeps to the budget, and does not report the gain it selected."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.fusion.fuse import fuse
from rtserve.measure.candidates import Candidate, Pool, badness, explore, fitted
from rtserve.measure.evaluate import evaluate
from rtserve.measure.metrics import METRICS
from rtserve.measure.outputs import BranchOutputs
from rtserve.measure.search import search
from rtserve.measure.untouched import set_aside
from rtserve.signals.windows import WindowSet, save_windows
from rtserve.submission.recipe import load_recipe

from .conftest import linear_graph
from .test_branches import GOOD, NOISE, two_halves

NRMSE = METRICS["nrmse"]


def pool(values: np.ndarray, y: np.ndarray, *, cost=lambda c: len(c.members) * len(c.views)) -> Pool:
    """A pool of given predictions (members, views, windows)."""
    m, v, n = values.shape
    outputs = BranchOutputs(
        values=values[..., None].astype("f4"),
        members=tuple(f"m{k}" for k in range(m)),
        views=tuple(f"v{k}" for k in range(v)),
    )
    windows = WindowSet(X=np.zeros((n, 1, 1), "f4"), y=y.astype("f4"))
    return Pool(outputs=outputs, wholes={}, windows=windows, cost=cost)


def test_finds_the_two_members_that_belong_together():
    report = search([*GOOD, NOISE], two_halves(), views="identity,sign-flip", resamples=300)
    assert report.choice.members == ("member 1", "member 2")
    assert report.choice.views == ("identity",)
    assert report.gain.verdict == "helps"
    assert report.exact
    assert report.candidates == 21
    assert report.nested == pytest.approx(report.choice.value, abs=0.05)
    single = next(o for o in report.options if o.single)
    assert len(single.members) == 1
    assert any(o.cost_us[0] < report.choice.cost_us[0] for o in report.options)


def test_graphs_alike_in_name_all_compete(tmp_path, run_cli):
    files = {}
    for folder, graph in zip(("1/best", "2/best", "soup", "noise"), (*GOOD, GOOD[0], NOISE), strict=True):
        (tmp_path / folder).mkdir(parents=True)
        files[folder] = graph.save(tmp_path / folder / "m.onnx")
    windows = save_windows(tmp_path / "w.npz", two_halves())
    members = [files["1/best"], files["2/best"]]
    code, text, _ = run_cli("search", *members, "--also", files["soup"], "--also", files["noise"], "--data", windows,
                            "-o", tmp_path / "r.toml", "--json")  # fmt: skip
    assert code == 0
    told = json.loads(text)
    chosen = next(option for option in told["options"] if option["chosen"])
    assert set(chosen["members"]) == {"1/best/m.onnx", "2/best/m.onnx"}
    assert {o["whole"] for o in told["options"]} >= {"soup/m.onnx", "noise/m.onnx"}
    recipe = tomllib.loads((tmp_path / "r.toml").read_text())
    assert {m["graph"] for m in recipe["challenges"]["1"]["members"]} == {"1/best/m.onnx", "2/best/m.onnx"}
    code, _, err = run_cli("search", members[0], members[0], "--data", windows)
    assert code == 2
    assert "m.onnx is given twice" in err


def test_a_budget_for_one_member_gives_one():
    y = np.random.default_rng(0).standard_normal(60)
    noise = np.random.default_rng(1).standard_normal((3, 2, 60))
    p = pool(y + noise, y)
    every = np.arange(60)
    assert all(len(c.members) * len(c.views) <= 2 for c in explore(p, NRMSE, every, 2))
    best = explore(p, NRMSE, every, 100)[0]
    assert (best.members, best.views) == ((0, 1, 2), (0, 1))
    assert explore(p, NRMSE, every, 0.5) == []


def test_nothing_within_the_budget_is_said_with_the_cheapest():
    with pytest.raises(InputError, match=r"nothing fits 0\.001 us: the cheapest takes about"):
        search(GOOD, two_halves(), budget_us=0.001)


def test_choosing_among_noise_is_not_reported_as_a_gain():
    rng = np.random.default_rng(3)
    windows = two_halves()
    shuffled = replace(windows, y=rng.permutation(windows.y))
    members = [linear_graph(1e4 * rng.standard_normal((3, 1)), 1.6, target="response_time") for _ in range(3)]
    report = search(members, shuffled, views="identity,scale:0.9", resamples=300)
    assert report.gain.constant == pytest.approx(1.0)
    assert report.nested > 0.99


def test_the_gain_is_told_on_people_who_had_no_say():
    windows = two_halves()
    report = search([*GOOD, NOISE], windows, resamples=100)
    assert (report.folds, report.over) == (0, "8 subjects set aside")
    assert report.gain.interval.units == 8
    parts = set_aside(windows)
    assert not set(windows.subject[parts.told_on]) & set(windows.subject[parts.chosen_on])
    fused = fuse([GOOD[0], GOOD[1]])
    told = evaluate(fused, windows.take(parts.told_on))["nrmse"]
    assert report.choice.members == ("member 1", "member 2")
    if not report.choice.weights and report.choice.scale == 1.0:
        assert report.nested == pytest.approx(told.value, abs=1e-5)


def test_test_windows_of_the_file_are_told_on():
    windows = two_halves()
    marks = np.where(np.isin([s[-1] for s in windows.subject], ["1", "2", "3"]), "test", "valid")
    marked = WindowSet(X=windows.X, y=windows.y, subject=windows.subject, extra={"split": marks})
    parts = set_aside(marked)
    assert (marks[parts.told_on] == "test").all()
    assert (marks[parts.chosen_on] == "valid").all()
    assert parts.where == "6 subjects of the file's test windows"
    halves = np.where(np.arange(len(windows)) < 120, "test", "valid")
    by_window = WindowSet(X=windows.X, y=windows.y, subject=windows.subject, extra={"split": halves})
    assert "set aside" in set_aside(by_window).where
    assert not len(set_aside(marked.take(marks == "valid").take(np.arange(40)), share=0.0).told_on)


def test_too_few_people_to_set_aside_give_no_interval():
    windows = two_halves()
    few = WindowSet(X=windows.X, y=windows.y, subject=np.array([f"S{i % 11}" for i in range(len(windows))]))
    report = search(GOOD, few, resamples=50)
    assert report.gain.interval is None
    assert report.gain.verdict == "no difference detectable"
    assert "no verdict" in report.gain.sentence()
    assert any("no one was set aside" in note for note in report.notes)
    assert report.to_dict()["nested"]["gain"]["p"] is None


def test_greedy_finds_what_the_exact_search_finds_here(monkeypatch):
    y = np.random.default_rng(0).standard_normal(80)
    p = pool(y + np.random.default_rng(1).standard_normal((4, 1, 80)), y)
    every = np.arange(80)
    exact = explore(p, NRMSE, every, 100)[0]
    monkeypatch.setattr("rtserve.measure.candidates.EXACT_LIMIT", 3)
    visited = explore(p, NRMSE, every, 100)
    assert len(visited) < 15
    assert visited[0] == exact
    assert all(len(c.members) <= 2 for c in explore(p, NRMSE, every, 2))


def test_weights_go_to_the_better_branch_and_add_up():
    rng = np.random.default_rng(4)
    y = rng.standard_normal(500)
    p = pool(np.stack([y + 0.3 * rng.standard_normal(500), y + 2 * rng.standard_normal(500)])[:, None], y)
    fit = fitted(p, Candidate(members=(0, 1), views=(0,)), np.arange(500), weights=True, calibrate=False)
    assert sum(fit.weights) == pytest.approx(1.0)
    assert fit.weights[0] > 0.9
    assert min(fit.weights) >= 0
    both = Candidate(members=(0, 1), views=(0,))
    assert badness(p, NRMSE, fit, np.arange(500)) < badness(p, NRMSE, both, np.arange(500))


def test_calibration_is_least_squares_and_never_turns_the_sign():
    rng = np.random.default_rng(5)
    y = rng.standard_normal(300)
    p = pool(np.stack([2 * y + 3, -y])[:, None], y)
    every = np.arange(300)
    fit = fitted(p, Candidate(members=(0,), views=(0,)), every, weights=False, calibrate=True)
    assert (fit.scale, fit.offset) == pytest.approx((0.5, -1.5), abs=1e-5)
    assert fitted(p, Candidate(members=(1,), views=(0,)), every, weights=False, calibrate=True).scale == 0.0


def test_a_whole_graph_competes_and_wins_where_it_is_best(tmp_path):
    soup = linear_graph([[2e4], [2e4], [0.0]], 1.6, target="response_time").save(tmp_path / "soup.onnx")
    report = search(GOOD, two_halves(), also=[soup], weights=False, calibrate=False, resamples=100)
    assert any(o.whole == "soup.onnx" for o in report.options)


def test_command_writes_a_recipe_that_builds_the_choice(tmp_path, run_cli):
    paths = [g.save(tmp_path / f"m{k}.onnx") for k, g in enumerate([*GOOD, NOISE])]
    windows = two_halves()
    w = save_windows(tmp_path / "w.npz", windows)
    (tmp_path / "sub").mkdir()
    out = tmp_path / "sub" / "submission.toml"
    member = f'graph = "m1.onnx"\nsha256 = "{"0" * 64}"\n'
    base = tmp_path / "base.toml"
    base.write_text(f'profile = "eeg2025"\n\n[[challenges.2.members]]\n{member}')
    argv = ["search", *paths, "--views", "identity,sign-flip", "--data", w, "--base", base, "-o", out, "--hold-out", 0]
    code, text, err = run_cli(*argv)
    assert code == 0, err
    assert "on subjects without a say (5 folds)" in text
    assert "no verdict" in text
    assert run_cli(*argv)[0] == 2
    recipe = load_recipe(out).challenges["1"]
    report = json.loads(out.with_suffix(".json").read_text())
    choice = next(o for o in report["options"] if o["chosen"])
    assert [out.parent / m.graph for m in recipe.members] == [out.parent / ".." / name for name in choice["members"]]
    assert list(recipe.views) == choice["views"]
    files = [out.parent / m.graph for m in recipe.members]
    merge = recipe.merge.replace("weighted:", f"weighted:{out.parent}/")
    from rtserve.fusion.plan import Calibration

    calibration = Calibration(scale=recipe.calibration.scale, offset=recipe.calibration.offset)
    fused = fuse(files, views=recipe.views, merge=merge, calibration=calibration, force=True)
    assert evaluate(fused, windows)["nrmse"].value == pytest.approx(choice["value"], abs=1e-4)


def test_the_other_challenge_of_a_base_recipe_is_kept(tmp_path, run_cli):
    paths = [g.save(tmp_path / f"m{k}.onnx") for k, g in enumerate(GOOD)]
    w = save_windows(tmp_path / "w.npz", two_halves())
    base = tmp_path / "base.toml"
    member = f'graph = "m1.onnx"\nsha256 = "{"0" * 64}"\n'
    base.write_text(f'profile = "eeg2025"\nruntime = "torch"\n\n[[challenges.2.members]]\n{member}')
    argv = ["search", paths[0], "--data", w, "--base", base, "-o", tmp_path / "out.toml", "--no-calibrate"]
    assert run_cli(*argv)[0] == 0
    kept = tomllib.loads((tmp_path / "out.toml").read_text())
    assert kept["challenges"]["2"]["members"][0]["sha256"] == "0" * 64
    assert kept["runtime"] == "torch"
    assert kept["challenges"]["1"]["members"][0]["graph"] == "m0.onnx"


@pytest.mark.parametrize("argv", [["--budget-us", "0"], ["--budget-us", "-3"], ["--views", "wobble"]])
def test_bad_usage_is_exit_2(argv, tmp_path, run_cli):
    m, w = GOOD[0].save(tmp_path / "m.onnx"), save_windows(tmp_path / "w.npz", two_halves())
    assert run_cli("search", m, "--data", w, *argv)[0] == 2
    assert run_cli("search", "--data", w)[0] == 2


@pytest.mark.parametrize("backend", ["loky", pytest.param("dask", marks=pytest.mark.needs("distributed"))])
def test_predictions_do_not_depend_on_where_they_were_made(backend):
    from rtserve.fusion.views import parse_views
    from rtserve.measure.outputs import branch_outputs

    views = parse_views("identity,scale:0.5")
    alone = branch_outputs(GOOD, views, two_halves())
    spread = branch_outputs(GOOD, views, two_halves(), jobs=2, backend=backend)
    assert np.allclose(spread.values, alone.values, rtol=1e-6)
