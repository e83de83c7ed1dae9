"""Soups: means of weights, exported, and said to be worth only what they score."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from rtserve.cli.training import soup as command
from rtserve.errors import CheckpointError, InputError
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.graph import Graph
from rtserve.signals.windows import save_windows
from rtserve.training.networks import CompactRT
from rtserve.training.soup import average, soup

from .conftest import small_windows

EXPORTER = "rtserve.training.networks:exporter"


@pytest.fixture
def checkpoints(tmp_path):
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        path = tmp_path / f"{seed}.pth"
        torch.save({"model_state_dict": CompactRT(3, input_scale=1e5).state_dict()}, path)
        paths.append(path)
    return paths


def test_a_soup_is_the_mean_of_its_ingredients(checkpoints):
    first, second = (load_checkpoint(path).state_dict for path in checkpoints)
    mixed = average([load_checkpoint(path) for path in checkpoints])
    key = "features.0.weight"
    assert torch.allclose(mixed[key], (first[key] + second[key]) / 2)
    assert mixed["features.1.num_batches_tracked"].dtype == torch.int64


def test_a_soup_ends_in_a_graph_beside_its_ingredients_scores(checkpoints, tmp_path):
    save_windows(tmp_path / "w.npz", small_windows(n=60))
    arguments = [*map(str, checkpoints), "--exporter", EXPORTER, "--set", "n_times=40", "-o", str(tmp_path / "s.onnx")]
    result = CliRunner().invoke(command, [*arguments, "--data", str(tmp_path / "w.npz"), "--split", "all", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert len(report["scores"]) == 3
    graph = Graph.load(tmp_path / "s.onnx")
    assert graph.provenance.details["soup"] == [load_checkpoint(path).sha256 for path in checkpoints]
    assert graph.provenance.details["checkpoint"]["sha256"] == load_checkpoint(tmp_path / "s.pth").sha256


def test_other_architectures_and_single_ones_are_refused(checkpoints, tmp_path):
    torch.save(CompactRT(4, input_scale=1e5).state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"features\.0\.weight is \(32, 4, 7\) against \(32, 3, 7\)"):
        soup([checkpoints[0], tmp_path / "other.pth"], exporter=EXPORTER, output=tmp_path / "s.onnx")
    with pytest.raises(InputError, match="no soup"):
        soup(checkpoints[:1], exporter=EXPORTER, output=tmp_path / "s.onnx")
    assert not list(tmp_path.glob("s.*"))
