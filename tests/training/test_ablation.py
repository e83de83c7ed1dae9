"""Ablation: one change, the same seeds and windows, a paired difference; never a bare figure."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from rtserve.cli.training import ablate as command
from rtserve.errors import InputError
from rtserve.signals.splits import make_split
from rtserve.signals.windows import save_windows
from rtserve.training.ablation import ablate
from rtserve.training.recipe import Recipe

from .conftest import small_windows

PLAIN = {"dropout": (0.0, 0.0, 0.0), "head_dropout": (0.0, 0.0)}
FAST = Recipe(max_epochs=10, patience=0, batch_size=16, lr=3e-3, **PLAIN)


def test_a_change_that_matters_is_found_and_named(tmp_path):
    windows = small_windows(n=480, subjects=60)
    found = ablate(windows, make_split(windows), recipe=FAST, change={"lr": 1e-7}, seeds=[1, 2], output=tmp_path / "a")
    assert found.changes == {"lr": (3e-3, 1e-7)}
    assert found.ensemble.verdict == "hurts"
    assert list(found.seeds) == [1, 2]
    assert "hurts: nrmse +" in found.lines()[-1]


def test_the_command_asks_about_mixup(tmp_path):
    save_windows(tmp_path / "w.npz", small_windows(n=120))
    arguments = [str(tmp_path / "w.npz"), "--change", "mixup_alpha=0.2", "--seeds", "1,2", "--max-epochs", "1"]
    result = CliRunner().invoke(command, [*arguments, "-o", str(tmp_path / "out"), "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    assert report["schema"] == "rtserve.ablation/1"
    assert report["changes"] == {"mixup_alpha": [0.0, 0.2]}
    assert report["ensemble"]["interval"]["over"] == "subjects"
    assert (tmp_path / "out/with/seed2/best.pth").exists()


@pytest.mark.parametrize(("change", "says"), [({"lr": 3e-3}, "changes nothing"), ({"lrr": 1}, "'lrr'")])
def test_a_change_must_be_one(tmp_path, change, says):
    windows = small_windows(n=120)
    with pytest.raises(InputError, match=says):
        ablate(windows, make_split(windows), recipe=FAST, change=change, seeds=[1], output=tmp_path / "a")
    assert not (tmp_path / "a").exists()
