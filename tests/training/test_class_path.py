"""The whole path of a classifier, by the commands: recordings to classes, two seeds, views, one graph, a score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rtserve.graphs.graph import Graph
from tests.signals.paradigms import PARADIGMS, write_paradigm

PEOPLE = tuple(f"{i:02d}" for i in range(1, 6))
PATHS = {
    "p300": ("--classes", "standard,target"),
    "motor_imagery": ("--classes", "left_hand=1,right_hand=2"),
    "ssvep": (),
    "n170": (),
}
QUICK = (
    "--max-epochs", "15", "--patience", "0", "--batch-size", "12", "--lr", "0.004", "--dropout", "0.1,0.1,0.1",
    "--scheduler", "none", "--ema", "0.8",
)  # fmt: skip


def said(cli, *argv):
    code, out, error = cli(*argv)
    assert code == 0, error
    return out


@pytest.fixture
def prepared(cli, tmp_path, monkeypatch):
    """Write a set of the paradigm and cut its windows into w.h5."""
    monkeypatch.chdir(tmp_path)

    def prepare(paradigm):
        write_paradigm(tmp_path / "set", PARADIGMS[paradigm], subjects=PEOPLE)
        window = f"--window={PARADIGMS[paradigm].window}"
        said(cli, "prepare", "set", "--target", "class", *PATHS[paradigm], window, "--channels", "all", "-o", "w.h5")

    return prepare


def test_from_recordings_to_the_score_of_a_fused_classifier(cli, prepared):
    prepared("p300")
    trained = said(cli, "train", "w.h5", *QUICK, "--seeds", "1,2", "-o", "run")
    assert "minimised: cross_entropy, each class counting the same" in trained
    n_times = json.loads(Path("run/run.json").read_text())["input"]["n_times"]
    for seed in (1, 2):
        made = ("--exporter", "rtserve.training.networks:exporter", "--set", f"n_times={n_times}")
        said(cli, "export", f"run/seed{seed}/best.pth", *made, "-o", f"m{seed}.onnx")
    views = ("--views", "identity,roll:+2,roll:-2", "--merge", "mean-probabilities")
    said(cli, "fuse", "m1.onnx", "m2.onnx", *views, "-o", "f.onnx")
    assert Graph.load("f.onnx").output_spec.classes == ("standard", "target")
    code, _, error = cli("evaluate", "f.onnx", "--data", "w.h5")
    assert code == 2  # unasked, nobody is given a score on training windows
    assert "--split test" in error
    report = json.loads(said(cli, "evaluate", "f.onnx", "--data", "w.h5", "--split", "test", "--json"))
    score = report["scores"][0]
    assert score["metric"] == "balanced_accuracy"
    assert "split:test" in score["signature"]
    assert score["value"] > 0.75
    assert report["baseline"][0]["value"] == 0.5
    assert report["n_windows"] == json.loads(Path("run/run.json").read_text())["split"]["test"]


@pytest.mark.parametrize("paradigm", ["motor_imagery", "ssvep", "n170"])
def test_other_paradigms_are_learned_too(paradigm, cli, prepared):
    prepared(paradigm)
    report = json.loads(said(cli, "train", "w.h5", *QUICK, "--seeds", "1", "-o", "run", "--json"))
    assert set(report["about"]["classes"]) == set(PARADIGMS[paradigm].names)
    assert report["seeds"][0]["test"]["scores"][0]["value"] > 0.75
