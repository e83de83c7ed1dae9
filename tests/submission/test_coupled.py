"""A network that looks at its batch, in a zip: the contest decides, and whoever builds, checks or scores it is told."""

import hashlib
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import parser

from rtserve.errors import SpecMismatchError
from rtserve.graphs.graph import Graph
from rtserve.measure.evaluate import evaluate
from rtserve.measure.zipped import evaluate_zip
from rtserve.signals.windows import WindowSet
from rtserve.submission.build_report import build_text
from rtserve.submission.bundle import build
from rtserve.submission.custody import verify
from rtserve.submission.scoring import predict_zip
from tests.submission.small import small_graph

BATCHWISE = {
    "centred": "m = ReduceMean <keepdims = 1> (x, batch) c = Sub (x, m) a = Add (c, x)",
    "softmax": "s = Softmax <axis = 0> (x) a = Add (s, x)",
}


def coupled_graph(path, kind, *, n_chans=129, n_times=200, n_outputs=1, scale=1e3, unit="V", sfreq=100.0, target=""):
    """Write a graph whose answer to a window depends on the others; nobody has examined it."""
    text = f"""<ir_version: 9, opset_import: ["" : 20]>
    net (float[batch, {n_chans}, {n_times}] x) => (float[batch, {n_outputs}] y)
    <int64[1] batch = {{0}}, int64[1] time = {{2}}, float scale = {{{scale}}}, float[{n_chans}, {n_outputs}] w> {{
      {BATCHWISE[kind]} b = Mul (a, scale) t = Tanh (b) u = Abs (t)
      r = ReduceMean <keepdims = 0> (u, time) y = MatMul (r, w) }}"""
    model = parser.parse_model(text)
    (value,) = [v for v in model.graph.value_info if v.name == "w"]
    w = np.random.default_rng(n_chans).uniform(0.1, 1.0, (n_chans, n_outputs)).astype("f4") / n_chans
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    model.graph.value_info.remove(value)
    graph = Graph.from_bytes(model.SerializeToString())
    inputs, outputs = replace(graph.input_spec, unit=unit, sfreq=sfreq), replace(graph.output_spec, target=target)
    replace(graph, input_spec=inputs, output_spec=outputs).save(path)
    return path


def recipe(folder, graphs, *, profile="eeg2025"):
    lines = [f'profile = "{profile}"', 'runtime = "torch"']
    for key, path in graphs.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines += [f"[[challenges.{key}.members]]", f'graph = "{path.name}"', f'sha256 = "{digest}"']
    (folder / "submission.toml").write_text("\n".join(lines) + "\n")
    return folder / "submission.toml"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A zip for a contest that warns: challenge 1 is coupled, challenge 2 is not."""
    folder = tmp_path_factory.mktemp("coupled")
    first = coupled_graph(folder / "c.onnx", "centred", scale=1e5, target="response_time")
    second = folder / "p.onnx"
    small_graph(1).save(second)
    return build(recipe(folder, {"1": first, "2": second}), output=folder / "s.zip")


def test_build_says_it_where_the_contest_lets_it_pass(built):
    told = built.manifest["challenges"]["1"]["coupled"]
    assert told["batch"] == 1
    assert "over the batch axis" in told["by"]
    assert "coupled" not in built.manifest["challenges"]["2"]
    assert f"coupled: {told['by']}; the contest gives one window at a time" in build_text(built)


def test_its_reference_answers_are_those_to_windows_as_the_contest_gives_them(built, quick_drives):
    found = verify(built.path)
    assert found.passed, [step for step in found.steps if step.status == "failed"]


def test_check_warns_of_it_and_finds_the_numbers_of_the_graph(built, quick_check):
    report = quick_check(built.path)
    by_code = {result.code: result for result in report.results}
    assert by_code["RT318"].status == "warned"
    assert {by_code[code].status for code in ("RT403", "RT405")} == {"passed"}
    assert report.verdict == "passed"


def test_a_score_of_the_zip_is_one_of_the_contests_batch(built, quick_drives):
    rng = np.random.default_rng(0)
    X = (1e-5 * rng.standard_normal((24, 129, 200)) * rng.uniform(0.5, 2, (24, 1, 1))).astype("f4")
    y = (1.6 + 1e4 * X.std(axis=(1, 2))).astype("f4")
    windows = WindowSet(X=X, y=y, subject=np.repeat(list("ABCD"), 6), sfreq=100.0, unit="V", target="response_time")
    of_zip = evaluate_zip(built.path, windows, predict_zip)
    graph = Graph.load(built.path.parent / "c.onnx")
    alone, together = (evaluate(graph, windows, batch=size, resamples=0)["rmse"] for size in (1, 8))
    assert of_zip["rmse"].value == pytest.approx(alone.value, rel=1e-4)
    assert of_zip["rmse"].value != pytest.approx(together.value, rel=1e-2)
    assert not of_zip["rmse"].signature.differences(alone.signature)
    assert any("which the contest chose" in note for note in of_zip.notes)


@pytest.mark.parametrize("kind", BATCHWISE)
def test_build_refuses_it_where_the_contest_gives_one_at_a_time_and_counts_on_it(kind, tmp_path):
    graph = coupled_graph(tmp_path / "c.onnx", kind, n_chans=4, n_times=640, unit="uV", sfreq=128.0, scale=0.1)
    toml = recipe(tmp_path, {"sleep": graph}, profile="eeg2026/sleep")
    with pytest.raises(SpecMismatchError, match=r"gives one window at a time .* over the batch axis"):
        build(toml, output=tmp_path / "s.zip")
    assert not (tmp_path / "s.zip").exists()


def test_a_zip_that_was_built_all_the_same_fails(tmp_path, monkeypatch, quick_check):
    graph = coupled_graph(tmp_path / "c.onnx", "centred", n_chans=4, n_times=640, unit="uV", sfreq=128.0, scale=0.1)
    from rtserve.submission import fitting

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "differences", lambda *given: [])
        made = build(recipe(tmp_path, {"sleep": graph}, profile="eeg2026/sleep"), output=tmp_path / "s.zip")
    report = quick_check(made.path, profile="eeg2026/sleep")
    failed = {result.code for result in report.results if result.status == "failed"}
    assert {"RT318", "RT405"} <= failed


@pytest.fixture(scope="module")
def allowed(tmp_path_factory):
    """A zip for a contest that gives batches and lets them matter."""
    folder = tmp_path_factory.mktemp("allowed")
    sizes = {"n_chans": 32, "n_times": 120, "n_outputs": 1536, "unit": "1", "sfreq": 120.0}
    graph = coupled_graph(folder / "c.onnx", "centred", scale=1.0, **sizes)
    return build(recipe(folder, {"image": graph}, profile="eeg2026/image"), output=folder / "s.zip")


def test_it_is_built_and_verified_where_the_contest_allows_it(allowed, quick_drives):
    assert "the contest gives 64 windows at once" in build_text(allowed)
    found = verify(allowed.path)
    assert found.passed, [step for step in found.steps if step.status == "failed"]


def test_it_passes_where_the_contest_allows_it(allowed, quick_check):
    report = quick_check(allowed.path, profile="eeg2026/image")
    assert {r.code for r in report.results if r.status == "failed"} == set()
