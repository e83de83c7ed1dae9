"""The folder of parts: nobody else's, one run's at a time, and never older than what it was made from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import scipy.io

from rtserve.errors import InputError, RtserveError
from rtserve.signals import prepare as preparing
from rtserve.signals.windows import load_windows

from .recordings import brain
from .test_prepare import run
from .test_reading import MARKED, ONSET, made


@pytest.fixture
def files(tmp_path):
    """Two recordings, of which the second is cut off, and a first run over them."""
    for seed, name in enumerate(("a", "b")):
        made(seed=seed).save(tmp_path / f"{name}_raw.fif", verbose="error")
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


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_corrected_command_replaces_what_a_failed_run_left(tmp_path, more):
    made().save(tmp_path / "a_raw.fif", verbose="error")
    command = [tmp_path / "a_raw.fif", "--target", "class", *MARKED[4:], "-o", tmp_path / "w.npz"]
    with pytest.raises(InputError, match="no window is of class respp"):
        run(*command, "--classes", "stim,respp")
    if more:
        with pytest.raises(InputError, match="holds the parts of a run that failed with other settings"):
            run(*command, "--classes", "stim,resp", *more)
        return
    assert "18 windows" in run(*command, "--classes", "stim,resp")
    assert not list(tmp_path.glob("*.parts"))


def test_parts_of_a_failed_run_are_gone_on_with(files, tmp_path):
    with pytest.raises(InputError, match="holds the parts of a run that failed") as caught:
        run(*files)
    assert "--resume" in caught.value.hint
    assert "reused 1 recordings" in run(*files, "--resume")


def test_a_worker_that_dies_is_no_traceback(tmp_path, monkeypatch):
    for seed in range(2):
        made(seed=seed).save(tmp_path / f"{seed}_raw.fif", verbose="error")
    monkeypatch.setattr(preparing, "_one", dies)
    files = [tmp_path / "0_raw.fif", tmp_path / "1_raw.fif"]
    with pytest.raises(RtserveError, match="was ended from outside") as caught:
        run(*files, "--subject", "x", *MARKED, "-o", tmp_path / "w.npz", "--jobs", 2)
    assert "--resume" in caught.value.hint


def dies(job):
    """Stand in for a reader that runs out of memory, or divides by zero in C."""
    os.kill(os.getpid(), signal.SIGKILL)


def copied(folder, suffix):
    made().save(folder / "a_raw.fif", verbose="error")
    if suffix == "fif":
        (folder / "b_raw.fif").write_bytes((folder / "a_raw.fif").read_bytes())
        return [folder / "a_raw.fif", folder / "b_raw.fif"]
    for name in ("a", "b"):
        vhdr(folder / f"{name}.vhdr", data="a.eeg", markers="a.vmrk")
    return [folder / "a.vhdr", folder / "b.vhdr"]


def vhdr(path, *, data, markers=""):
    """Write a BrainVision header and, where they are named plainly, its samples and markers."""
    samples = np.rint(brain(40, 200, 3).T * 10).astype("<i2")
    (path.parent / data).parent.mkdir(parents=True, exist_ok=True)
    (path.parent / data).write_bytes(samples.tobytes())
    rows = "".join(
        f"Mk{2 * k + j + 2}=Stimulus,{name},{round(200 * (at + j)) + 1},1,0\n"
        for k, at in enumerate(ONSET)
        for j, name in enumerate(("S  1", "S  2"))
    )
    text = "BrainVision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
    (path.parent / markers).write_text(f"{text}DataFile={data}\n[Marker Infos]\nMk1=New Segment,,1,1,0\n{rows}")
    channels = "".join(f"Ch{k + 1}={name},,0.1,µV\n" for k, name in enumerate(("Fz", "Cz", "Pz")))
    path.write_text(
        "BrainVision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={data}\nMarkerFile={markers}\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=3\n"
        f"SamplingInterval=5000\n[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\n{channels}",
        encoding="utf-8",
    )


VHDR = ["--stimulus", "Stimulus/S  1", "--response", "Stimulus/S  2", *MARKED[4:]]


@pytest.mark.parametrize("suffix", ["fif", "vhdr"])
def test_one_recording_under_two_names_is_refused(tmp_path, suffix):
    paths, marks = copied(tmp_path, suffix), MARKED if suffix == "fif" else VHDR
    with pytest.raises(InputError, match="hold the same samples: one recording under two names"):
        run(*paths, "--subject", "{subject}", *marks, "-o", tmp_path / "w.npz")
    text = run(*paths, "--subject", "{subject}", *marks, "-o", tmp_path / "w.npz", "--keep-going", "--resume")
    assert "9 windows from 1 recordings of 1 subjects" in text
    assert "failed: " in text


@pytest.mark.parametrize("outside", ["../vault/s.eeg", "{folder}/vault/s.eeg", "vault/s.eeg"])
@pytest.mark.parametrize("key", ["data", "markers"])
def test_a_header_reaches_no_file_outside_its_folder(tmp_path, outside, key):
    outside = outside.format(folder=tmp_path)
    (tmp_path / "in").mkdir()
    vhdr(tmp_path / "in" / "x.vhdr", **({"data": "x.eeg", "markers": "x.vmrk"}))
    assert "9 windows" in run(tmp_path / "in" / "x.vhdr", *VHDR, "-o", tmp_path / "ok.npz")
    text = (tmp_path / "in" / "x.vhdr").read_text(encoding="utf-8")
    word = {"data": "DataFile=x.eeg", "markers": "MarkerFile=x.vmrk"}[key]
    (tmp_path / "in" / "x.vhdr").write_text(text.replace(word, f"{word.partition('=')[0]}={outside}"), encoding="utf-8")
    with pytest.raises(InputError, match="not in its own folder"):
        run(tmp_path / "in" / "x.vhdr", *VHDR, "-o", tmp_path / "w.npz")


def test_a_set_reaches_no_file_outside_its_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "vault").mkdir()
    samples = 10 * brain(40, 200, 3).astype("<f4")
    for place in ("in", "vault"):
        (tmp_path / place / "x.fdt").write_bytes(samples.T.tobytes())
    events = [{"type": name, "latency": 200 * (at + j) + 1, "duration": 0.0}
              for at in ONSET for j, name in enumerate(("stim", "resp"))]  # fmt: skip
    for data in ("x.fdt", "../vault/x.fdt", str(tmp_path / "vault" / "x.fdt")):
        about = {"setname": "x", "nbchan": 3.0, "pnts": float(samples.shape[1]), "trials": 1.0, "srate": 200.0,
                 "data": data, "xmin": 0.0, "xmax": 40.0, "icawinv": [], "icaweights": [], "icasphere": [],
                 "event": np.array([tuple(e.values()) for e in events], [(n, object) for n in events[0]]),
                 "chanlocs": np.array([("Fz",), ("Cz",), ("Pz",)], [("labels", object)])}  # fmt: skip
        scipy.io.savemat(tmp_path / "in" / "x.set", {"EEG": about}, appendmat=False)
        if data == "x.fdt":
            assert "9 windows" in run(tmp_path / "in" / "x.set", *MARKED, "-o", tmp_path / "ok.npz")
            continue
        with pytest.raises(InputError, match="not in its own folder"):
            run(tmp_path / "in" / "x.set", *MARKED, "-o", tmp_path / "w.npz")


@pytest.mark.parametrize("inside", [True, False])
def test_an_epoched_set_reaches_no_file_outside_its_folder(tmp_path, inside):
    (tmp_path / "in").mkdir()
    (tmp_path / "vault").mkdir()
    samples = 10 * brain(40, 200, 3).astype("<f4")
    place = tmp_path / ("in" if inside else "vault") / "y.fdt"
    place.write_bytes(samples.T.tobytes())
    rows = [("stim", 800.0 * k + 101, 0.0, k + 1.0) for k in range(10)]
    rows += [("resp", 800.0 * k + 301, 0.0, k + 1.0) for k in range(10)]
    names = [(n, object) for n in ("type", "latency", "duration", "epoch")]
    epochs = [(k + 1.0, 0.0, "stim") for k in range(10)]
    about = {"setname": "x", "nbchan": 3.0, "pnts": 800.0, "trials": 10.0, "srate": 200.0, "xmin": 0.0, "xmax": 3.995,
             "data": "y.fdt" if inside else "../vault/y.fdt", "icawinv": [], "icaweights": [], "icasphere": [],
             "event": np.array(sorted(rows, key=lambda row: row[1]), names), "times": np.arange(800.0) * 5,
             "epoch": np.array(epochs, [(n, object) for n in ("event", "eventlatency", "eventtype")]),
             "chanlocs": np.array([("Fz",), ("Cz",), ("Pz",)], [("labels", object)])}  # fmt: skip
    scipy.io.savemat(tmp_path / "in" / "x.set", {"EEG": about}, appendmat=False)
    if inside:
        assert "10 windows" in run(tmp_path / "in" / "x.set", *MARKED, "-o", tmp_path / "ok.npz")
        X = load_windows(tmp_path / "ok.npz").X[:]
        assert pytest.approx(1e-6 * samples[:, 900:1300], abs=1e-10) == X[1]
        return
    with pytest.raises(InputError, match=r"names .*vault/y\.fdt for its samples, which is not in its own folder"):
        run(tmp_path / "in" / "x.set", *MARKED, "-o", tmp_path / "w.npz")
