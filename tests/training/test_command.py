"""``rtserve train`` as people call it: options, gates and exit codes, dask, the background.

But for the background it is called in this process, which has loaded torch; a fresh one is tried there and by the demo's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.signals.windows import save_windows
from rtserve.training import commands
from tests.conftest import ROOT

from .conftest import small_windows

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    save_windows(folder / "w.npz", small_windows())
    (folder / "settings.toml").write_text("max_epochs = 2\nmixup_alpha = 0.2\ndropout = [0.1, 0.1, 0.1]\n")
    return folder


def test_settings_come_from_recipe_file_and_options_in_this_order(folder, cli, monkeypatch):
    monkeypatch.chdir(folder)
    given = ("--recipe", "v8", "--config", "settings.toml", "--lr", "0.002")
    code, out, talk = cli("train", "w.npz", *given, "-o", "a", "--json")
    assert code == 0, talk
    report = json.loads(out)
    settings = report["about"]["settings"]
    assert (settings["loss"], settings["max_epochs"], settings["lr"]) == ("smooth_l1", 2, 0.002)
    assert settings["dropout"] == [0.1, 0.1, 0.1]
    assert report["schema"] == "rtserve.training/1"
    assert report["seeds"][0]["test"]["scores"][0]["interval"]["over"] == "subjects"


def test_a_gate_that_stops_is_exit_code_one_and_names_the_fallback(folder, cli, monkeypatch):
    monkeypatch.chdir(folder)
    gate = "smooth_l1:marginal=0.0,stop=0.0,after=1,fallback=submissions/v8_single"
    code, _, talk = cli("train", "w.npz", "--seeds", "1,2", "--max-epochs", "3", "--gate", gate, "-o", "b")
    assert code == 1
    assert "use submissions/v8_single instead" in talk
    assert not (folder / "b/seed2").exists()
    code, _, talk = cli("train", "w.npz", "--max-epochs", "3", "--gate", "mae:marginal=0.1,stop=0.2", "-o", "c")
    assert code == 3
    assert "the gate is on mae" in talk


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--recipe", "v9"], "unknown recipe 'v9'"),
        pytest.param(["--model", "braindecode:Nope"], "no model 'Nope'", marks=pytest.mark.needs("braindecode.models")),
        (["--model", "resnet"], "unknown model 'resnet'"),
        (["--seeds", "1,x"], "not numbers"),
        (["--split", "window"], "leaks"),
        (["--split", "file"], "marks no windows"),
        pytest.param(["--dask", "tcp://127.0.0.1:1"], "no dask scheduler", marks=pytest.mark.needs("distributed")),
        (["--config", "w.npz"], "are not TOML"),
    ],
)
def test_what_cannot_be_meant_is_exit_code_two_and_writes_nothing(folder, arguments, says, monkeypatch):
    from click.testing import CliRunner

    from rtserve.cli.training import train
    from rtserve.errors import InputError

    monkeypatch.setattr(commands, "DASK_ANSWERS_S", 0.1)  # nobody is there to answer later
    result = CliRunner().invoke(
        train,
        [
            str(folder / "w.npz"),
            "--config",
            str(folder / "settings.toml"),
            *_absolute(folder, arguments),
            "-o",
            str(folder / "x"),
        ],
    )
    assert isinstance(result.exception, InputError)
    assert says in str(result.exception)
    assert result.exception.exit_code == 2
    assert not (folder / "x").exists()


def _absolute(folder, arguments):
    return [str(folder / a) if a.endswith(".npz") else a for a in arguments]


def test_the_background_leaves_a_log_with_the_result(folder):
    command = [sys.executable, "-m", "rtserve", "train", "w.npz", "--config", "settings.toml", "-o", "later"]
    done = subprocess.run(
        [*command, "--background"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "tail -f" in done.stderr
    for _ in range(1200):
        if (folder / "later/seed42/result.json").exists() and "wrote" in (folder / "later.log").read_text():
            break
        time.sleep(0.1)
    assert "test NRMSE" in (folder / "later.log").read_text()


@pytest.mark.needs("distributed")
@pytest.mark.filterwarnings("ignore")
def test_seeds_on_a_dask_cluster_are_those_of_one_process(folder, tmp_path):
    import distributed

    from rtserve.signals.splits import make_split
    from rtserve.training.recipe import Recipe
    from rtserve.training.seeds import train

    windows = small_windows(n=120)
    recipe = Recipe(max_epochs=2, patience=0, batch_size=16)
    here = train(windows, make_split(windows), recipe=recipe, seeds=[1, 2], output=tmp_path / "here")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        there = train(
            windows,
            make_split(windows),
            recipe=recipe,
            seeds=[1, 2],
            output=tmp_path / "there",
            n_jobs=2,
            backend="dask",
        )
    assert [r["seed"] for r in there.results] == [1, 2]
    for seed in (1, 2):
        first, second = (load_checkpoint(tmp_path / side / f"seed{seed}/best.pth").sha256 for side in ("here", "there"))
        assert first == second
    assert here.results[0]["test"]["scores"] == there.results[0]["test"]["scores"]
