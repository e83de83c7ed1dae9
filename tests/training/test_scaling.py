"""The target is learned in units of its spread: what is saved answers in y's units, and only where that is exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from rtserve.signals.splits import make_split
from rtserve.training.callbacks import infer
from rtserve.training.models import build_network
from rtserve.training.networks import CompactRT
from rtserve.training.recipe import Recipe
from rtserve.training.scaling import last_layer, scale_of
from rtserve.training.seeds import train

from .conftest import small_windows


class Limited(nn.Linear):
    """A layer whose weights may not grow, as braindecode's constrained ones."""

    def forward(self, x):
        return nn.functional.linear(x, torch.renorm(self.weight, 2, 0, 1.0), self.bias)


class Tail(nn.Module):
    def __init__(self, *last):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU())
        self.last = nn.Sequential(*last)

    def forward(self, x):
        return self.last(self.body(x))


def test_the_folded_network_is_the_scaled_one():
    network = CompactRT(3).eval()
    layer = last_layer(network, (3, 40))
    assert layer == "regressor.6"
    scale = scale_of(np.array([20.0, 30.0, 30.0], np.float32), layer)
    X = torch.randn(5, 3, 40, generator=torch.Generator().manual_seed(1))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    scaled = infer(network, X, np.arange(5), scale=scale)
    np.testing.assert_allclose(infer(scale.folded(network), X, np.arange(5)), scaled, rtol=1e-6)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("last", "layer"),
    [
        ((nn.Linear(4, 1),), "last.0"),
        ((nn.Linear(4, 1), nn.Identity()), "last.0"),
        ((Limited(4, 1),), ""),
        ((nn.Linear(4, 1, bias=False),), ""),
        ((nn.Linear(4, 1), nn.Tanh()), ""),
    ],
    ids=["linear", "identity", "limited", "no-bias", "tanh"],
)
def test_a_layer_carries_the_scale_only_where_it_does_so_exactly(last, layer):
    torch.manual_seed(0)
    assert last_layer(Tail(*last), (3, 2)) == layer


def test_units_of_the_target_do_not_matter(tmp_path):
    windows = small_windows(n=160)
    recipe = Recipe(max_epochs=3, patience=0, batch_size=16, dropout=(0.0, 0.0, 0.0), head_dropout=(0.0, 0.0))
    scores = []
    for name, factor in (("s", 1.0), ("ms", 1000.0)):
        same = replace(windows, y=windows.y * np.float32(factor))
        run = train(same, make_split(windows), recipe=recipe, seeds=[1], output=tmp_path / name)
        scores.append(run.results[0]["test"]["scores"][0]["value"])
        network = build_network(recipe, windows, seed=1)
        network.load_state_dict(torch.load(run.checkpoints()[0], weights_only=True)["model_state_dict"])  # noqa: TID251
        answers = infer(network, torch.from_numpy(windows.X), np.arange(20))
        assert abs(answers.mean() - factor * windows.y.mean()) < 0.5 * factor
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)
