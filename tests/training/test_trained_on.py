"""What a network was trained on travels from its run into its graph, and through a fusion."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from rtserve.errors import InputError
from rtserve.fusion.fuse import fuse
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.export import export
from rtserve.graphs.graph import Graph
from rtserve.signals.membership import find_records, membership, training_record
from rtserve.signals.splits import make_split
from rtserve.signals.windows import WindowSet, save_windows
from rtserve.training.networks import CompactRT
from rtserve.training.soup import soup

EXPORTER = "rtserve.training.networks:exporter"


@pytest.fixture(scope="module")
def windows():
    X = 1e-5 * np.random.default_rng(0).standard_normal((60, 6, 40)).astype("f4")
    subject = np.repeat([f"s{i}" for i in range(10)], 6)
    return WindowSet(X=X, y=np.arange(60, dtype="f4"), subject=subject, sfreq=100.0)


def test_a_graph_knows_the_windows_it_was_trained_on(windows, tmp_path):
    split = make_split(windows)
    torch.manual_seed(0)
    record = json.loads(json.dumps(training_record(windows, split.marks)))
    content = {"model_state_dict": CompactRT(6, input_scale=1e5).state_dict(), "trained_on": record}
    torch.save(content, tmp_path / "best.pth")
    graph = export(tmp_path / "best.pth", exporter="rtserve.training.networks:exporter", settings={"n_times": 40})
    fused = fuse([graph], views=["identity", "roll:+1"], optimize=False)
    for one in (graph, fused):
        read = Graph.from_bytes(one.to_bytes())
        assert find_records(read.provenance.details) == [record]
        found = membership(find_records(read.provenance.details), windows)
        assert (found.trained == (split.marks == "train")).all()


@pytest.mark.parametrize("strange", [{"n": torch.zeros(3)}, "yes", None, {"n": 3}, [1, 2]])
def test_a_strange_record_is_none(windows, strange, tmp_path):
    torch.save({"model_state_dict": CompactRT(6).state_dict(), "trained_on": strange}, tmp_path / "w.pth")
    record = load_checkpoint(tmp_path / "w.pth").trained_on
    assert not membership(find_records({"trained_on": record}), windows).known


def test_a_soup_was_trained_on_what_its_ingredients_were(windows, tmp_path):
    """Two ingredients, trained on different people: the soup's graph, and its checkpoint exported again, know both."""
    number = np.char.strip(windows.subject, "s").astype(int)
    for seed in (0, 1):
        torch.manual_seed(seed)
        record = training_record(windows, np.where(number % 4 == seed, "train", "test"))
        content = {"model_state_dict": CompactRT(6, input_scale=1e5).state_dict(), "trained_on": record}
        torch.save(content, tmp_path / f"{seed}.pth")
    paths = [tmp_path / "0.pth", tmp_path / "1.pth"]
    settings = {"n_times": 40}
    mixed = soup(paths, exporter=EXPORTER, settings=settings, output=tmp_path / "soup.onnx").graph
    again = export(tmp_path / "soup.pth", exporter=EXPORTER, settings=settings)
    for graph in (mixed, again, fuse([mixed], views=["identity", "roll:+1"], optimize=False)):
        found = membership(find_records(Graph.from_bytes(graph.to_bytes()).provenance.details), windows)
        assert (found.trained == (number % 4 < 2)).all()
    save_windows(tmp_path / "w.npz", windows)
    with pytest.raises(InputError, match="scored on what it was trained on"):
        soup(
            paths,
            exporter=EXPORTER,
            settings=settings,
            output=tmp_path / "t.onnx",
            data=tmp_path / "w.npz",
            split="all",
        )
