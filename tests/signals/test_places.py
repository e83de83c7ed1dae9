"""Where files stand: links, data sets within data sets, ids and names of any letters."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from rtserve.signals.bids import find_recordings
from rtserve.signals.sidecars import find_sidecars
from rtserve.signals.windows import load_windows

from .recordings import brain, write_bdf
from .test_prepare import run
from .test_reading import MARKED, made

NAME = "sub-01_task-x_eeg.bdf"


def data_set(folder, *ids):
    for k, subject in enumerate(ids):
        write_bdf(folder / f"sub-{subject}" / "eeg" / f"sub-{subject}_task-x_eeg.bdf", brain(4, seed=k))
    (folder / "dataset_description.json").write_text('{"Name": "ds"}')
    rows = "".join(f"sub-{subject}\t{k + 20}\n" for k, subject in enumerate(ids))
    (folder / "participants.tsv").write_text("participant_id\tage\n" + rows)
    return folder


@pytest.mark.parametrize("kind", ["file", "subject", "folder"])
def test_tables_above_a_linked_recording_are_found(tmp_path, kind):
    stored = write_bdf(tmp_path / "store" / "eeg" / NAME, brain(4))
    ds = tmp_path / "ds"
    ds.mkdir()
    (ds / "dataset_description.json").write_text("{}")
    (ds / "task-x_channels.tsv").write_text("name\ttype\nE1\tEOG\n")
    if kind == "file":
        (ds / "sub-01" / "eeg").mkdir(parents=True)
        (ds / "sub-01" / "eeg" / NAME).symlink_to(stored)
    elif kind == "subject":
        (ds / "sub-01").symlink_to(tmp_path / "store")
    else:
        (ds / "sub-01").mkdir()
        (ds / "sub-01" / "eeg").symlink_to(stored.parent)
    found = find_recordings([ds / "sub-01" / "eeg" / NAME]).items[0]
    assert (found.subject, found.root) == ("sub-01", ds)
    assert find_sidecars(found.path).channels == ds / "task-x_channels.tsv"


def test_a_link_that_lies_nowhere_has_its_files_tables(tmp_path):
    ds = data_set(tmp_path / "ds", "01")
    (ds / "task-x_channels.tsv").write_text("name\ttype\n")
    link = tmp_path / NAME
    link.symlink_to(ds / "sub-01" / "eeg" / NAME)
    assert find_sidecars(link).channels == ds / "task-x_channels.tsv"
    assert find_recordings([link]).items[0].root == ds


def test_folders_of_links_say_whose_they_are(tmp_path):
    paths = []
    for who in ("anna", "bob"):
        stored, link = tmp_path / "store" / f"{who}_raw.fif", tmp_path / "people" / who / "run1_raw.fif"
        for path in (stored, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        stored.touch()
        link.symlink_to(stored)
        paths.append(link)
    items = find_recordings(paths, subject="{subject}/*").items
    assert [item.subject for item in items] == ["anna", "bob"]
    assert len({item.run_id for item in items}) == 2


def test_a_path_with_two_points_is_where_it_leads(tmp_path, monkeypatch):
    ds = data_set(tmp_path / "ds", "01")
    monkeypatch.chdir(ds / "sub-01")
    assert find_recordings([Path("..")]).items[0].root == ds
    assert find_recordings([Path("../sub-01/eeg") / NAME]).items[0].subject == "sub-01"


def test_a_derivative_is_of_the_same_people(tmp_path):
    ds = data_set(tmp_path / "ds", "01", "02")
    clean = data_set(ds / "derivatives" / "clean", "01", "02")
    (clean / "participants.tsv").unlink()
    other = data_set(tmp_path / "other", "01")
    (other / "dataset_description.json").write_text('{"Name": "other"}')
    found = find_recordings([ds, clean, other])
    assert sorted(item.subject for item in found.items) == ["ds/sub-01"] * 2 + ["ds/sub-02"] * 2 + ["other/sub-01"]
    assert len({item.run_id for item in found.items}) == 5
    assert "its subjects are those of ds, and their recordings are here twice" in found.notes[-1]
    alone = find_recordings([clean])
    assert {item.dataset for item in alone.items} == {"ds"}
    text = run(clean, "--target", "age", "--channels", "all", "-o", tmp_path / "w.npz", "--fixed", "1,1", "--crop", 0)
    assert "of 2 subjects, age 20.5" in text


def test_a_set_beside_derivatives_is_its_own(tmp_path):
    a, b = data_set(tmp_path / "derivatives" / "a", "01"), data_set(tmp_path / "derivatives" / "b", "01")
    (b / "dataset_description.json").write_text('{"Name": "b"}')
    found = find_recordings([a, b])
    assert [item.subject for item in found.items] == ["b/sub-01", "ds/sub-01"]
    assert not found.notes


@pytest.mark.parametrize("subject", ["é01", "01-2", "A_B"])
def test_a_subjects_folder_says_its_id_whatever_its_letters(tmp_path, subject):
    ds = data_set(tmp_path / "ds", subject, "03")
    write_bdf(ds / f"sub-{subject}" / "eeg" / f"sub-{subject}_task-y_eeg.bdf", brain(4, seed=9))
    (ds / f"sub-{subject}" / f"sub-{subject}_channels.tsv").write_text("name\ttype\n")
    found = find_recordings([ds])
    assert {item.subject for item in found.items} == {f"sub-{subject}", "sub-03"}
    assert not found.notes
    assert {find_sidecars(item.path).channels is None for item in found.items if item.subject != "sub-03"} == {False}
    text = run(ds, "--target", "age", "--channels", "all", "-o", tmp_path / "w.npz", "--fixed", "1,1", "--crop", 0)
    assert "from 3 recordings of 2 subjects" in text


def test_what_a_shared_disk_leaves_beside_files_is_not_read(tmp_path):
    ds = data_set(tmp_path / "ds", "01")
    for name in (f"._{NAME}", "._sub-01_task-x_events.tsv", "._sub-01_task-x_channels.tsv"):
        (ds / "sub-01" / "eeg" / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    found = find_recordings([ds]).items
    assert [item.path.name for item in found] == [NAME]
    assert find_sidecars(found[0].path).events is None


@pytest.mark.skipif(os.name != "posix", reason="names of bytes are POSIX's")
@pytest.mark.parametrize("ending", ["npz", "h5"])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_name_that_is_no_utf8_is_a_name(tmp_path, ending, fixed):
    made().save(tmp_path / "x_raw.fif", verbose="error")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9_raw.fif"))
    (tmp_path / "x_raw.fif").rename(odd)
    output = tmp_path / f"w.{ending}"
    run(odd, *(["--target", "class", "--stimulus", "stim", *MARKED[4:]] if fixed else MARKED), "-o", output)
    assert set(np.asarray(load_windows(output).run_id).astype("U").tolist()) == {"caf\\xe9_raw"}


def test_a_name_as_long_as_a_name_may_be(tmp_path):
    path = tmp_path / f"{'x' * 242}_raw.fif"
    made().save(path, verbose="error")
    assert "9 windows" in run(path, *MARKED, "-o", tmp_path / "w.npz")


@pytest.mark.parametrize(
    "source", ["../ds", "file:{}", "bids:raw:", "doi:10.18112/openneuro.ds005505.v1.0.1", "https://openneuro.org/datasets/ds005505"]
)  # fmt: skip
def test_a_derivative_elsewhere_says_what_it_is_made_of(tmp_path, source):
    ds = data_set(tmp_path / "ds", "01")
    clean, other = data_set(tmp_path / "clean", "01"), data_set(tmp_path / "other", "01")
    about = {"Name": "ds", "DatasetDOI": "doi:10.18112/openneuro.ds005505.v1.0.0"}
    (ds / "dataset_description.json").write_text(json.dumps(about))
    made = [{"URL": source.format(ds)}]
    about = {"Name": "clean", "SourceDatasets": made, "DatasetLinks": {"raw": "../ds"}}
    (clean / "dataset_description.json").write_text(json.dumps(about))
    (other / "dataset_description.json").write_text('{"Name": "other"}')
    found = find_recordings([ds, clean, other])
    assert sorted(item.subject for item in found.items) == ["ds/sub-01"] * 2 + ["other/sub-01"]
    assert "its subjects are those of ds, and their recordings are here twice" in found.notes[-1]
    made[0]["URL"] = "https://example.org/unknown"
    (clean / "dataset_description.json").write_text(json.dumps(about))
    found = find_recordings([ds, clean])
    assert [item.subject for item in found.items] == ["clean/sub-01", "ds/sub-01"]
    assert "is derived from https://example.org/unknown" in found.notes[-1]
    for broken in ('{"SourceDatasets": "x"}', '{"SourceDatasets": [1, {"URL": 3}]}', "[]", "nonsense"):
        (clean / "dataset_description.json").write_text(broken)
        assert len(find_recordings([ds, clean]).items) == 2
