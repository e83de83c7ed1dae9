"""The demo, small: interrupted, gone on with, and run again; what it prints is what its files say."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rtserve.files import sha256_file
from rtserve.graphs.graph import Graph
from rtserve.measure.evaluate import evaluate
from rtserve.measure.timing import Timings
from tests.conftest import ROOT

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
COMMAND = [sys.executable, "-m", "rtserve", "demo", "--quick", "-o", "out"]


def run(folder, *more):
    return subprocess.run([*COMMAND, *more], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """An empty folder in which the demo was interrupted, finished and repeated."""
    folder = tmp_path_factory.mktemp("demo")
    process = subprocess.Popen(COMMAND, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not list(folder.glob("out/training/c1/seed*/last.pth")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate()
    left = [path.name for path in folder.rglob(".rtserve-*")]
    first = run(folder)
    assert first.returncode == 0, first.stderr
    return folder / "out", {"cut": (process.returncode, talk.decode(), left), "first": first, "again": run(folder)}


def table(text):
    rows = {}
    for line in text.splitlines():
        cells = re.split(r"\s{2,}", line.strip())
        if len(cells) > 1 and not line.startswith(("note", "model", "-")):
            rows[cells[0]] = cells[1:]
    return rows


def test_an_interrupt_leaves_nothing_half_written(demo):
    code, talk, left = demo[1]["cut"]
    assert code == 130
    assert "interrupted" in talk
    assert "Traceback" not in talk
    assert left == []


def test_it_prints_what_its_files_say(demo):
    folder, runs = demo
    printed = table(runs["first"].stdout)
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
    assert "simulated windows" in runs["first"].stdout


def test_times_are_those_that_were_taken(demo):
    folder, runs = demo
    printed = table(runs["again"].stdout)
    timings = Timings.from_dict(json.loads((folder / "results/timing.json").read_text()))
    views = timings.median_us("c1_views")
    assert printed["C1 ensemble of 2 x 5 views"][2] == f"{views:,.0f}"
    eager = next(name for name in timings.names if name.startswith("torch eager"))
    said = re.search(r"takes ([\d.]+) times less than the eager loop", runs["again"].stdout)
    assert float(said.group(1)) == pytest.approx(timings.median_us(eager) / views, abs=0.06)


def test_all_ways_of_running_the_branches_agree(demo):
    folder, _ = demo
    import torch

    from rtserve.demo import timing
    from rtserve.demo.settings import VIEWS
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
    assert "submission: " in runs["first"].stdout


def test_a_second_run_says_what_it_reuses_and_gives_the_same_zip(demo):
    _, runs = demo
    assert runs["again"].returncode == 0, runs["again"].stderr
    assert "reused: the windows and members of C1" in runs["again"].stdout
    assert "c1_views.onnx" in runs["again"].stdout
    assert "same bytes as before" in runs["again"].stderr
    first, again = table(runs["first"].stdout), table(runs["again"].stdout)
    assert [first[key][:2] for key in first if key.startswith("C")] == [
        again[key][:2] for key in first if key.startswith("C")
    ]


def test_the_summary_has_the_picture_and_the_table(demo):
    folder, _ = demo
    html, markdown = (folder / "summary.html").read_text(), (folder / "summary.md").read_text()
    assert "<svg" in html
    assert "simulated" in html
    for label in ("C1 ensemble of 2 x 5 views", "C2 one member"):
        assert label in html
        assert label in markdown


def test_a_folder_with_another_demo_or_something_else_is_refused(demo, tmp_path):
    folder, _ = demo
    full = subprocess.run(
        [sys.executable, "-m", "rtserve", "demo", "-o", str(folder)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert full.returncode == 2
    assert "windows: 360 against 3000" in full.stderr
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    other = run(tmp_path)
    assert other.returncode == 2
    assert "holds no demo" in other.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
