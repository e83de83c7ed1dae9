"""A graph is not scored on its training windows unless somebody says so, and then the signature says it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.fusion.fuse import fuse
from rtserve.measure.branches import try_branches
from rtserve.measure.calibrate import calibrate
from rtserve.measure.compare import compare
from rtserve.measure.evaluate import evaluate
from rtserve.measure.search import search
from rtserve.measure.signature import Signature
from rtserve.measure.trained import records_of, require_asked
from rtserve.signals.membership import training_record
from rtserve.signals.windows import save_windows
from rtserve.spec import TRAINED_ON, Provenance

from .conftest import linear_graph, make_windows


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


def test_a_graph_without_a_record_is_scored_with_a_note_and_marks_are_told(graph, marked):
    found = evaluate(graph, marked, resamples=50)
    assert (found.n, signed(found)) == (120, "all")
    assert any("60 of these 120 windows are marked train in this file" in note for note in found.notes)
    for windows, split in ((make_windows(), None), (marked, "test")):
        notes = evaluate(graph, windows, split=split, resamples=50).notes
        assert not any("marked train" in note for note in notes)
        assert (
            notes.count("graph does not say what it was trained on: whether these windows are new to it is not known")
            == 1
        )


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


@pytest.fixture
def other():
    """A graph that does not say what it was trained on."""
    return linear_graph([[1e5], [2e4], [0.0]], 1.6)


def saved(folder, **graphs):
    return [str(graph.save(folder / f"{name}.onnx")) for name, graph in graphs.items()]


@pytest.mark.usefixtures("sides_here")
def test_compare_scores_both_on_windows_that_are_new_to_both(trained, other, marked, tmp_path):
    sides, data = saved(tmp_path, a=trained, b=other), save_windows(tmp_path / "w.npz", marked)
    found = compare(*sides, data=data, metrics=["nrmse"])
    ((signature, difference),) = found.differences
    assert (signature.split, signature.n) == ("test", 30)
    assert difference.first == evaluate(trained, marked, split="test", resamples=0)["nrmse"].value
    assert any("60 of 120 windows are of people that it was trained on" in text for text in found.warnings)
    assert "b.onnx does not say what it was trained on" in found.warnings


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.usefixtures("sides_here")
def test_compare_refuses_what_either_was_trained_on_unless_asked_for(trained, other, marked, tmp_path, turned):
    sides, data = saved(tmp_path, a=trained, b=other), save_windows(tmp_path / "w.npz", marked)
    sides = sides[::-1] if turned else sides
    with pytest.raises(InputError, match="trained on: 60 of 120"):
        compare(*sides, data=data, split="all")
    found = compare(*sides, data=data, split="train", metrics=["nrmse"])
    ((signature, _),) = found.differences
    assert (signature.split, signature.n) == ("training windows", 60)
    assert any(text.startswith("of a.onnx: 60 of 60") for text in found.warnings)


def test_members_without_a_record_are_told_whatever_the_others_say(trained, other, marked, tmp_path):
    both = fuse([trained, other], force=True)
    notes = evaluate(both, marked, resamples=50, name="f.onnx").notes
    said = "1 of 2 members of f.onnx do not say what they were trained on: whether these windows are new to it is not known"
    assert said in notes
    assert not any("do not say" in note for note in evaluate(trained, marked, resamples=50).notes)
    names = saved(tmp_path, a=trained, b=other)
    silent = "b.onnx does not say what it was trained on: whether these windows are new to it is not known"
    assert silent in search(names, marked, resamples=50).notes
    report = calibrate(names[1], replace(marked, extra={}), split="all")
    assert silent in report.notes
    assert report.fitted_on.startswith("120 windows of")
    # What a calibration was fitted on says nothing of the network within.
    assert any("does not say" in note for note in evaluate(report.graph, make_windows(seed=5), resamples=50).notes)
    new = save_windows(tmp_path / "n.npz", make_windows(seed=5))
    assert "b.onnx does not say what it was trained on" in compare(names[1], names[1], data=new).warnings


def test_search_neither_fits_nor_tells_on_training_windows(trained, other, marked):
    found = search([trained, other], marked, resamples=50)
    assert found.signature.n == 60  # six people of ten windows trained; of the other six too few could be set aside
    assert found.trained_on["trained"] == 60
    (note,) = [note for note in found.notes if "a member was trained on" in note]
    assert "60 of 120 windows are of people that a member was trained on" in note
    assert "60 are left out" in note


def test_search_does_not_tell_on_what_chose_an_epoch(trained, other, marked):
    named = replace(marked, extra={})
    wide = make_windows(300, subjects=30, seed=7)
    both = replace(
        named,
        X=np.concatenate([named.X, wide.X]),
        y=np.concatenate([named.y, wide.y]),
        subject=np.concatenate([named.subject, np.char.add("W", wide.subject.astype("U"))]),
    )
    found = search([trained, other], both, resamples=50)
    assert found.over == "14 subjects set aside"  # 0.4 of 36 people who did not train
    assert found.signature.n == 60 + 300 - 140
    assert any("30 of 420 chose a member's epoch" in note for note in found.notes)


def test_search_on_training_windows_alone_is_refused_unless_asked_for(trained, other, marked):
    seen = marked.take(marked.extra["split"] == "train")
    with pytest.raises(InputError, match="a member would be fitted on what it was trained on: 60 of 60"):
        search([trained, other], seen)
    found = search([trained, other], seen, split="train", resamples=50)
    assert found.signature.split == "training windows"


def test_calibration_leaves_training_windows_out_and_is_recorded(trained, marked):
    mixed = replace(
        marked, extra={"split": np.where(marked.subject == marked.subject[0], "valid", marked.extra["split"])}
    )
    found = calibrate(trained, mixed, ridge=0.0)
    assert found.fitted_on == "30 valid windows of 3 subjects"
    assert any("10 are left out" in note for note in found.notes)
    alone = calibrate(trained, marked, ridge=0.0)
    assert found.calibration == alone.calibration
    told = evaluate(found.graph, marked.take(marked.extra["split"] == "valid"), resamples=0)
    assert any("30 of 30 chose its epoch or calibration" in note for note in told.notes)
    with pytest.raises(InputError, match="fitted on what it was trained on"):
        calibrate(
            trained, replace(marked, extra={"split": np.full(120, "valid")}).take(marked.extra["split"] == "train")
        )


def test_calibration_alone_is_known(graph, marked):
    made = calibrate(graph, marked, ridge=0.0).graph
    plain = replace(marked, extra={})
    found = evaluate(made, plain, resamples=0)
    assert any("30 of 120 chose its epoch or calibration" in note for note in found.notes)
    assert evaluate(made, marked, resamples=0).n == 30


def test_branches_are_judged_on_windows_that_are_new(trained, marked):
    fused = fuse([trained], views=["identity", "sign-flip"], optimize=False)
    found = try_branches(fused, marked, members=[trained], cost=False, resamples=50)
    assert any("its test windows are scored" in note for note in found.notes)
    with pytest.raises(InputError, match="trained on: 60 of 120"):
        try_branches(fused, marked, members=[trained], split="all", cost=False)


def test_a_zip_is_not_scored_as_a_graph(marked, tmp_path):
    (tmp_path / "s.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="is a zip, not a graph") as caught:
        evaluate(tmp_path / "s.zip", marked)
    assert "rtserve evaluate" in caught.value.hint


def test_a_stored_score_on_training_windows_that_does_not_say_so_is_refused(trained, marked):
    """By its own count, or because its windows are, all of them, the file that its graph was trained on."""
    told = evaluate(trained, marked, split="train", resamples=0).to_dict(raw=False)
    require_asked(told, [], name="told")
    silent = json.loads(json.dumps(told).replace("training windows", "all"))
    with pytest.raises(InputError, match="silent is a score on 60 windows that its graph was trained on"):
        require_asked(silent, [], name="silent")
    older = {key: value for key, value in silent.items() if key != "trained_on"}
    require_asked(older, records_of(trained), name="older")
    with pytest.raises(InputError, match="older is a score on 60 windows"):
        require_asked(older | {"data_sha256": marked.digest}, records_of(trained), name="older")
