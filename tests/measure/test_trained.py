"""A graph is not scored on its training windows unless somebody says so, and then the signature says it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.fusion.fuse import fuse
from rtserve.measure.evaluate import evaluate
from rtserve.measure.signature import Signature
from rtserve.signals.membership import training_record
from rtserve.signals.windows import save_windows
from rtserve.spec import TRAINED_ON, Provenance

from .conftest import make_windows


@pytest.fixture
def marked(windows):
    """Windows of twelve people: six trained, three chose, three were left out."""
    number = np.char.strip(windows.subject, "S").astype(int)
    marks = np.select([number < 6, number < 9], ["train", "valid"], "test")
    return replace(windows, extra={"split": marks})


@pytest.fixture
def trained(graph, marked):
    record = training_record(marked, marked.extra["split"])
    return replace(graph, provenance=Provenance(kind="export", details={TRAINED_ON: record}))


def signed(found):
    return found.scores[0].signature.split


@pytest.mark.parametrize("fused", [False, True])
def test_by_default_the_test_windows_are_scored(trained, marked, fused):
    one = fuse([trained], views=["identity", "scale:1.02"], optimize=False) if fused else trained
    found = evaluate(one, marked, resamples=50)
    assert (found.n, signed(found)) == (30, "test")
    assert any("60 of 120 windows are of people that it was trained on" in note for note in found.notes)
    assert found["nrmse"].value == evaluate(one, marked, split="test", resamples=50)["nrmse"].value


def test_training_windows_are_refused_unless_asked_for(trained, marked):
    with pytest.raises(InputError, match="scored on what it was trained on: 60 of 120"):
        evaluate(trained, marked, split="all")
    found = evaluate(trained, marked, split="train", resamples=50)
    assert (found.n, signed(found)) == (60, "training windows")
    text = str(found.scores[0].signature)
    assert "|split:training windows|" in text
    assert Signature.parse(text).differences(evaluate(trained, marked, split="test", resamples=50).scores[0].signature)


def test_a_file_without_marks_and_with_other_targets_is_known_again(trained, marked):
    other = replace(marked, y=marked.y * np.float32(2), extra={})
    with pytest.raises(InputError, match="scored on what it was trained on: 60 of 120"):
        evaluate(trained, other)
    found = evaluate(trained, other, split="train", resamples=50)
    assert (found.n, signed(found)) == (60, "training windows")
    left = evaluate(trained, other.take(marked.extra["split"] == "test"), resamples=50)
    assert signed(left) == "all"
    assert not any("trained" in note for note in left.notes)


def test_what_chose_the_epoch_is_said(trained, marked):
    found = evaluate(trained, marked, split="valid", resamples=50)
    assert signed(found) == "valid"
    assert any("30 of 30 chose its epoch or calibration" in note for note in found.notes)


def test_a_graph_without_a_record_is_scored_with_a_note_on_marked_files_only(graph, marked):
    found = evaluate(graph, marked, resamples=50)
    assert (found.n, signed(found)) == (120, "all")
    assert any("60 of these 120 windows are marked train in this file" in note for note in found.notes)
    for windows, split in ((make_windows(), None), (marked, "test")):
        assert not any("marked train" in note for note in evaluate(graph, windows, split=split, resamples=50).notes)


def test_the_command_refuses_and_says_how(trained, marked, tmp_path, run_cli):
    trained.save(tmp_path / "f.onnx")
    save_windows(tmp_path / "w.npz", marked)
    code, _, err = run_cli("evaluate", tmp_path / "f.onnx", "--data", tmp_path / "w.npz", "--split", "all")
    assert code == 2
    assert "f.onnx would be scored on what it was trained on" in err
    assert "--split train" in err
    code, out, _ = run_cli("evaluate", tmp_path / "f.onnx", "--data", tmp_path / "w.npz")
    assert code == 0
    assert "|split:test|" in out
