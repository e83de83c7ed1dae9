"""Who is who: one person stays one, two stay two, and a guess is said and not split by."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals.splits import find_leaks, folds, make_split
from rtserve.signals.subjects import GUESSED, dataset_root, is_guessed, name_recordings, people, subjects_note
from rtserve.signals.windows import WindowSet, load_windows, save_windows


def touch(folder, *names, described=None):
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if described is not None:
        (folder / "dataset_description.json").write_text(json.dumps({"Name": described}))
    return paths


def named(paths, root=None, subject=""):
    found, notes = name_recordings([(path, root) for path in paths], subject=subject)
    return [one.subject for one in found], [one.run_id for one in found], {one.source for one in found}, notes


def windows_of(subject, **extra):
    n = len(subject)
    X = np.random.default_rng(0).standard_normal((n, 2, 8)).astype("f4") * 1e-5
    run = np.array([f"r{i}" for i in range(n)])
    return WindowSet(X=X, y=np.arange(n, dtype="f4"), subject=np.array(subject), run_id=run, extra=extra)


def test_one_id_in_two_data_sets_is_two_people_and_their_order_does_not_matter(tmp_path):
    a = touch(tmp_path / "a", "sub-01/eeg/sub-01_task-x_eeg.bdf", described="Set one")
    b = touch(tmp_path / "b", "sub-01/eeg/sub-01_task-x_eeg.bdf")
    found = [(a[0], tmp_path / "a"), (b[0], tmp_path / "b")]
    forth, back = name_recordings(found)[0], name_recordings(found[::-1])[0]
    assert [one.subject for one in forth] == ["Set-one/sub-01", "b/sub-01"]
    assert [one.run_id for one in forth] == ["Set-one/sub-01_task-x", "b/sub-01_task-x"]
    assert forth == back[::-1]
    assert [one.bare for one in forth] == ["sub-01", "sub-01"]
    # Files named one by one are of the data set they lie in.
    assert name_recordings([(a[0], None), (b[0], None)])[0] == forth
    alone = name_recordings(found[:1])[0][0]
    assert (alone.subject, alone.dataset, alone.source) == ("sub-01", "Set-one", "bids")


def test_two_data_sets_of_one_name_stay_two(tmp_path):
    paths = [
        touch(tmp_path / which / "ds", "sub-01/eeg/sub-01_eeg.bdf", described="ds")[0] for which in ("mine", "yours")
    ]
    subjects, runs, _, _ = named(paths)
    assert subjects == ["ds@mine-ds/sub-01", "ds@yours-ds/sub-01"]
    assert len(set(runs)) == 2


def test_one_person_in_several_sessions_is_one(tmp_path):
    paths = touch(
        tmp_path, "sub-01/ses-a/eeg/sub-01_ses-a_eeg.bdf", "sub-01/ses-b/eeg/sub-01_ses-b_eeg.bdf", described="d"
    )
    found, notes = name_recordings([(path, tmp_path) for path in paths])
    assert [(one.subject, one.session) for one in found] == [("sub-01", "a"), ("sub-01", "b")]
    assert notes == ()
    assert dataset_root(paths[0]) == tmp_path.resolve()


def test_files_without_a_bids_name_are_guessed_and_said(tmp_path):
    paths = touch(tmp_path, "anna_run0_raw.fif", "anna_run1_raw.fif", "v1.2.fif", "v1.3.fif.gz")
    subjects, _, sources, notes = named(paths)
    assert subjects == ["anna_run0_raw", "anna_run1_raw", "v1.2", "v1.3"]
    assert sources == {GUESSED}
    assert "4 files do not say whose they are: taken for 4 people, which is GUESSED" in notes[0]
    assert "--subject" in notes[0]
    assert named(paths[:1])[3] == ()  # one file is one person


@pytest.mark.parametrize(
    ("pattern", "subjects"),
    [
        ("{subject}_*", ["anna", "ben"]),
        ("{subject}_run{run}_raw", ["anna", "ben"]),
        ("{subject}_run?_raw.fif", None),
        ("^([a-z]+)_", ["anna", "ben"]),
        (r"(?P<subject>[a-z]{3})", ["ann", "ben"]),
        ("lab/{subject}_*", ["anna", "ben"]),
        ("{dataset}/{subject}_*", ["lab/anna", "lab/ben"]),
        ("{subject}", ["anna_run0_raw", "ben_run0_raw"]),
        ("carla", ["carla", "carla"]),
    ],
)
def test_the_user_says_whose_files_are(tmp_path, pattern, subjects):
    paths = touch(tmp_path / "lab", "anna_run0_raw.fif", "ben_run0_raw.fif")
    if subjects is None:
        with pytest.raises(InputError, match=r"does not fit anna_run0_raw\.fif"):
            named(paths, subject=pattern)
        return
    found = named(paths, subject=pattern)
    assert found[0] == subjects
    assert found[2] == {"named" if pattern == "carla" else "pattern"}
    assert len(set(found[1])) == 2


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("{subjct}_*", r"takes \{subjct\}"),
        ("run*", "does not say which part is the subject"),
        ("(a)(b)", "does not say which part"),
        ("(?P<who>.*)", "takes who"),
        ("([", "is no pattern"),
        ("{session}_*", "does not say which part is the subject"),
    ],
)
def test_patterns_that_cannot_be_meant(tmp_path, pattern, says):
    with pytest.raises(InputError, match=says) as caught:
        named(touch(tmp_path, "a_1.fif"), subject=pattern)
    assert "subject" in caught.value.hint


def test_a_pattern_over_names_alone_says_that_folders_are_joined(tmp_path):
    paths = touch(tmp_path, "x/s01_a.fif", "y/s01_a.fif")
    subjects, runs, _, notes = named(paths, subject="{subject}_*")
    assert subjects == ["s01", "s01"]
    assert runs == ["x/s01_a", "y/s01_a"]
    assert "1 subjects are in more than one folder" in notes[0]
    assert named(paths, subject="{dataset}/{subject}_*")[0] == ["x/s01", "y/s01"]
    sessions = touch(tmp_path, "anna/s1/rec.fif", "anna/s2/rec.fif")
    assert named(sessions, subject="{subject}/s{session}/*")[3] == ()  # folders were spoken of


def test_one_bids_id_in_two_folders_that_are_no_data_set_is_a_guess(tmp_path):
    paths = touch(tmp_path, "x/sub-01_eeg.fif", "y/sub-01_eeg.fif", "y/sub-02_eeg.fif")
    subjects, runs, sources, notes = named(paths)
    assert subjects == ["x/sub-01", "y/sub-01", "sub-02"]
    assert GUESSED in sources
    assert "2 files" in notes[0]
    assert len(set(runs)) == 3


def test_a_file_named_twice_and_a_name_for_a_bids_folder_are_refused(tmp_path):
    (path,) = touch(tmp_path, "sub-01/eeg/sub-01_eeg.bdf")
    with pytest.raises(InputError, match="is named twice"):
        named([path, Path(f"{path.parent}/../eeg/{path.name}")])
    with pytest.raises(InputError, match="--subject x is for single files"):
        named([path], root=tmp_path, subject="x")


def test_a_split_by_guessed_subjects_is_refused_until_the_user_says_they_are_right(tmp_path):
    guessed = windows_of(["a", "b", "c", "d"] * 3, subject_source=np.array(GUESSED))
    save_windows(tmp_path / "w.npz", guessed)
    save_windows(tmp_path / "w.h5", guessed)
    for windows in (load_windows(tmp_path / "w.npz"), load_windows(tmp_path / "w.h5").take(np.arange(8))):
        assert is_guessed(windows)
        assert "4 subjects are guessed" in subjects_note(windows)
        for refused in (make_split, folds):
            with pytest.raises(
                InputError, match=r"4 subjects are only guessed, one per file \(a, b, c, ...\)"
            ) as caught:
                refused(windows)
            assert "--trust-subjects" in caught.value.hint
        assert make_split(windows, trust_subjects=True).leaks == ()
        assert make_split(windows, by="run").leaks == ()
    assert subjects_note(replace(guessed, extra={})) == ""


def test_people_are_the_same_in_every_set_they_are_prepared_with():
    alone = windows_of(["sub-01", "sub-02"], dataset=np.array(["d", "d"]))
    together = windows_of(["d/sub-01", "e/sub-01"], dataset=np.array(["d", "e"]))
    assert people(alone).tolist() == ["d/01", "d/02"]
    assert people(together).tolist() == ["d/01", "e/01"]
    assert people(windows_of(["sub-01", "01 "])).tolist() == ["01", "01"]
    assert people(replace(alone, subject=np.empty(0, "U1"))).size == 0


def test_one_person_by_two_spellings_is_one_in_a_split():
    windows = windows_of(["sub-01", "01", "sub-02", "02", "sub-03", "03"])
    split = make_split(windows)
    assert (split.marks[::2] == split.marks[1::2]).all()
    torn = replace(split, marks=np.array(["train", "test"] * 3))
    assert find_leaks(windows, torn)[0].startswith("3 subjects are in more than one part")
