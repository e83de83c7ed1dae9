"""A network of the user's own file: trained, refused where it does not fit, and exported by the same file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.graphs.export import export
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.signals.splits import make_split
from rtserve.signals.windows import save_windows
from rtserve.training.recipe import Recipe
from rtserve.training.seeds import train

from .test_classes import class_windows

SOURCE = """
from torch import nn


class Net(nn.Module):
    def __init__(self, n_chans, n_outputs, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(n_chans, width, 9), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.head(self.body(x).mean(-1))


def make(n_chans, n_outputs, **more):
    return Net(n_chans, n_outputs, **more)


def broken(n_chans):
    return 1 / 0


def flat(n_chans):
    return nn.Flatten()


def nothing(n_chans):
    return n_chans
"""
FAST = Recipe(max_epochs=2, patience=0, batch_size=16, lr=1e-2)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return path


def test_it_is_trained_and_exported_by_the_same_file(file, tmp_path, cli):
    windows = class_windows(n=120)
    save_windows(tmp_path / "w.npz", windows)
    arguments = ("--model", f"{file}:Net", "--set", "width=6", "--max-epochs", "2", "--batch-size", "16", "--json")
    code, out, error = cli("train", tmp_path / "w.npz", *arguments, "-o", tmp_path / "run")
    assert code == 0, error
    about = json.loads(out)["about"]
    assert about["settings"]["model"] == "net.py:Net"  # no machine's folders
    assert about["settings"]["model_settings"] == {"width": 6}
    assert about["model_file"]["name"] == "net.py"
    graph = export(tmp_path / "run/seed42/best.pth", exporter=f"{file}:Net")
    assert graph.output_spec.classes == windows.classes
    assert graph.input_spec == windows.input_spec
    answers = OnnxruntimeRunner(graph).infer(windows.X[:4])
    assert np.ptp(answers) > 1e-3
    file.write_text(SOURCE + "\n# changed\n")
    code, _, error = cli("train", tmp_path / "w.npz", *arguments, "-o", tmp_path / "run")
    assert code == 2
    assert "model_file.sha256" in error


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("Net", {"depth": 3}, "takes no setting 'depth'"),
        ("broken", {}, "ZeroDivisionError.*net.py, line 20"),
        ("flat", {}, r"gives \(2, 120\) for 2 windows, not \(2, 3\)"),
        ("nothing", {}, "gives a int"),
        ("Absent", {}, "Absent"),
    ],
)
def test_what_is_no_network_for_the_windows_is_refused(name, settings, says, file, tmp_path):
    windows = class_windows(n=120)
    recipe = replace(FAST, model=f"{file}:{name}", model_settings=settings)
    with pytest.raises(InputError, match=says):
        train(windows, make_split(windows), recipe=recipe, seeds=[1], output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_function_gives_what_its_class_does(file, tmp_path):
    windows = class_windows(n=120)
    split = make_split(windows)
    one, two = (
        train(windows, split, recipe=replace(FAST, model=f"{file}:{name}"), seeds=[1], output=tmp_path / name)
        for name in ("Net", "make")
    )
    assert one.results[0]["test"]["logits"] == two.results[0]["test"]["logits"]


def test_settings_are_for_networks_of_ones_own(file, tmp_path):
    windows = class_windows(n=120)
    recipe = replace(FAST, model_settings={"width": 3})
    with pytest.raises(InputError, match="takes no --set"):
        train(windows, make_split(windows), recipe=recipe, seeds=[1], output=tmp_path / "run")
