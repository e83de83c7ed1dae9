"""What a network was trained on travels from its run into its graph, and through a fusion."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from rtserve.fusion.fuse import fuse
from rtserve.graphs.export import export
from rtserve.graphs.export_child import plain_record
from rtserve.graphs.graph import Graph
from rtserve.signals.membership import find_records, membership, training_record
from rtserve.signals.splits import make_split
from rtserve.signals.windows import WindowSet
from rtserve.training.networks import CompactRT


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


def test_a_strange_record_is_none(windows):
    assert plain_record({"n": torch.zeros(3)}) is None
    assert plain_record("yes") is None
    assert plain_record(None) is None
    assert not membership(find_records({"trained_on": plain_record({"n": 3})}), windows).known
