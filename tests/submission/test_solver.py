"""The second contest: solvers, streams, deep copies, sizes that the contest leaves open."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from zips import saved, write_zip

from rtserve.signals.windows import WindowSet, save_windows
from rtserve.submission import report as shapes
from rtserve.submission.profile import load_profile
from rtserve.submission.validate import check

SOLVER = """
import torch
from torch import nn

from benchmark_utils.base_solver import CompetSolver


class Net(nn.Module):
    def __init__(self, n_chans):
        super().__init__()
        self.linear = nn.Linear(n_chans, 1)

    def forward(self, X):
        return self.linear((X * 0.1).abs().mean(-1))

    @torch.inference_mode()
    def predict(self, X):
        return self(X)[:, 0]


class Solver(CompetSolver):
    name = "mine"

    def load_model(self, meta):
        model = Net(meta["n_chans"])
        state = torch.load(meta["submission_dir"] / "weights.pt", map_location=meta["device"], weights_only=True)
        model.load_state_dict(state)
        return model.to(meta["device"]).eval()
"""


def solver(*pairs: tuple[str, str], n_chans: int = 4, **more: object) -> dict[str, object]:
    import torch

    text = SOLVER
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    state = {"linear.weight": torch.linspace(0.1, 1, n_chans)[None], "linear.bias": torch.zeros(1)}
    return {"submission.py": text, "weights.pt": saved(state), **more}


def codes(report, status):
    return {result.code for result in report.results if result.status == status}


def test_a_good_solver_passes_and_its_track_is_recognised(quick_check):
    report = quick_check(solver(), profile="eeg2026")
    assert report.verdict == "passed", shapes.tick_list(report)
    assert not codes(report, "warned"), shapes.tick_list(report)
    assert any(note.startswith("taken for challenge sleep;") for note in report.notes)
    assert any("4 channels x 640 samples at 128 Hz in uV" in note for note in report.notes)


def test_the_kits_other_name_for_its_base_class_is_offered(quick_check):
    report = quick_check(solver(("benchmark_utils", "compet_core")), profile="eeg2026")
    assert report.verdict == "passed", shapes.tick_list(report)


def test_weights_for_another_size_fail_until_the_size_is_named(quick_check):
    files = solver(n_chans=2)
    assert "RT305" in codes(quick_check(files, profile="eeg2026/sleep"), "failed")
    assert quick_check(files, profile="eeg2026/sleep:warm-up").verdict == "passed"
    files = solver(n_chans=21)
    assert quick_check(files, profile="eeg2026/sleep", shape="21x500@250").verdict == "passed"
    assert "RT305" in codes(quick_check(files, profile="eeg2026/sleep", shape="22x500@250"), "failed")


BROKEN = {
    "uncopyable": (
        ("return model.to", "model.lock = __import__('threading').Lock()\n        return model.to"),
        "RT323",
    ),
    "no predict": (("def predict(", "def infer("), "RT310"),
    "misspelt": (("def load_model(", "def load_models("), "RT104"),
    "no solver": (("class Solver(", "class MySolver("), "RT102"),
    "wrong shape": (("return self(X)[:, 0]", "return self(X).reshape(1, 1, 1, 1)"), "RT312"),
    "written path": (('meta["submission_dir"] / "weights.pt"', '"/app/input/res/weights.pt"'), "RT304"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_solver_fails_with_its_code(quick_check, name):
    edit, code = BROKEN[name]
    report = quick_check(solver(edit), profile="eeg2026/sleep")
    assert code in codes(report, "failed"), shapes.tick_list(report)


def test_a_second_python_file_is_refused(quick_check):
    edit = ("import torch\n", "import torch\nimport helper\n")
    report = quick_check(solver(edit, **{"helper.py": ""}), profile="eeg2026/sleep")
    assert codes(report, "failed") == {"RT111", "RT303"}
    assert "no module of the zip can be imported" in shapes.tick_list(report)


def test_state_shared_between_copies_is_warned_about(quick_check):
    edit = "Net.n = getattr(Net, 'n', 0) + 1; return self(X)[:, 0] + Net.n"
    shared = ("return self(X)[:, 0]", edit)
    report = quick_check(solver(shared), profile="eeg2026/sleep")
    assert not report.failed, shapes.tick_list(report)
    assert codes(report, "warned") & {"RT324", "RT317"}
    own = ("return self(X)[:, 0]", "self.n = getattr(self, 'n', 0) + 1; return self(X)[:, 0]")
    assert "RT324" not in codes(quick_check(solver(own), profile="eeg2026/sleep"), "warned")


SIZES = {"bci": (41, 480, 120, 3), "sleep": (4, 640, 128, 1)}


def _graph(track: str, scale: float = 0.1) -> bytes:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    n_chans, n_times, _, n_outputs = SIZES[track]
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.standard_normal((6, n_chans, 5)).astype("f4"), "w")
    head = numpy_helper.from_array(rng.standard_normal((6, n_outputs)).astype("f4"), "h")
    scale = numpy_helper.from_array(np.array(scale, "f4"), "s")
    axis = numpy_helper.from_array(np.array([2]), "a")
    nodes = [
        helper.make_node("Mul", ["x", "s"], ["m"]),
        helper.make_node("Conv", ["m", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r", "a"], ["p"], keepdims=0),
        helper.make_node("MatMul", ["p", "h"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", n_chans, n_times])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", n_outputs])],
        [weight, head, scale, axis],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="module", params=["bci", "sleep"])
def built(request, tmp_path_factory) -> Path:
    from rtserve.submission.bundle import build

    folder = tmp_path_factory.mktemp(request.param)
    data = _graph(request.param)
    (folder / "member.onnx").write_bytes(data)
    recipe = f"""profile = "eeg2026"
runtime = "torch"
unit = "uV"
sfreq = {SIZES[request.param][2]}
[[challenges.{request.param}.members]]
graph = "member.onnx"
sha256 = "{hashlib.sha256(data).hexdigest()}"
"""
    (folder / "submission.toml").write_text(recipe)
    build(folder / "submission.toml", output=folder / "x.zip")
    return folder / "x.zip"


def test_a_built_solver_passes_end_to_end(quick_check, built):
    report = quick_check(built, profile="eeg2026")
    assert report.verdict == "passed", shapes.tick_list(report)
    assert {"RT323", "RT401", "RT402", "RT403", "RT404"} <= codes(report, "passed"), shapes.tick_list(report)


def test_the_graph_of_a_bundle_of_any_contest_is_known_by_its_manifest(built):
    from rtserve.measure.rescore import side_graph
    from rtserve.measure.sides import read_side

    side = read_side(built)
    assert side.settings["profile"] == "eeg2026"
    assert side.graphs == (side_graph(built).digest,)
    assert any(key.startswith("challenge_") for key in side.settings)


def test_a_bundle_is_scored_and_compared_for_the_contest_that_it_was_built_for(built, tmp_path, cli, quick_drives):
    key = "bci" if "bci" in str(built) else "sleep"
    n_chans, n_times, sfreq, n_outputs = SIZES[key]
    rng = np.random.default_rng(0)
    X = (1e-5 * rng.standard_normal((12, n_chans, n_times)) * rng.uniform(0.5, 2, (12, 1, 1))).astype("f4")
    words = {"class": np.arange(12) % n_outputs, "seconds": 50.0 * np.arange(12)}
    target = "class" if key == "bci" else "seconds"
    windows = WindowSet(
        X=X, y=words[target], subject=np.repeat(list("ABC"), 4), run_id=np.repeat(list("abc"), 4), sfreq=sfreq,
        target=target, extra={name: np.repeat(list("pqr"), 4) for name in ("session", "context", "group")},
    )  # fmt: skip
    data = save_windows(tmp_path / "w.npz", windows)
    code, text, said = cli("evaluate", built, "--data", data, "--metric", "profile")
    assert code == 0, said
    assert load_profile(f"eeg2026/{key}").challenge(key).metric.partition(":")[0] in text
    code, text, said = cli("compare", built, built, "--data", data)
    assert code == 0, said
    assert "are the same bytes" in text


def test_another_contest_than_the_one_it_was_built_for_is_said(built):
    key, other = ("bci", "sleep") if "bci" in str(built) else ("sleep", "bci")
    for asked, said in ((f"eeg2026/{other}", True), ("eeg2025", True), ("eeg2026", False), (f"eeg2026/{key}", False)):
        notes = " ".join(check(built, profile=asked, run=False).notes)
        assert (f"--profile eeg2026/{key} checks it against that" in notes) is said, asked


def _changed(path: Path, target: Path, name: str, change) -> Path:
    import zipfile

    with zipfile.ZipFile(path) as archive:  # noqa: TID251 - tampered with on purpose
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    files[name] = change(files[name])
    return write_zip(target, files)


def test_a_flipped_bit_is_named_and_other_numbers_are_seen(quick_check, built, tmp_path):
    key = "bci" if "bci" in str(built) else "sleep"
    graph = f"challenge_{key}.onnx"
    tampered = _changed(built, tmp_path / "t.zip", graph, lambda data: _graph(key)[:-8] + b"\x0a\x02\x08\x00")
    report = quick_check(tampered, profile="eeg2026")
    assert {"RT401", "RT402"} <= codes(report, "failed"), shapes.tick_list(report)
    named = next(r for r in report.results if r.code == "RT401").findings
    assert [finding.where for finding in named] == [graph]


def test_edited_tensors_give_other_numbers(quick_check, built, tmp_path):
    import io

    import torch

    key = "bci" if "bci" in str(built) else "sleep"

    def change(data: bytes) -> bytes:
        tensors = torch.load(io.BytesIO(data), weights_only=True)  # noqa: TID251 - our own file
        floats = [name for name, value in tensors.items() if value.is_floating_point() and value.numel() > 8]
        for name in floats:
            tensors[name] = -tensors[name].flip(0)
        return saved(tensors)

    report = quick_check(_changed(built, tmp_path / "t.zip", f"challenge_{key}.pt", change), profile="eeg2026")
    assert {"RT401", "RT403"} <= codes(report, "failed"), shapes.tick_list(report)


def test_a_branch_of_weight_zero_is_inert(tmp_path):
    import numpy as np

    from rtserve.fusion.fuse import fuse
    from rtserve.fusion.plan import Merge
    from rtserve.graphs.graph import Graph
    from rtserve.submission.reachability_graph import inert_branches

    member = Graph.from_bytes(_graph("sleep", 1e5))
    for weights, expected in (((0.5, 0.5), 0), ((1.0, 0.0), 1)):
        fused = fuse([member], views=["identity", "roll:+3"], merge=Merge(kind="weighted", weights=weights), force=True)
        path = fused.save(tmp_path / f"{expected}.onnx")
        said = list(inert_branches(path, 1e-5))
        assert len([text for text in said if "weight 0" in text]) == expected
        assert len(said) == expected, said
    assert np.isfinite(expected)
