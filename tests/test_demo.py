"""The demo, small: interrupted at every stage, gone on with, and run again; what it prints is what its files say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from rtserve.demo.notes import roughness, rounded
from rtserve.demo.settings import VIEWS
from rtserve.demo.timing import EAGER
from rtserve.files import sha256_file
from rtserve.graphs.graph import Graph
from rtserve.measure.evaluate import evaluate
from rtserve.measure.timing import Timings
from tests.conftest import HANGS_S, ROOT

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
STAGES = range(1, 9)
KILLED = (1, 2, 3)
"""Stages at which it gets SIGTERM as well: alone, with processes that train, and with threads that wait for exports."""


def interrupted(folder, names):
    """Run the demo with a signal at a stage in turn, as ``SIGINT:1``, and return what each run left by that name."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests/demo_interrupts.py"), str(folder), *names]
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=HANGS_S
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {left["name"]: left for left in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder in which the demo was interrupted at each stage, at some twice, and then finished."""
    folder = tmp_path_factory.mktemp("demo")
    names = [f"{name}:{stage}" for stage in STAGES for name in ("SIGINT", "SIGTERM")[: 1 + (stage in KILLED)]]
    cuts = interrupted(folder, [*names, "SIGINT:0"])
    whole = cuts.pop("SIGINT:0")
    assert whole["code"] == 0, whole["talk"]
    return folder / "out", {"cuts": cuts, "talk": whole["talk"], "held": whole["held"]}


def table(text):
    rows = {}
    for line in text.splitlines():
        cells = re.split(r"\s{2,}", line.strip())
        if len(cells) > 1 and not line.startswith(("note", "model", "-", " ")):
            rows[cells[0]] = cells[1:]
    return rows


def assert_nothing_half_done(cut):
    assert cut["code"] == (143 if cut["name"].startswith("SIGTERM") else 130), cut["talk"]
    assert cut["talk"].splitlines()[-1] == "interrupted"
    assert "Traceback" not in cut["talk"]
    assert "Warning" not in cut["talk"]
    assert cut["running"] == []
    assert cut["half"] == []
    assert [name for name in cut["temporary"] if name.startswith("rtserve")] == []


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_at_each_stage_leaves_nothing_half_written(demo, stage):
    cut = demo[1]["cuts"][f"SIGINT:{stage}"]
    assert cut["seen"][-1].startswith(f"[{stage}/8]")
    assert_nothing_half_done(cut)


@pytest.mark.parametrize("stage", KILLED)
def test_being_killed_politely_is_like_ctrl_c(demo, stage):
    cut = demo[1]["cuts"][f"SIGTERM:{stage}"]
    assert cut["seen"][-1].startswith(f"[{stage}/8]")
    assert_nothing_half_done(cut)


def test_it_prints_what_its_files_say(demo):
    folder, runs = demo
    printed = table(runs["talk"])
    labels = {
        "c1_single": "C1 one member",
        "c1_ensemble": "C1 ensemble of 2",
        "c1_views": "C1 ensemble of 2 x 5 views",
        "c2_single": "C2 one member",
    }
    for name, label in labels.items():
        again = evaluate(folder / f"graphs/{name}.onnx", folder / f"windows/{name[:2]}_test.npz", split="test")
        score = again["nrmse"]
        assert printed[label][0] == f"{score.value:.3f}"
        assert printed[label][1] == f"[{score.interval.low:.3f}, {score.interval.high:.3f}]"
        stored = json.loads((folder / f"results/{name}_evaluation.json").read_text())
        assert stored["graph_sha256"] == sha256_file(folder / f"graphs/{name}.onnx")
        assert stored["scores"][0]["value"] == pytest.approx(score.value)
    assert printed["C1 constant (mean of y)"][0] == "1.000"
    outcome = json.loads((folder / "demo.json").read_text())
    assert outcome["simulated"] is True
    assert "simulated windows" in runs["talk"]


def test_times_are_those_that_were_taken(demo):
    folder, runs = demo
    printed = table(runs["talk"])
    timings = Timings.from_dict(json.loads((folder / "results/timing.json").read_text()))
    assert roughness(timings, "c1_views") == "4 rounds are few" or "differ by" in roughness(timings, "c1_views")
    assert printed["C1 ensemble of 2 x 5 views"][2] == f"~{rounded(timings.median_us('c1_views'))}"
    said = re.search(r"takes about ([\d.,]+) times less than the eager loop", " ".join(runs["talk"].split()))
    assert said.group(1) == rounded(timings.ratio(EAGER, "c1_views")[0])
    assert "; rough, because " in " ".join(runs["talk"].split())


def test_all_ways_of_running_the_branches_agree(demo):
    folder, _ = demo
    import torch

    from rtserve.demo import timing
    from rtserve.graphs.runners import OnnxruntimeRunner

    checkpoints = sorted(folder.glob("training/c1/seed*/best.pth"))
    graphs = [Graph.load(folder / f"graphs/c1_{path.parent.name}.onnx") for path in checkpoints]
    x = 1e-5 * torch.randn(1, 129, 200, generator=torch.Generator().manual_seed(0)).numpy()
    answers = [
        np.ravel(timing._eager_loop(checkpoints, VIEWS, x)()),
        np.ravel(timing._session_loop(graphs, VIEWS, x)()),
        np.ravel(OnnxruntimeRunner(Graph.load(folder / "graphs/c1_views.onnx")).infer(x)),
    ]
    assert answers[0] == pytest.approx(answers[2], rel=1e-5)
    assert answers[1] == pytest.approx(answers[2], rel=1e-5)


def test_the_zip_was_checked_and_is_the_graph_that_was_scored(demo):
    folder, runs = demo
    outcome = json.loads((folder / "demo.json").read_text())
    assert outcome["facts"]["verdict"] in ("passed", "incomplete")
    assert outcome["facts"]["zip_sha256"] == sha256_file(folder / "submission.zip")
    assert outcome["facts"]["graphs"]["c1_views"] == sha256_file(folder / "graphs/c1_views.onnx")
    shown = subprocess.run(
        [sys.executable, "-m", "rtserve", "inspect", str(folder / "submission.zip"), "--json"],
        capture_output=True, text=True, env=ENVIRONMENT, check=True,
    )  # fmt: skip
    manifest = json.loads(shown.stdout)["manifest"]
    assert manifest["challenges"]["1"]["graph_sha256"] == sha256_file(folder / "graphs/c1_views.onnx")
    assert "submission: " in runs["talk"]


def test_a_run_says_what_it_reuses_and_gives_the_same_scores_and_zip(demo):
    """The run before it was interrupted in the last stage: all but its summary was there."""
    _, runs = demo
    assert "reused: the windows and members of C1" in runs["talk"]
    assert "c1_views.onnx" in runs["talk"]
    assert "same bytes as before" in runs["talk"]
    before, now = runs["cuts"][f"SIGINT:{STAGES[-1]}"]["held"], runs["held"]
    assert {"submission.zip", "results/c1_views_evaluation.json", "graphs/c1_views.onnx"} <= before.keys()
    assert {name for name in before if before[name] != now.get(name)} == {"results/timing.json"}
    assert {name for name in now.keys() - before.keys() if not name.startswith("summary")} == {"demo.json"}


def test_the_summary_has_the_pictures_and_the_tables(demo):
    folder, _ = demo
    html, markdown = (folder / "summary.html").read_text(), (folder / "summary.md").read_text()
    assert html.count("<svg") >= 4
    assert "simulated" in html
    fusion = json.loads((folder / "results/c1_views_fusion.json").read_text())
    assert fusion["sha256"] == sha256_file(folder / "graphs/c1_views.onnx")
    for page in (html, markdown):
        for label in ("C1 ensemble of 2 x 5 views", "C2 one member"):
            assert label in page
        assert f"{fusion['macs']['before'] / 1e6:,.2f} M one by one" in page or "one by one" in page
        assert f"{fusion['macs']['after'] / 1e6:,.2f} M" in page


def test_every_view_has_its_verdict(demo):
    folder, runs = demo
    evaluation = json.loads((folder / "results/c1_views_evaluation.json").read_text())
    trials = {trial["name"]: trial for trial in evaluation["branches"]["trials"] if trial["kind"] == "view"}
    assert set(trials) == set(VIEWS)
    text = re.sub(r"<[^>]+>", "", (folder / "summary.html").read_text())  # an interval is marked, so as not to wrap
    note = next(n for n in json.loads((folder / "demo.json").read_text())["notes"] if n.startswith("views on trial"))
    for name, trial in trials.items():
        assert name in text
        assert name in note
        assert trial["change"]["sentence"] in text
    assert "views on trial" in runs["talk"]


def test_the_results_of_a_demo_can_be_reported(demo, tmp_path, cli):
    folder, _ = demo
    code, _, talk = cli("report", folder / "results", "-o", tmp_path / "r.html")
    assert code == 0, talk
    assert "What was fused" in (tmp_path / "r.html").read_text()


def test_a_folder_with_another_demo_or_something_else_is_refused(demo, tmp_path, cli):
    folder, _ = demo
    code, _, said = cli("demo", "-o", folder)
    assert code == 2
    assert "windows: 360 against 3000" in said
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    code, _, said = cli("demo", "--quick", "-o", tmp_path / "out")
    assert code == 2
    assert "holds no demo" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
