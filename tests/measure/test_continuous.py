"""`rtserve evaluate S.onnx --continuous RAW`: the windows' own numbers, of windows that nobody cut."""

import dataclasses
import json

import mne
import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.fusion.fuse import fuse
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.measure.continuous import evaluate_continuous
from rtserve.measure.evaluate import evaluate
from rtserve.signals.fields import Stated
from rtserve.signals.membership import training_record
from rtserve.signals.windows import WindowSet
from rtserve.spec import TRAINED_ON, Provenance
from rtserve.streaming.build import stream
from rtserve.streaming.whole import AHEAD, answer_starts, stream_answers
from tests.streaming.making import SPEC, deep, graph_of, made

NAMES, HOP = ("F3", "F4", "Cz"), 6
SEGMENTS = [(2.0, 6.0, "rest"), (8.0, 4.0, "task"), (12.0, 2.0, "task"), (14.0, 3.0, "rest"), (18.0, 1.0, "BAD_move")]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Twenty seconds with four segments, two of one class one after the other; (path, volts in the graph's order)."""
    volts = 1e-5 * np.random.default_rng(0).standard_normal((4, 2000))
    raw = mne.io.RawArray(volts, mne.create_info(["Cz", "Oz", "F4", "F3"], 100.0, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations(*zip(*SEGMENTS, strict=True)))
    path = tmp_path_factory.mktemp("continuous") / "sub-01_task-x_raw.fif"
    raw.save(path, fmt="double", verbose="error")
    return path, volts[[3, 2, 0]]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    graph = graph_of(
        deep, dataclasses.replace(SPEC, ch_names=NAMES, unit="uV"), classes=("rest", "task"), target="class"
    )
    return graph.save(tmp_path_factory.mktemp("graph") / "F.onnx"), graph


def by_hand(volts, elsewhere=None):
    """The windows and their classes, by the definition: whole in segments of one class, at every hop."""
    of = np.full(volts.shape[1], -1 if elsewhere is None else elsewhere)
    for onset, length, name in SEGMENTS:
        of[round(100 * onset) : round(100 * (onset + length))] = {"rest": 0, "task": 1, "BAD_move": -2}[name]
    starts = np.arange(48, 2001, HOP) - 48
    kinds = [set(of[start : start + 48].tolist()) for start in starts]
    kept = [(start, kind.pop()) for start, kind in zip(starts, kinds, strict=True) if len(kind) == 1]
    return [start for start, kind in kept if kind >= 0], [kind for _, kind in kept if kind >= 0]


@pytest.mark.parametrize("elsewhere", ["", "rest"])
def test_the_numbers_are_the_windows(recording, graph, elsewhere):
    path, volts = recording
    starts, y = by_hand(volts, 0 if elsewhere else None)
    if elsewhere:  # a window that touches a segment and is not whole in it has no class, whatever lies beside it
        inside = np.zeros(2000, bool)
        for onset, length, _ in SEGMENTS[:4]:
            inside[round(100 * onset) : round(100 * (onset + length))] = True
        part = [0 < inside[start : start + 48].sum() < 48 for start in starts]
        starts, y = ([v for v, cut in zip(values, part, strict=True) if not cut] for values in (starts, y))
    X = np.stack([volts[:, start : start + 48] for start in starts]).astype("f4")
    windows = WindowSet(X=X, y=np.array(y, "f4"), ch_names=NAMES, sfreq=100.0, target="class", classes=("rest", "task"))
    metrics = ("balanced_accuracy", "log_loss")
    wanted = evaluate(graph[1], windows, metrics=metrics, resamples=0)
    found = evaluate_continuous(graph[0], path, hop=HOP, metrics=metrics, elsewhere=elsewhere)
    assert found.evaluation.n == len(starts)
    assert np.array_equal(found.evaluation.targets, wanted.targets)
    assert np.array_equal(found.evaluation.predictions, wanted.predictions)
    for metric in metrics:
        assert found.evaluation[metric].value == pytest.approx(wanted[metric].value, rel=1e-5)
        assert found.evaluation[metric].signature.options == wanted[metric].signature.options


def test_streams_side_by_side_answer_as_one():
    _, step, _ = made("deep", 4)
    length = 48 + 4 * (AHEAD * step.first_answer * 3 + 5) + 3
    data = np.random.default_rng(1).standard_normal((3, length))
    starts = answer_starts(step, length)
    y, steps = stream_answers(step, data, factor=2.0)
    assert steps < len(starts) / 2
    x = np.stack([2.0 * data[:, start : start + 48] for start in starts]).astype("f4")
    assert np.allclose(y, OnnxruntimeRunner(made("deep", 4)[0]).infer(x), rtol=1e-5, atol=1e-5)
    assert starts[-1] + 48 == length - length % 4


def test_the_command(cli, recording, graph, tmp_path):
    step, out = tmp_path / "S.onnx", tmp_path / "scores.json"
    assert cli("stream", graph[0], "--hop", HOP, "-o", step)[0] == 0
    code, said, err = cli("evaluate", step, "--continuous", recording[0], "--tables", "-o", out)
    assert code == 0, err
    assert "326 answers, one every 6 samples; classes from annotations" in said
    assert "not scored:" in said
    assert "in a segment marked as bad" not in said  # BAD_move lies in no segment
    assert "network" in said
    assert "sub-01" in said
    stored = json.loads(out.read_text())
    assert stored["continuous"]["hop"] == HOP
    assert set(stored["continuous"]["seconds"]) == {"read", "clean", "network"}
    assert len(stored["raw"]["targets"]) == len(by_hand(recording[1])[0])


def test_what_cannot_be_scored_is_refused(cli, recording, graph):
    path, file = recording[0], graph[0]
    cases = {
        ("--hop", 6, "--classes", "sleep,wake"): "marks no segment of sleep/wake",
        ("--hop", 6, "--target", "age"): "and no age",
        ("--hop", 6, "--target", "events:"): "and no events:",
        ("--hop", 6, "--target", "class,events:stage"): "and no class,events:stage",
        ("--hop", 6, "--data", "w.npz"): "--continuous and --data do not go together",
        ("--hop", 6, "--threads", 2): "--continuous and --threads do not go together",
        (): "its hop is open",
        ("--hop", 6, "--elsewhere", "noise"): "knows the classes rest, task, the windows rest, task, noise",
        ("--hop", 6, "--band", "60,40"): "--band",
        ("--hop", 6, "--metric", "nrmse"): "is a metric of numbers",
    }
    for options, said in cases.items():
        code, _, err = cli("evaluate", file, "--continuous", path, *options)
        assert code == 2, options
        assert said in err
    code, _, err = cli("evaluate", file, "--data", "w.npz", "--hop", 6)
    assert code == 2
    assert "--hop is of a recording" in err


def test_what_a_step_was_trained_on_is_told_as_of_its_window(recording, graph, tmp_path):
    rng = np.random.default_rng(2)
    windows = WindowSet(
        X=1e-5 * rng.standard_normal((8, 3, 48)).astype("f4"),
        y=np.arange(8, dtype="f4"),
        subject=np.repeat(["P", "Q"], 4),
    )
    record = training_record(windows, np.repeat(["train", "valid"], 4))
    known = dataclasses.replace(graph[1], provenance=Provenance(kind="export", details={TRAINED_ON: record}))
    looked = "of the windows were looked up among those that trained S.onnx; one cut elsewhere is not known"
    silent = "S.onnx {} what they were trained on: whether these windows are new to it is not known"
    cases = [
        (known, True, ""),
        (graph[1], False, silent.replace("they were", "it was").format("does not say")),
        (
            fuse([known, graph[1]], force=True, merge="mean-logits"),
            True,
            "1 of 2 members of " + silent.format("do not say"),
        ),
        (fuse([known, known], force=True, merge="mean-logits"), True, ""),
    ]
    for one, asked, said in cases:
        step = stream(one, hop=HOP)[0].save(tmp_path / "S.onnx", force=True)
        notes = evaluate_continuous(step, recording[0]).evaluation.notes
        assert any(looked in note for note in notes) == asked
        assert [note for note in notes if "not say" in note] == [said] * bool(said)


def test_segments_are_named_by_the_user_too(recording, graph):
    plain = dataclasses.replace(graph[1], output_spec=dataclasses.replace(graph[1].output_spec, classes=()))
    file = plain.save(graph[0].with_name("plain.onnx"), force=True)
    found = evaluate_continuous(file, recording[0], hop=HOP, stated=Stated(classes=("task", "rest")))
    starts, y = by_hand(recording[1])
    assert np.array_equal(found.evaluation.targets, 1 - np.array(y))
    three = Stated(classes=("rest", "task", "BAD_move"))
    with pytest.raises(InputError, match="y must be classes"):
        evaluate_continuous(file, recording[0], hop=HOP, stated=three, elsewhere="other")
    with pytest.raises(InputError, match=r"no window of .* is scored"):
        evaluate_continuous(file, recording[0], hop=HOP, stated=Stated(classes=("BAD_move", "none")))
