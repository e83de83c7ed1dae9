"""The canary and its opposite: CompactRT on simulated windows, at planted r = 0.46 and at r = 0."""

from __future__ import annotations

import pytest

from rtserve.signals.simulate import simulate
from rtserve.signals.splits import make_split
from rtserve.training.recipe import Recipe
from rtserve.training.seeds import train


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learning")
    recipe = Recipe(max_epochs=4, patience=0)
    found = {}
    for r in (0.46, 0.0):
        windows = simulate(1800, r=r, seed=5, n_subjects=90)
        split = make_split(windows, fractions=(0.62, 0.1, 0.28))
        run = train(windows, split, recipe=recipe, seeds=[1], output=folder / f"r{r}")
        assert "[" in run.lines()[1]  # the interval is printed
        found[r] = run.results[0]["test"]["scores"][0]
    return found


def test_it_learns_at_the_best_teams_r(scores):
    assert scores[0.46]["value"] < 0.97
    assert scores[0.46]["interval"]["high"] < 1.0
    assert scores[0.46]["interval"]["over"] == "subjects"


def test_it_does_not_learn_where_nothing_is_planted(scores):
    assert scores[0.0]["value"] > 0.99
    assert scores[0.0]["interval"]["high"] >= 1.0
