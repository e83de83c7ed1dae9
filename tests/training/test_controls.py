"""Real recordings: what must be found is found, what must not be found is not, and a leak is called one."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals.splits import make_split
from rtserve.signals.windows import load_windows
from rtserve.training.recipe import Recipe
from rtserve.training.seeds import train

pytestmark = pytest.mark.shared
GENTLE = Recipe(max_epochs=30, patience=0, dropout=(0.1, 0.1, 0.1), head_dropout=(0.1, 0.1), scheduler="none")


def test_flicker_is_found_in_runs_left_out(shared_dir, tmp_path):
    windows = load_windows(shared_dir / "data/muse_ssvep/muse_ssvep_2s_100hz.npz")
    one = windows.take(windows.subject == "1")
    run = train(one, make_split(one, by="run"), recipe=GENTLE, seeds=[1], output=tmp_path / "run")
    score = run.results[0]["test"]["scores"][0]
    assert score["interval"]["high"] < 0.8
    assert score["interval"]["over"] == "windows"
    assert any("over windows" in note for note in run.results[0]["test"]["notes"])


def test_the_default_recipe_finds_the_flicker_too(shared_dir, tmp_path):
    windows = load_windows(shared_dir / "data/muse_ssvep/muse_ssvep_2s_100hz.npz")
    one = windows.take(windows.subject == "1")
    run = train(one, make_split(one, by="run"), recipe=Recipe(), seeds=[42], output=tmp_path / "run")
    score = run.results[0]["test"]["scores"][0]
    assert score["value"] < 0.6  # ridge on spectra: 0.51
    assert run.about["settings"]["max_epochs"] > 20


def test_cueing_says_nothing_across_subjects(shared_dir, tmp_path):
    windows = load_windows(shared_dir / "data/muse_cueing/muse_cueing_2s.npz")
    recipe = Recipe(max_epochs=2, patience=0, batch_size=64)
    run = train(windows, make_split(windows), recipe=recipe, seeds=[1], output=tmp_path / "run")
    score = run.results[0]["test"]["scores"][0]
    assert score["interval"]["low"] <= 1.005
    assert score["interval"]["high"] >= 1.0
    assert abs(score["value"] - 1.0) < 0.05
    oracle = run.results[0]["test"]["subject_mean_oracle"]
    assert oracle["uses_labels"] is True
    assert oracle["value"] < 0.97  # knowing the person would be worth something: a leak could be seen here


def test_a_random_split_of_cueing_is_refused_and_would_sell_the_subject_mean(shared_dir):
    windows = load_windows(shared_dir / "data/muse_cueing/muse_cueing_2s.npz")
    with pytest.raises(InputError, match="66 subjects are in more than one part"):
        make_split(windows, by="window")
    split = make_split(windows, by="window", allow_leakage=True)
    assert split.label.startswith("LEAKING")
    known, asked = split.marks == "train", split.marks == "test"
    means = {s: windows.y[known & (windows.subject == s)].mean() for s in set(windows.subject[known].tolist())}
    guess = np.array([means[s] for s in windows.subject[asked].tolist()])
    y = windows.y[asked]
    assert np.sqrt(np.mean((guess - y) ** 2)) / y.std() == pytest.approx(0.86, abs=0.03)
