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
from rtserve.training.keeping import SCHEMA
from rtserve.training.networks import CompactRT
from rtserve.training.soup import average, said_alike, soup

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


def trained(folder, seed, **said):
    """Return a checkpoint that says what one of `rtserve train` with a network of one's own says."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 40, 1))
    about = {
        "schema": SCHEMA, "input": json.loads(small_windows(n=4).input_spec.to_json()), "n_outputs": 1,
        "target": "response_time", "classes": None, "settings": {"model": "net.py:build", "model_settings": {}},
    }  # fmt: skip
    torch.save({"model_state_dict": network.state_dict()} | about | said, folder / f"{seed}.pth")
    return folder / f"{seed}.pth"


def test_a_soup_knows_of_its_windows_what_all_its_ingredients_know(tmp_path):
    """A network of one's own is built for a shape: the ingredients say it, and no --set is needed."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build(n_chans, n_times, n_outputs=1):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(n_chans * n_times, n_outputs))\n"
    )
    parts = [trained(tmp_path, seed) for seed in (0, 1)]
    soup(parts, exporter=f"{tmp_path / 'net.py'}:build", output=tmp_path / "s.onnx")
    graph = Graph.load(tmp_path / "s.onnx")
    assert graph.input_spec == small_windows(n=4).input_spec
    assert graph.output_spec.target == "response_time"
    assert load_checkpoint(tmp_path / "s.pth").content["settings"]["model_settings"] == {}
    other = trained(tmp_path, 2, target="externalizing")
    assert "target" not in said_alike([load_checkpoint(path).content for path in (parts[0], other)])


def test_a_soup_that_cannot_be_exported_leaves_nothing(checkpoints, tmp_path):
    with pytest.raises(InputError):
        soup(checkpoints, exporter=EXPORTER, settings={"n_tmes": "40"}, output=tmp_path / "s.onnx")
    assert not list(tmp_path.glob("s.*"))
