"""Trained on it? Known again by name and by content, not taken for another's, and silent only where there is nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.signals import membership as module
from rtserve.signals.fingerprints import pack, rise_hashes, unpack
from rtserve.signals.membership import find_records, membership, training_record
from rtserve.signals.splits import make_split
from rtserve.signals.windows import WindowSet


def people(n_subjects=12, each=10, runs=2, seed=0, **extra):
    subject = np.repeat([f"sub-{i:02d}" for i in range(n_subjects)], each)
    run = np.array([f"r{i % runs}" for i in range(len(subject))])
    X = 1e-5 * np.random.default_rng(seed).standard_normal((len(subject), 4, 80)).astype("f4")
    return WindowSet(X=X, y=np.arange(len(subject), dtype="f4"), subject=subject, run_id=run, extra=extra)


def asked(windows, split, others=None):
    record = json.loads(json.dumps(training_record(windows, split.marks)))  # as a file keeps it
    return membership([record], windows if others is None else others)


def test_of_its_own_set_every_window_is_told_apart():
    windows = people()
    split = make_split(windows)
    found = asked(windows, split)
    assert (found.trained == (split.marks == "train")).all()
    assert (found.chosen == (split.marks == "valid")).all()
    n = len(split.part("train"))
    assert found.text.startswith(f"{n} of 120 windows are of people that it was trained on")
    assert found.share == n / 120
    test = asked(windows, split, windows.take(split.part("test")))
    assert (test.n_trained, test.text, test.known) == (0, "", True)


@given(st.sampled_from(["volts to microvolts and back", "renamed", "nobody named", "shuffled"]))
def test_content_is_known_again_under_any_name_and_unit(how):
    windows = people()
    split = make_split(windows)
    other = {
        "volts to microvolts and back": replace(windows, X=(windows.X * np.float32(1e6)) * np.float32(1e-6)),
        "renamed": replace(windows, subject=np.char.add("x", windows.subject)),
        "nobody named": replace(windows, subject=np.empty(0, "U1"), run_id=np.empty(0, "U1")),
        "shuffled": windows.take(np.random.default_rng(1).permutation(120)),
    }[how]
    found = asked(windows, split, other)
    assert found.n_trained == len(split.part("train"))
    assert f"{found.n_trained} of 120 windows are" in found.text


def test_people_are_known_again_where_their_windows_were_cut_anew():
    windows = people(dataset=np.full(120, "d"))
    split = make_split(windows)
    anew = replace(people(seed=9), extra=windows.extra)
    assert (asked(windows, split, anew).trained == (split.marks == "train")).all()
    # Another data set's people of the same ids are others.
    assert asked(windows, split, replace(anew, extra={"dataset": np.full(120, "e")})).text == ""
    # Where a set does not say its data set, an id alone is no proof, and is said.
    maybe = asked(windows, split, replace(anew, extra={}))
    assert maybe.n_trained == 0
    assert (maybe.maybe == (split.marks == "train")).all()
    assert "called like people it was trained on" in maybe.text
    # A set prepared together with others calls its people by their data set.
    together = replace(anew, subject=np.char.add("d/", anew.subject))
    assert (asked(windows, split, together).trained == (split.marks == "train")).all()


def test_part_of_a_set_makes_ids_believed():
    windows = people()
    split = make_split(windows)
    half = windows.take(np.arange(0, 120, 2))
    X = half.X.copy()
    X[1:] = people(seed=5).X[1:60]  # one window is left that content knows
    found = asked(windows, split, replace(half, X=X))
    marks = split.marks[::2]
    assert found.n_trained == ((marks == "train").sum() if marks[0] != "test" else 0)


def test_a_split_by_run_says_the_runs_and_that_the_people_are_the_same():
    windows = people(runs=5, dataset=np.full(120, "d"))
    split = make_split(windows, by="run")
    found = asked(windows, split)
    assert found.level == "run"
    assert (found.trained == (split.marks == "train")).all()
    held = asked(windows, split, windows.take(split.part("test")))
    assert held.n_trained == 0
    assert held.familiar.all()
    assert held.text == f"{held.n} of {held.n} are other runs of people it was trained on"
    unsaid = asked(windows, split, replace(windows.take(split.part("test")), extra={}))
    assert unsaid.maybe.all()
    assert not unsaid.familiar.any()


def test_a_leaking_split_is_known_window_by_window():
    windows = people()
    split = make_split(windows, by="window", allow_leakage=True)
    found = asked(windows, split)
    assert found.level == "window"
    assert (found.trained == (split.marks == "train")).all()
    assert "windows that it was trained on" in found.text


def test_a_large_set_is_known_by_a_sample(monkeypatch):
    monkeypatch.setattr(module, "SAMPLED", 64)
    windows = people(n_subjects=60)
    split = make_split(windows)
    record = training_record(windows, split.marks)
    assert record["train"]["sampled"]
    assert len(unpack(record["train"]["windows"])) == 64
    nameless = replace(windows, subject=np.empty(0, "U1"), run_id=np.empty(0, "U1"))
    found = membership([record], nameless)
    assert 0 < found.looked < 200
    assert found.share == pytest.approx(len(split.part("train")) / 600, abs=0.2)
    assert found.text.startswith("about ")
    exact = membership([record], windows)  # names say it to the window
    assert exact.n_trained == len(split.part("train"))
    assert membership([record], nameless.take(split.part("test"))).text == ""
    assert len(json.dumps(record)) < 4000


def test_records_are_found_in_every_member_and_any_of_them_counts():
    windows = people()
    first, second = make_split(windows, seed=1), make_split(windows, seed=2)
    records = [training_record(windows, split.marks) for split in (first, second)]
    members = [{"provenance": {"details": {"trained_on": record}}} for record in (*records, records[0])]
    found = find_records({"members": members, "note": {"trained_on": "a word"}})
    assert found == records
    both = membership(found, windows)
    assert (both.trained == ((first.marks == "train") | (second.marks == "train"))).all()
    assert not (both.trained & both.chosen).any()


def test_without_a_record_nothing_is_claimed():
    found = membership([], people())
    assert not found.known
    assert "not known what it was trained on" in found.text
    assert found.to_dict()["trained"] == 0


def test_a_damaged_record_is_refused():
    windows = people()
    record = training_record(windows, make_split(windows).marks)
    for broken in (record | {"train": {}}, record | {"train": record["train"] | {"windows": "abc"}}):
        with pytest.raises(InputError, match="is damaged"):
            membership([broken], windows)
    with pytest.raises(InputError, match="marks for 120 windows"):
        training_record(windows, np.array(["train"]))


def test_same_windows_same_record_and_no_name_in_it():
    windows = people()
    marks = make_split(windows).marks
    text = json.dumps(training_record(windows, marks))
    assert text == json.dumps(training_record(windows, marks))
    assert "sub-" not in text


def test_flat_windows_are_nobodys_copy_and_short_ones_are_told_apart():
    windows = people()
    flat = replace(windows, X=np.zeros_like(windows.X))
    assert (rise_hashes(flat) == 0).all()
    short = replace(windows, X=windows.X[:, :1, :4])
    assert len(set(rise_hashes(short))) == 120


@given(st.lists(st.integers(0, 2**40 - 1), max_size=20))
def test_numbers_come_back(numbers):
    assert unpack(pack(np.array(numbers, np.int64))).tolist() == numbers
