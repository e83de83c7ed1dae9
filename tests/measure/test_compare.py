"""`rtserve compare`: what is subtracted, what is refused with exit 3, and what is warned about."""

import json
import struct
from dataclasses import replace
from zipfile import ZipFile  # noqa: TID251  (to make submissions that were not built here)

import numpy as np
import pytest
import torch

from rtserve.errors import InputError, RtserveError
from rtserve.graphs.architecture import architecture_digest
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.measure import rescore
from rtserve.measure.bench import bench
from rtserve.measure.compare import compare
from rtserve.measure.evaluate import evaluate
from rtserve.measure.sides import read_side
from rtserve.measure.suspicions import leaks
from rtserve.signals.windows import WindowSet, save_windows
from rtserve.training.networks import CompactRT

from .conftest import FOREIGN, linear_graph, make_windows

EXPORTER = "rtserve.training.networks:exporter"


@pytest.fixture
def results(graph, windows, tmp_path):
    """Evaluations of a good and a worse graph on the same windows."""
    worse = linear_graph([[1e4], [3e4], [0.0]], 1.6)
    return [
        evaluate(g, windows, name=name, metrics=["nrmse", "mse", "smooth_l1"]).save(tmp_path / f"{name}.json")
        for g, name in ((graph, "good"), (worse, "worse"))
    ]


def checkpoint(path, *, seed, **riders):
    torch.manual_seed(seed)
    torch.save({"model_state_dict": CompactRT(n_chans=3).state_dict()} | riders, path)
    return path


def test_results_on_the_same_windows_are_subtracted_in_pairs(results):
    found = compare(*results, metrics=("nrmse",))
    assert found.comparable
    ((signature, difference),) = found.differences
    assert signature.metric == "nrmse"
    assert difference.verdict == "hurts"
    assert difference.interval.over == "subjects"
    assert difference.constant == pytest.approx(1.0)


def test_results_on_other_windows_are_refused(graph, results, tmp_path, run_cli):
    other = evaluate(graph, make_windows(seed=5)).save(tmp_path / "other.json")
    code, _, err = run_cli("compare", results[0], other)
    assert code == 3
    assert "other windows" in err
    assert "hint: score both graphs on the same windows" in err


def test_settings_line_by_line(results):
    rows = {row.key: row for row in compare(*results).rows}
    assert rows["graph"].verdict == "differs"
    assert (rows["graph"].first, rows["graph"].second) == ("good", "worse")
    assert rows["engine"].verdict == "same"


def test_two_metrics_are_not_one(graph, windows, tmp_path):
    paths = [evaluate(graph, windows, metrics=[m]).save(tmp_path / f"{m}.json") for m in ("mse", "smooth_l1")]
    documents = [json.loads(p.read_text()) for p in paths]
    for path, document in zip(paths, documents, strict=True):
        del document["raw"]
        path.write_text(json.dumps(document))
    found = compare(*paths)
    assert not found.comparable
    assert any("metric: mse against smooth_l1" in reason for reason in found.refusals)
    assert any("half the squared error" in warning for warning in found.warnings)


def test_equal_signatures_without_predictions_are_subtracted_without_interval(results):
    for path in results:
        document = json.loads(path.read_text())
        del document["raw"]
        path.write_text(json.dumps(document))
    found = compare(*results)
    assert found.comparable
    assert not found.differences
    assert any("no interval" in line for line in found.lines())


def test_the_origin_is_caught(tmp_path, run_cli):
    """A SmoothL1 called val_loss beside an MSE called val_loss: refused, with the reason and what to run."""
    a = checkpoint(tmp_path / "v8.pth", seed=1, val_loss=0.079314, settings={"lr": 1e-3, "mixup": True})
    b = checkpoint(tmp_path / "v3.pth", seed=2, val_loss=0.160919, settings={"lr": 1e-3, "mixup": False})
    code, text, err = run_cli("compare", a, b)
    assert code == 3
    assert "without a signature" in err
    assert "--data W.npz" in err
    assert "half the squared error" in text
    assert "settings.mixup" in text
    assert "settings.lr" not in text
    code, text, _ = run_cli("compare", a, b, "--json")
    assert code == 3
    assert json.loads(text)["comparable"] is False


def test_two_runs_that_state_both_losses_are_not_warned_about(results):
    assert not any("half the squared error" in warning for warning in compare(*results).warnings)


def test_other_architectures_are_warned_about(tmp_path):
    a = checkpoint(tmp_path / "a.pth", seed=1)
    torch.save(CompactRT(n_chans=4).state_dict(), tmp_path / "b.pth")
    warnings = compare(a, tmp_path / "b.pth").warnings
    assert any("architectures differ" in w for w in warnings)
    assert any("parameter counts differ" in w for w in warnings)
    assert not compare(a, checkpoint(tmp_path / "c.pth", seed=2)).warnings


def test_what_export_left_out_of_a_checkpoint_is_no_other_architecture(tmp_path, run_cli):
    network = CompactRT(n_chans=3)
    beside = {"criterion.pos_weight": torch.tensor([3.2, 1.0]), "val_acc.tp": torch.tensor(0)}
    state = {f"model.{key}": value for key, value in network.state_dict().items()} | beside
    torch.save({"epoch": 9, "pytorch-lightning_version": "2.5.0", "state_dict": state}, tmp_path / "epoch9.ckpt")
    code, _, err = run_cli("export", tmp_path / "epoch9.ckpt", "--exporter", EXPORTER, "-o", tmp_path / "m.onnx")
    assert code == 0, err
    for sides in (("epoch9.ckpt", "m.onnx"), ("m.onnx", "epoch9.ckpt")):
        found = compare(*(tmp_path / side for side in sides))
        rows = {row.key: row.verdict for row in found.rows}
        assert (rows["architecture"], rows["parameters"]) == ("same", "same")
        assert not found.warnings
    torch.save({"state_dict": state | {"model.more": torch.zeros(2)}}, tmp_path / "more.ckpt")
    assert any("architectures differ" in w for w in compare(tmp_path / "more.ckpt", tmp_path / "m.onnx").warnings)


def test_safetensors_are_compared_as_any_checkpoint(tmp_path):
    pth = checkpoint(tmp_path / "a.pth", seed=1)
    state = load_checkpoint(pth).state_dict
    table, body = {}, b""
    for key, value in state.items():
        raw = value.numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64"}[value.dtype]
        table[key] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    header = json.dumps(table).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + body)
    found = compare(pth, tmp_path / "a.safetensors")
    assert {row.key: row.verdict for row in found.rows}["architecture"] == "same"
    assert not found.warnings
    index = {"weight_map": dict.fromkeys(state, "a.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not compare(pth, tmp_path / "model.safetensors.index.json").warnings


def test_a_checkpoint_and_its_own_export_are_one_architecture(small_checkpoints, small_members):
    found = compare(small_checkpoints[0], small_members[0])
    assert {row.key: row.verdict for row in found.rows}["architecture"] == "same"
    assert not any("architectures differ" in warning for warning in found.warnings)
    assert architecture_digest({"a.weight_g": [3, 1], "a.weight_v": [3, 4], "a.bias": [3]}) == architecture_digest(
        {
            "a.bias": [3],
            "a.parametrizations.weight.original0": [3, 1],
            "a.parametrizations.weight.original1": [3, 4],
            "n.num_batches_tracked": [],
        }
    )
    assert architecture_digest({"a.weight": [3]}) != architecture_digest({"a.weight": [4]})


def test_graphs_are_scored_again_in_this_process(graph, windows, tmp_path, monkeypatch):
    monkeypatch.setattr(rescore, "subprocess", None)
    f, g = graph.save(tmp_path / "f.onnx"), linear_graph([[2e4], [0], [0]], 1.6).save(tmp_path / "g.onnx")
    w = save_windows(tmp_path / "w.npz", windows)
    told = []
    found = compare(f, g, data=w, train=w, progress=lambda *one: told.append(one))
    assert found.comparable
    assert (240, 240, "scoring windows") in told
    assert told[-3:] == [(k, 3, f"resampling {name}") for k, name in enumerate(("nrmse", "rmse", "mse"))]
    assert any("120 of 120 test windows" in warning for warning in found.warnings)
    assert [s.metric for s, _ in found.differences] == ["nrmse", "rmse", "mse"]
    assert found.differences[0][1].first == pytest.approx(evaluate(graph, windows)["nrmse"].value)


def test_a_thing_compared_with_itself_is_told(results):
    same = compare(results[0], results[0])
    assert any("bit for bit" in warning for warning in same.warnings)
    assert any("same bytes" in warning for warning in same.warnings)
    assert all(d.verdict == "identical" for _, d in same.differences)


def test_training_windows_in_the_test_set_are_found(tmp_path):
    windows = make_windows(subjects=12)
    test = save_windows(tmp_path / "test.npz", windows.take(windows.subject >= "S06"))
    train = save_windows(tmp_path / "train.npz", windows.take(windows.subject < "S06"))
    both = save_windows(tmp_path / "all.npz", windows)
    assert leaks(test, train) == leaks(test, None) == []
    found = leaks(test, both)
    assert any("60 of 60 test windows" in warning for warning in found)
    assert any("6 subjects are in training and test" in warning for warning in found)


def test_times_of_two_runs_are_refused(graph, tmp_path, run_cli):
    a, b = (bench(graph, rounds=2, seed=s).save(tmp_path / f"{s}.json") for s in (0, 1))
    code, _, err = run_cli("compare", a, b)
    assert code == 3
    assert "by turns in one run" in err


def test_what_is_no_graph_is_scored_in_a_process_whose_errors_come_back_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(rescore, "main", None)
    side = read_side(checkpoint(tmp_path / "f.pth", seed=1))
    with pytest.raises(InputError, match=r"f\.pth: .*nowhere\.npz does not exist"):
        rescore.rescore(side, tmp_path / "nowhere.npz")


def test_a_process_that_scores_says_how_far_it_is(results, tmp_path, monkeypatch):
    child = tmp_path / "python"
    child.write_text(f"#!/bin/sh\necho 'a word of its own'\necho 'windows 3 of 9'\ncp {results[0]} $5\n")
    child.chmod(0o755)
    monkeypatch.setattr(rescore.sys, "executable", str(child))
    told = []
    side = read_side(checkpoint(tmp_path / "f.pth", seed=1))
    found = rescore.rescore(side, "w.npz", progress=lambda *one: told.append(one))
    assert (found.kind, told) == ("result", [(3, 9)])
    child.write_text("#!/bin/sh\necho 'what was wrong' >&2\nexit 7\n")
    with pytest.raises(RtserveError, match="ended with 7: what was wrong"):
        rescore.rescore(side, "w.npz")


def test_errors_of_a_graph_come_back_as_they_are(graph, windows, tmp_path, run_cli):
    f = graph.save(tmp_path / "f.onnx")
    two = WindowSet(X=windows.X[:, :2], y=windows.y)
    code, _, err = run_cli("compare", f, f, "--data", save_windows(tmp_path / "w.npz", two))
    assert code == 2
    assert "n_chans 2 against 3" in err


@pytest.mark.parametrize("name", ["no.json", "notes.txt", "empty"])
def test_what_is_no_side_is_exit_2(name, results, tmp_path, run_cli):
    path = tmp_path / name
    if name == "notes.txt":
        path.write_text("x")
    elif name == "empty":
        path.mkdir()
    assert run_cli("compare", results[0], path)[0] == 2


def test_a_run_folder_is_its_seeds(tmp_path):
    for seed in (1, 2):
        (tmp_path / "run" / f"seed{seed}").mkdir(parents=True)
        checkpoint(tmp_path / "run" / f"seed{seed}" / "best.pth", seed=seed, settings={"lr": 0.1, "seed": seed})
    checkpoint(tmp_path / "one.pth", seed=1, settings={"lr": 0.2, "seed": 1})
    rows = {row.key: row for row in compare(tmp_path / "run", tmp_path / "one.pth").rows}
    assert rows["seeds"].first == "mean of 2: seed1, seed2"
    assert (rows["settings.lr"].first, rows["settings.lr"].second) == ("0.1", "0.2")
    assert rows["settings.seed"].first == "1, 2"


def test_any_zip_is_scored_through_its_entry_point(tmp_path, run_cli):
    rng = np.random.default_rng(0)
    X = (1e-5 * (rng.standard_normal((30, 129, 200)) + rng.standard_normal((30, 129, 1)))).astype("f4")
    y = (1.6 + 2e4 * X[:, 0].mean(axis=1) + 0.01 * rng.standard_normal(30)).astype("f4")
    w = save_windows(tmp_path / "w.npz", WindowSet(X=X, y=y))
    for name in ("a.zip", "b.zip"):
        with ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("submission.py", FOREIGN.replace("2e4", "2e4" if name == "a.zip" else "1e4"))
    code, text, said = run_cli(
        "compare", tmp_path / "a.zip", tmp_path / "b.zip", "--data", w, "--metric", "rmse", "--json"
    )
    assert code == 0
    assert "b.zip is scored as challenge 1 of eeg2025" in said
    (found,) = json.loads(text)["differences"]
    assert found["first"] == pytest.approx(0.01, rel=0.5)
    assert found["verdict"] == "hurts"
    small = save_windows(tmp_path / "s.npz", make_windows())
    assert run_cli("compare", tmp_path / "a.zip", tmp_path / "b.zip", "--data", small)[0] == 2


@pytest.mark.shared
@pytest.mark.usefixtures("sides_here")
def test_real_checkpoints_scored_with_one_metric(shared_dir, tmp_path):
    rng = np.random.default_rng(0)
    X = (1e-5 * rng.standard_normal((60, 129, 200))).astype("f4")
    w = WindowSet(X=X, y=(1.6 + 0.4 * rng.standard_normal(60)).astype("f4"), sfreq=100.0)
    folder = shared_dir / "checkpoints/compact_rt"
    found = compare(
        folder / "v8_weights_challenge_1.pt", folder / "seed42.pth", data=save_windows(tmp_path / "w.npz", w)
    )
    assert found.comparable
    assert found.first.parameters == found.second.parameters == 74_753
    assert found.first.architecture == found.second.architecture
    assert found.differences[0][1].first == pytest.approx(1.0, abs=0.05)


@pytest.mark.usefixtures("sides_here")
def test_what_intervals_rest_on_is_said_beside_the_verdicts(tmp_path):
    windows = make_windows(60)
    paths = [linear_graph([[w], [0.0], [0.0]], 1.6).save(tmp_path / f"{k}.onnx") for k, w in enumerate((3e4, 1e4))]
    for subject, said in ((np.empty(0, "U1"), True), (windows.subject, False)):
        w = save_windows(tmp_path / "w.npz", replace(windows, subject=subject), force=True)
        found = compare(*paths, data=w, metrics=["rmse"])
        assert any("intervals are over windows" in warning for warning in found.warnings) == said
