"""Classes from recordings to a score: what prepare calls class 1 is what a graph's second output is scored as."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from rtserve.graphs.export import export
from rtserve.signals.windows import load_windows

from .paradigms import PARADIGMS, write_paradigm

EXPORTER = '''
import torch
from torch import nn
from rtserve.graphs.exporter import Built
from rtserve.spec import InputSpec, OutputSpec


class Bump(nn.Module):
    """One output per class: how much larger its channel is around the bump, 0.3 s after the event."""

    def forward(self, x):
        near = x[:, :, 37:44].mean(-1) - x[:, :, :30].mean(-1)
        return 1e6 * near[:, :2]


def exporter(shapes, settings):
    return Built(
        network=Bump(),
        input_spec=InputSpec(n_chans=8, n_times=60, sfreq=100.0, unit="V"),
        output_spec=OutputSpec(n_outputs=2, target="class", classes=("face", "house")),
    )
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The windows of a small N170 set, and a graph that tells its classes apart."""
    folder = tmp_path_factory.mktemp("n170")
    write_paradigm(folder / "set", PARADIGMS["n170"], subjects=tuple(f"{i:02d}" for i in range(1, 9)))
    (folder / "bump.py").write_text(EXPORTER)
    return folder


def prepare(made: Path, cli, output: Path, *more: str) -> str:
    arguments = ("--target", "class", "--window=-0.1,0.5", "--channels", "all", "-o", output, *more)
    code, said, error = cli("prepare", made / "set", *arguments)
    assert code == 0, error
    return said


def test_prepare_export_evaluate(made: Path, cli):
    windows, graph = made / "w.h5", made / "bump.onnx"
    assert "classes of class: face is 0, house is 1" in prepare(made, cli, windows)
    assert load_windows(windows).predicts == "class"
    export(None, exporter=str(made / "bump.py")).save(graph)
    code, said, _ = cli("evaluate", graph, "--data", windows, "--json")
    assert code == 0
    score = json.loads(said)["scores"][0]
    assert "balanced_accuracy" in score["signature"]
    assert score["value"] == 1.0
    # The same windows with their classes the other way round are not scored as if nothing were.
    other = made / "other.h5"
    assert "house is 0, face is 1" in prepare(made, cli, other, "--classes", "house,face")
    code, said, error = cli("evaluate", graph, "--data", other)
    assert code != 0
    assert "face, house" in error
    assert "house, face" in error


def test_the_guides_commands_do_what_it_says(cli, repo_dir, tmp_path, monkeypatch):
    guide = (repo_dir / "docs/targets.md").read_text()
    lines = [shlex.split(line) for line in guide.splitlines() if line.startswith("rtserve prepare ")]
    assert {arguments[2].rstrip("/") for arguments in lines} == set(PARADIGMS)
    monkeypatch.chdir(tmp_path)
    for arguments in lines:
        name = arguments[2].rstrip("/")
        write_paradigm(tmp_path / name, PARADIGMS[name], subjects=("01", "02"))
        code, said, error = cli(*arguments[1:])
        assert code == 0, error
        windows = load_windows(f"{name}.h5")
        assert len(windows.classes) == 2
        assert all(f"{windows.classes[k]} (" in said for k in range(2))
    assert load_windows("n170.h5").targets.keys() == {"age", "sex"}
    assert load_windows("motor_imagery.h5").classes == ("left_hand", "right_hand")
