"""Splits: whole groups, all windows, and no leak that is not said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.signals.splits import PARTS, find_leaks, folds, make_split, split_from_marks
from rtserve.signals.windows import WindowSet


def people(counts, runs=2, seed=0):
    subject = np.repeat([f"s{i}" for i in range(len(counts))], counts)
    run = np.array([f"r{i % runs}" for i in range(len(subject))])
    X = np.random.default_rng(seed).standard_normal((len(subject), 2, 4)).astype("f4")
    return WindowSet(X=X, y=np.arange(len(subject), dtype="f4"), subject=subject, run_id=run, unit="1")


@given(counts=st.lists(st.integers(1, 9), min_size=3, max_size=12), seed=st.integers(0, 5))
def test_every_window_is_in_one_part_and_every_subject_too(counts, seed):
    windows = people(counts)
    split = make_split(windows, seed=seed)
    assert sorted(np.concatenate([split.part(name) for name in PARTS])) == list(range(len(windows)))
    assert all(len(split.part(name)) for name in PARTS)
    for subject in set(windows.subject):
        assert len(set(split.marks[windows.subject == subject])) == 1
    assert split.leaks == ()


def test_shares_are_near_what_was_asked():
    split = make_split(people([10] * 60), fractions=(0.5, 0.25, 0.25), seed=1)
    assert [len(split.part(name)) / 600 for name in PARTS] == pytest.approx([0.5, 0.25, 0.25], abs=0.02)


def test_seed_decides():
    windows = people([5] * 20)
    assert make_split(windows, seed=1).digest == make_split(windows, seed=1).digest
    assert make_split(windows, seed=1).digest != make_split(windows, seed=2).digest


def test_a_split_by_window_is_refused_or_marked_leaking():
    windows = people([6] * 6)
    with pytest.raises(InputError, match="leaks: 6 subjects") as caught:
        make_split(windows, by="window")
    assert "--allow-leakage" in caught.value.hint
    split = make_split(windows, by="window", allow_leakage=True)
    assert split.leaks
    assert split.label.startswith("LEAKING")


def test_a_split_by_window_is_fine_where_nothing_groups_them():
    windows = replace(people([30]), subject=np.empty(0, "U1"), run_id=np.empty(0, "U1"))
    assert make_split(windows, by="window").leaks == ()


def test_by_run_keeps_recordings_whole():
    windows = people([20] * 3, runs=4)
    split = make_split(windows, by="run")
    keys = np.char.add(windows.subject, windows.run_id)
    for key in set(keys):
        assert len(set(split.marks[keys == key])) == 1


def test_copies_of_a_window_in_two_parts_are_a_leak():
    windows = people([5] * 6)
    split = make_split(windows)
    X = windows.X.copy()
    X[split.part("test")[0]] = X[split.part("train")[0]]
    assert find_leaks(replace(windows, X=X), split) == ("1 identical windows are in more than one part",)


def test_the_files_own_marks_are_used_and_checked():
    windows = people([5] * 6)
    marks = make_split(windows, seed=3).marks
    split = split_from_marks(replace(windows, extra={"split": marks}))
    assert split is not None
    assert (split.marks == marks).all()
    assert split.label.startswith("file-")
    assert split_from_marks(windows) is None
    bad = marks.copy()
    bad[0] = "train" if marks[0] != "train" else "test"
    with pytest.raises(InputError, match="leaks"):
        split_from_marks(replace(windows, extra={"split": bad}))
    with pytest.raises(InputError, match="'maybe'"):
        split_from_marks(replace(windows, extra={"split": np.where(marks == "valid", "maybe", marks)}))
    with pytest.raises(InputError, match="no window 'valid'"):
        split_from_marks(replace(windows, extra={"split": np.where(marks == "valid", "train", marks)}))


def test_folds_test_every_group_once():
    windows = people([4] * 7)
    tested = np.concatenate([fold.part("test") for fold in folds(windows, n_folds=3)])
    assert sorted(tested) == list(range(len(windows)))
    assert all(len(fold.part("valid")) and len(fold.part("train")) for fold in folds(windows, n_folds=7))
    with pytest.raises(InputError, match="8 folds over 7 subjects"):
        folds(windows, n_folds=8)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.6, -0.1), (0.5, 0.5, 0.5)])
def test_shares_must_be_shares(fractions):
    with pytest.raises(InputError, match="shares of 1"):
        make_split(people([2] * 6), fractions=fractions)


def test_too_few_groups_or_unknown_groups_are_named():
    with pytest.raises(InputError, match=r"2 subject\(s\) cannot be split"):
        make_split(people([5, 5]))
    with pytest.raises(InputError, match="do not say their run"):
        make_split(replace(people([5] * 4), run_id=np.empty(0, "U1")), by="run")
    with pytest.raises(InputError, match="by 'moon'"):
        make_split(people([5] * 4), by="moon")
