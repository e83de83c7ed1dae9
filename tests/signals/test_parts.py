"""The folder of parts: nobody else's, one run's at a time, and never older than what it was made from."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals import prepare as preparing
from rtserve.signals.windows import load_windows

from .test_prepare import run
from .test_reading import MARKED, made


@pytest.fixture
def files(tmp_path):
    """Two recordings, of which the second is cut off, and a first run over them."""
    for name in ("a", "b"):
        made().save(tmp_path / f"{name}_raw.fif", verbose="error")
    whole = (tmp_path / "b_raw.fif").read_bytes()
    (tmp_path / "b_raw.fif").write_bytes(b"no recording")
    paths = [tmp_path / "a_raw.fif", tmp_path / "b_raw.fif"]
    command = [*paths, "--subject", "x", *MARKED, "-o", tmp_path / "w.npz"]
    with pytest.raises(InputError):
        run(*command)
    paths[1].write_bytes(whole)
    return command


def later(path):
    raw = made()
    raw.set_annotations(raw.annotations.copy())
    raw.annotations.onset += 0.5
    raw.save(path, overwrite=True, verbose="error")


def onsets(path):
    return load_windows(path).extra["onset_s"]


def test_what_did_not_change_is_used_again(files, tmp_path):
    assert "reused 1 recordings" in run(*files, "--resume")


def test_a_recording_that_changed_is_read_again(files, tmp_path):
    later(files[0])
    assert "reused" not in run(*files, "--resume")
    assert set(np.round(np.diff(np.unique(np.round(onsets(tmp_path / "w.npz"), 3))), 3)) == {0.5, 3.5}


def test_a_table_that_came_is_read(files, tmp_path):
    rows = "".join(f"{4 * k + 5.0}\t0\tstim\n{4 * k + 6.0}\t0\tresp\n" for k in range(6))
    (tmp_path / "a_raw_events.tsv").write_text("onset\tduration\ttrial_type\n" + rows)
    assert "reused" not in run(*files, "--resume")


@pytest.mark.parametrize("damage", ["json", "npz", "half"])
def test_a_damaged_part_is_made_again(files, tmp_path, damage):
    folder = tmp_path / "w.npz.parts"
    about = next(path for path in folder.glob("*.json") if path.name != "settings.json")
    part = about.with_suffix(".npz")
    if damage == "json":
        about.write_text("")
    elif damage == "npz":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    assert "reused" not in run(*files, "--resume")
    assert len(load_windows(tmp_path / "w.npz")) == 18


def test_a_part_of_another_version_is_not_used(files, tmp_path):
    record = tmp_path / "w.npz.parts" / "settings.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "rtserve": "0.0"}, sort_keys=True))
    with pytest.raises(InputError, match="with other settings"):
        run(*files, "--resume")


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_not_ours_stays(tmp_path, kind):
    made().save(tmp_path / "a_raw.fif", verbose="error")
    place, thesis = tmp_path / "w.npz.parts", tmp_path / "thesis"
    if kind == "folder":
        place.mkdir()
        thesis = place / "thesis"
    thesis.write_text("precious")
    if kind == "file":
        thesis = thesis.rename(place)
    elif kind == "link":
        (tmp_path / "real").mkdir()
        place.symlink_to(tmp_path / "real")
    for more in ([], ["--force"], ["--resume"]):
        with pytest.raises(InputError, match=r"w\.npz\.parts is in the way"):
            run(tmp_path / "a_raw.fif", *MARKED, "-o", tmp_path / "w.npz", *more)
    assert thesis.read_text() == "precious"
    assert not (tmp_path / "w.npz").exists()


def test_a_file_put_beside_the_parts_stays(files, tmp_path):
    (tmp_path / "w.npz.parts" / "note.txt").write_text("mine")
    run(*files, "--resume")
    assert [path.name for path in (tmp_path / "w.npz.parts").iterdir()] == ["note.txt"]


def test_one_run_at_a_time(files, tmp_path, monkeypatch):
    command = [sys.executable, "-m", "rtserve", "prepare", *map(str, files), "--resume"]
    real = preparing.join_parts

    def meanwhile(*arguments, **options):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "another run is writing w.npz" in done.stderr
        return real(*arguments, **options)

    monkeypatch.setattr(preparing, "join_parts", meanwhile)
    run(*files, "--resume")
    assert len(load_windows(tmp_path / "w.npz")) == 18
