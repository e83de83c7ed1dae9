"""`rtserve evaluate`: the numbers, the constant beside them, and every bad input it may meet."""

import json
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile  # noqa: TID251  (to make a file that must be refused)

import numpy as np
import pytest

import rtserve
from rtserve.errors import InputError, RtserveError
from rtserve.measure.evaluate import evaluate
from rtserve.measure.overall import evaluate_overall
from rtserve.measure.results import load_result
from rtserve.signals.windows import WindowSet, load_windows, save_windows

from .conftest import linear_graph, make_windows


def test_scores_are_their_definitions(graph, windows):
    result = evaluate(graph, windows)
    p = 3e4 * windows.X[:, 0].astype("f8").mean(axis=1) + 1.6
    rmse = np.sqrt(np.mean((p - windows.y.astype("f8")) ** 2))
    assert result["rmse"].value == pytest.approx(rmse, rel=1e-5)
    assert result["mse"].value == pytest.approx(rmse**2, rel=1e-5)
    assert result["nrmse"].value == pytest.approx(rmse / np.std(windows.y.astype("f8")), rel=1e-5)
    assert 0.2 < result["nrmse"].value < 0.9
    assert result["nrmse"].interval.over == "subjects"
    assert result["nrmse"].value in result["nrmse"].interval
    assert result.baseline[0].value == pytest.approx(1.0)
    assert result.oracle is not None
    assert [note.partition(":")[0] for note in result.notes] == ["graph does not say what it was trained on"]


def test_signature_names_the_data(graph, windows):
    signature = str(evaluate(graph, windows)["nrmse"].signature)
    assert signature == f"nrmse|norm:std|ddof:0|agg:windows|n:120|data:{windows.digest[:12]}|split:all|v:1"


def test_the_verb_is_in_the_package(graph, windows):
    assert rtserve.evaluate(graph, windows)["nrmse"] == evaluate(graph, windows)["nrmse"]


@pytest.mark.parametrize("batch", [1, 7, 120, 1000])
def test_batch_does_not_matter(graph, windows, batch):
    assert np.allclose(
        evaluate(graph, windows, batch=batch).predictions, evaluate(graph, windows).predictions, rtol=1e-6
    )


@pytest.mark.parametrize("batch", [1, 7])
def test_a_graph_with_a_fixed_batch_is_served_by_it(windows, batch):
    fixed, free = (linear_graph([[3e4], [0], [0]], 1.6, batch=b) for b in (batch, "batch"))
    assert np.allclose(evaluate(fixed, windows).predictions, evaluate(free, windows).predictions, rtol=1e-6)


def test_a_graph_in_microvolts_gets_microvolts(windows):
    volts, micro = linear_graph([[3e4], [0], [0]], 1.6), linear_graph([[3e-2], [0], [0]], 1.6, unit="uV")
    assert np.allclose(evaluate(volts, windows).predictions, evaluate(micro, windows).predictions, rtol=1e-5)


def test_classes_get_balanced_accuracy():
    windows = make_windows()
    y = (windows.X[:, 0].mean(axis=1) > 0).astype("f4")
    windows = replace(windows, y=y)
    result = evaluate(linear_graph(np.array([[-1e5, 1e5], [0, 0], [0, 0]]), target="class"), windows)
    assert result["balanced_accuracy"].value == 1.0
    assert result.baseline[0].value == 0.5


def test_targets_that_are_no_classes_are_refused(windows):
    with pytest.raises(InputError, match=r"classes 0\.\.1"):
        evaluate(linear_graph(np.zeros((3, 2)), target="class"), windows)


def test_a_constant_answer_is_noted(windows):
    result = evaluate(linear_graph([[0.0], [0], [0]], 1.6), windows)
    assert any("answers a constant" in note for note in result.notes)


def test_predicting_the_mean_is_noted(windows):
    rng = np.random.default_rng(0)
    useless = linear_graph([[0.0], [0.0], [1e4]], float(rng.normal(windows.y.mean(), 0.001)))
    assert any("not told apart from 1.00" in note for note in evaluate(useless, windows).notes)


def test_nan_answers_are_an_error(windows):
    with pytest.raises(RtserveError, match="NaN or Inf to 120 of 120"):
        evaluate(linear_graph([[np.nan], [0], [0]]), windows)


def test_split_scores_only_those(graph):
    windows = make_windows()
    marks = np.where(np.arange(120) < 30, "train", "test")
    windows = replace(windows, extra={"split": marks})
    result = evaluate(graph, windows, split="test")
    assert result.n == 90
    assert result["nrmse"].signature.split == "test"
    with pytest.raises(InputError, match="valid"):
        evaluate(graph, windows, split="valid")


def test_overall(graph):
    one, two = make_windows(seed=1), make_windows(seed=2, noise=2.0)
    both = evaluate_overall((graph, one), (graph, two), weights=(0.3, 0.7))
    c1, c2 = evaluate(graph, one)["nrmse"].value, evaluate(graph, two)["nrmse"].value
    assert both.value == round(0.3 * c1 + 0.7 * c2, 5)
    assert both.constant == 1.0
    assert both.value in both.interval


def test_command_prints_writes_and_repeats(graph, windows, tmp_path, run_cli):
    f, w, out = graph.save(tmp_path / "f.onnx"), save_windows(tmp_path / "w.npz", windows), tmp_path / "r.json"
    code, text, _ = run_cli("evaluate", f, "--data", w, "-o", out)
    assert code == 0
    assert "constant: 1\n" in text
    assert "nrmse|norm:std|ddof:0|agg:windows|n:120|data:" in text
    first = out.read_bytes()
    assert run_cli("evaluate", f, "--data", w, "-o", out)[0] == 2
    assert run_cli("evaluate", f, "--data", w, "-o", out, "--force")[0] == 0
    assert out.read_bytes() == first
    stored = load_result(out, "evaluation")
    assert np.array_equal(np.float32(stored["raw"]["targets"]), windows.y)
    assert str(tmp_path) not in first.decode()


def test_command_json_overall(graph, windows, tmp_path, run_cli):
    f, w = graph.save(tmp_path / "f.onnx"), save_windows(tmp_path / "w.npz", windows)
    code, text, _ = run_cli("evaluate", "--c1", f, w, "--c2", f, w, "--json")
    assert code == 0
    result = json.loads(text)
    assert result["schema"] == "rtserve.overall/1"
    assert result["overall"] == pytest.approx(result["c1"]["scores"][0]["value"], abs=1e-5)


def spoil_windows(case: str, windows: WindowSet) -> WindowSet:
    X, y, subject = windows.X.copy(), windows.y.copy(), windows.subject
    if case == "channels":
        X = X[:, :2]
    elif case == "constant":
        y[:] = 1.5
    elif case == "empty":
        X, y, subject = X[:0], y[:0], subject[:0]
    return WindowSet(X=X, y=y, subject=subject, sfreq=100.0)


def spoil_files(case: str, f: Path, w: Path) -> None:
    if case == "zip":
        with ZipFile(w, "w") as archive:
            archive.writestr("submission.py", "pass")
    elif case == "nan":
        with np.load(w) as archive:
            arrays = dict(archive)
        arrays["X"][5, 1, 3] = np.nan
        np.savez(w, **arrays)
    elif case == "text":
        w.write_text("not windows")
    elif case == "missing":
        w.unlink()
    elif case == "graph":
        f.write_bytes(b"no graph")


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("zip", "not a window set but a zip of other files (submission.py)"),
        ("nan", "1 windows hold NaN or Inf"),
        ("channels", "n_chans 2 against 3"),
        ("constant", "std of y is 0"),
        ("empty", "no windows"),
        ("text", "is not a window set"),
        ("missing", "does not exist"),
        ("graph", "is not an ONNX model"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(case, says, graph, windows, tmp_path, run_cli):
    f, w, out = graph.save(tmp_path / "f.onnx"), tmp_path / "w.npz", tmp_path / "r.json"
    save_windows(w, spoil_windows(case, windows))
    spoil_files(case, f, w)
    refused(run_cli("evaluate", f, "--data", w, "-o", out), says)
    assert not out.exists()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["f.onnx"], "no windows to score"),
        (["--data", "w.npz"], "no graph to score"),
        (["--c1", "f.onnx", "w.npz"], "go together"),
        (["f.onnx", "--data", "w.npz", "--metric", "loss"], "unknown metric 'loss'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(argv, says, graph, windows, tmp_path, run_cli, monkeypatch):
    graph.save(tmp_path / "f.onnx")
    save_windows(tmp_path / "w.npz", windows)
    monkeypatch.chdir(tmp_path)
    refused(run_cli("evaluate", *argv), says)


def refused(outcome: tuple[int, str, str], says: str) -> None:
    code, text, err = outcome
    error, hint = err.strip().splitlines()
    assert code == 2
    assert text == ""
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert says in error


def test_unwritable_output_is_found_before_the_work(graph, windows, tmp_path, run_cli):
    f, w = graph.save(tmp_path / "f.onnx"), save_windows(tmp_path / "w.npz", windows)
    code, _, err = run_cli("evaluate", f, "--data", w, "-o", tmp_path)
    assert code == 2
    assert "is a folder" in err


@pytest.mark.shared
def test_real_windows_score_their_own_constant(shared_dir):
    windows = load_windows(shared_dir / "data/muse_cueing/muse_cueing_2s.npz")
    from rtserve.measure.evaluation import score_predictions

    result = score_predictions(np.full(len(windows), windows.y.mean()), windows)
    assert result["nrmse"].value == pytest.approx(1.0, abs=1e-4)
    assert result["rmse"].value == pytest.approx(0.158, abs=1e-3)
    assert result["nrmse"].interval.units == 66
    assert result.oracle.value < 0.95


def test_progress_counts_every_window(graph, windows):
    seen: list[tuple[int, int]] = []
    evaluate(graph, windows, batch=50, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(50, 120), (100, 120), (120, 120)]
