"""What version 0.1 made still loads, verifies and fuses.

``tests/fixtures/version_0_1.tar.xz`` holds what its commands wrote on simulated windows: m1.onnx and m2.onnx (`export` of
EEGNet), fused.onnx (both x identity,roll:+2), torch.onnx (m1 x identity,scale:0.9 for torch), run (`train`, without
last.pth), results.json (`evaluate --engine torch_plan`) and sub.zip (`build` for eeg2025 of the graphs).
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import rtserve
from rtserve.files import sha256_bytes
from rtserve.fusion.fuse import fuse, fuse_with_report
from rtserve.graphs.engines import ENGINES, engine_called
from rtserve.graphs.graph import Graph
from rtserve.graphs.parity import TOLERANCE, relative_error
from rtserve.graphs.runners import OnnxruntimeRunner

KEPT = Path(__file__).parent / "fixtures" / "version_0_1.tar.xz"


@pytest.fixture(scope="module")
def former(tmp_path_factory):
    folder = tmp_path_factory.mktemp("version_0_1")
    with tarfile.open(KEPT) as archive:
        archive.extractall(
            folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )  # 3.11.4 and later
    return folder


def answers(graph):
    x = np.random.default_rng(0).standard_normal((3, 129, 200)).astype("f4")
    return OnnxruntimeRunner(graph).infer(x)


@pytest.mark.parametrize("name", ["m1.onnx", "m2.onnx", "fused.onnx", "torch.onnx"])
def test_a_graph_loads_and_what_it_does_not_say_is_unknown(former, name):
    graph = Graph.load(former / name)
    assert (graph.input_spec.n_chans, graph.input_spec.n_times, graph.input_spec.sfreq) == (129, 200, 100.0)
    assert graph.answers is None
    assert not graph.output_spec.classes
    assert not graph.output_spec.target
    assert answers(graph).shape == (3, 1)


def test_members_fuse_to_what_they_fused_to_then(former):
    members = [former / "m1.onnx", former / "m2.onnx"]
    new, _, _ = fuse_with_report(members, views="identity,roll:+2", parity=False)  # the old graph is what is right
    assert relative_error(answers(new), answers(Graph.load(former / "fused.onnx"))) < TOLERANCE


def test_a_fused_graph_is_fused_again(former):
    once = Graph.load(former / "fused.onnx")
    again = fuse([former / "fused.onnx"], views="identity,scale:1")
    assert relative_error(answers(again), answers(once)) < TOLERANCE
    assert [m["provenance"]["kind"] for m in again.provenance.details["members"]] == ["fuse"]


@pytest.mark.parametrize("name", ["m1.onnx", "fused.onnx", "sub.zip", "run/seed1/best.pth"])
def test_inspect_reads_it(former, cli, name):
    code, _, err = cli("inspect", former / name)
    assert code == 0, err


def test_a_run_folder_is_reported_and_its_checkpoint_is_the_graphs(former, cli, tmp_path):
    code, _, err = cli("report", former / "run", former / "results.json", "-o", tmp_path / "page.md")
    assert code == 0, err
    assert "NRMSE" in (tmp_path / "page.md").read_text()
    sha256 = sha256_bytes((former / "run" / "seed1" / "best.pth").read_bytes())
    made_from = [
        Graph.load(former / name).provenance.details["checkpoint"]["sha256"] for name in ("m1.onnx", "m2.onnx")
    ]
    assert made_from[0] == sha256 != made_from[1]


def test_its_name_of_an_engine_is_the_one_of_today(former):
    then = json.loads((former / "results.json").read_text())
    assert "torch_plan" in json.dumps(then)
    assert engine_called("torch_plan") in ENGINES


def test_a_zip_of_given_graphs_verifies_in_a_later_version(former, cli, monkeypatch):
    monkeypatch.setattr(rtserve, "__version__", "0.2.0")
    code, out, err = cli("verify", former / "sub.zip")
    assert code == 0, out + err


def test_a_zip_whose_graph_was_exchanged_does_not(former, cli, tmp_path):
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(former / "sub.zip") as old, zipfile.ZipFile(changed, "w") as new:  # noqa: TID251
        for name in old.namelist():
            new.writestr(name, old.read("challenge_2.onnx" if name == "challenge_1.onnx" else name))
    assert cli("verify", changed)[0] == 1
