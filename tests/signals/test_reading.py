"""What a recording's file and its sidecars say is what is used, and what cannot be used is named."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.signals.marks import tabled
from rtserve.signals.reading import read_recording
from rtserve.signals.recordings import Cleaning, open_recording
from rtserve.signals.tables import read_table
from rtserve.signals.windows import load_windows

from . import formats
from .recordings import brain, trials, write_bdf, write_bids, write_events
from .test_prepare import CHANNELS, run

MARKED = ["--stimulus", "stim", "--response", "resp", "--window", "0,2", "--band", "0,0", "--sfreq", "0"]
ONSET = np.arange(3.0, 37.0, 4.0)


def made(names=("Fz", "Cz", "Pz", "Oz"), kinds="eeg", rate=200.0, seconds=40, seed=0):
    raw = mne.io.RawArray(
        1e-6 * brain(seconds, int(rate), len(names), seed),
        mne.create_info(list(names), rate, kinds, verbose="error"),
        verbose="error",
    )
    raw.set_meas_date(1_600_000_000)
    raw.info["line_freq"] = 50
    names = ["stim"] * len(ONSET) + ["resp"] * len(ONSET)
    raw.set_annotations(mne.Annotations(np.r_[ONSET, ONSET + 1], 0.0, names))
    return raw


def edf(path, data, *, units=None, names=None, rate=200, notes=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    limits = 1.1 * np.abs(data).max(axis=1)
    signals = [
        edfio.EdfSignal(
            row, rate, label=names[k] if names else f"C{k}", physical_dimension=units[k] if units else "uV",
            physical_range=(-limits[k], limits[k]),
        )
        for k, row in enumerate(data)
    ]  # fmt: skip
    marks = [edfio.EdfAnnotation(float(at), None, n) for at in ONSET for at, n in ((at, "stim"), (at + 1, "resp"))]
    edfio.Edf(signals, annotations=marks if notes else None).write(path)
    return path


def test_what_mne_bids_writes_is_read_as_it_reads_it(tmp_path):
    pytest.importorskip("pybv")
    mne_bids = pytest.importorskip("mne_bids")
    raw = made(("Fz", "Cz", "Pz", "Oz", "HEOG"), ["eeg"] * 4 + ["eog"])
    raw.info["bads"] = ["Pz"]
    raw.annotations.append(18.0, 6.0, "BAD_muscle")
    where = mne_bids.BIDSPath(root=tmp_path / "b", subject="01", task="x", datatype="eeg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mne_bids.write_raw_bids(raw, where, format="BrainVision", allow_preload=True, verbose="error")
        theirs = mne_bids.read_raw_bids(where, verbose="error").load_data(verbose="error")
    events, ids = mne.events_from_annotations(theirs, verbose="error")
    epochs = mne.Epochs(
        theirs.pick("eeg", exclude="bads"),
        events,
        ids["stim"],
        tmin=0,
        tmax=2 - 1 / 200,
        baseline=None,
        preload=True,
        verbose="error",
    )
    text = run(tmp_path / "b", *MARKED, "-o", tmp_path / "w.npz")
    windows = load_windows(tmp_path / "w.npz")
    assert windows.ch_names == ("Fz", "Cz", "Oz")
    assert np.array_equal(windows.X[:], epochs.get_data(copy=False).astype("f4"))
    assert "left out, being no EEG: HEOG (eog)" in text
    assert "left out, being marked as bad: Pz" in text
    assert "2 in a segment marked as bad" in text
    run(tmp_path / "b", *MARKED, "--bads", "keep", "--bad-segments", "keep", "-o", tmp_path / "k.npz")
    assert load_windows(tmp_path / "k.npz").X.shape == (9, 4, 400)


def test_bad_channels_among_named_ones_need_a_word(tmp_path):
    raw = made(("Fz", "Cz", "Pz", "Oz", "C3", "C4", "P3", "P4"))
    raw.info["bads"] = ["Pz"]
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    named = ["--channels", "Fz,Cz,Pz,Oz,C3,C4,P3,P4"]
    with pytest.raises(InputError, match="marks Pz as bad") as caught:
        run(tmp_path / "x_raw.fif", *MARKED, *named, "-o", tmp_path / "w.npz")
    assert "--bads" in caught.value.hint
    assert "interpolated, being marked as bad: Pz" in run(
        tmp_path / "x_raw.fif", *MARKED, *named, "--bads", "interpolate", "-o", tmp_path / "i.npz"
    )
    run(tmp_path / "x_raw.fif", *MARKED, *named, "--bads", "keep", "-o", tmp_path / "k.npz")
    filled, kept = load_windows(tmp_path / "i.npz").X[:], load_windows(tmp_path / "k.npz").X[:]
    assert np.array_equal(np.delete(filled, 2, axis=1), np.delete(kept, 2, axis=1))
    assert not np.allclose(filled[:, 2], kept[:, 2], rtol=0.1)


def test_tables_are_inherited_from_the_folders_above(tmp_path):
    for subject in ("01", "02"):
        edf(
            tmp_path / f"sub-{subject}" / "ses-1" / "eeg" / f"sub-{subject}_ses-1_task-x_run-1_eeg.edf",
            brain(n=3, seed=int(subject)),
            notes=False,
        )
    (tmp_path / "dataset_description.json").write_text('{"Name": "d"}')
    table = "".join(f"{at}\t0\tstim\n{at + 1}\t0\tresp\n" for at in ONSET)
    (tmp_path / "task-x_events.tsv").write_text(f"onset\tduration\ttrial_type\n{table}")
    (tmp_path / "task-y_events.tsv").write_text("onset\tduration\ttrial_type\n1\t0\tother\n")
    (tmp_path / "sub-02" / "ses-1" / "eeg" / "sub-02_ses-1_channels.tsv").write_text("name\ttype\tunits\nC0\tEOG\tuV\n")
    (tmp_path / "sub-01" / "sub-01_task-x_events.tsv").write_text(
        "onset\tduration\ttrial_type\n5\t0\tstim\n5.5\t0\tresp\n"
    )
    run(tmp_path, *MARKED, "--channels", "C1,C2", "-o", tmp_path / "w.npz")
    windows = load_windows(tmp_path / "w.npz")
    assert (windows.subject == "sub-01").sum() == 1
    assert (windows.subject == "sub-02").sum() == len(ONSET)
    paths = sorted(tmp_path.rglob("*.edf"))
    assert open_recording(paths[1], Cleaning(low=None, high=None, sfreq=None)).ch_names == ("C1", "C2")


@pytest.mark.parametrize(
    "codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
)
@pytest.mark.parametrize("separator", ["\t", ";"])
def test_tables_are_read_in_every_encoding(tmp_path, codec, separator):
    rows = ["onset\tduration\ttrial_type\tnote", "1,5\t0\tgrün\tµV", "2,25\tn/a\tknopf\tgrößer", "n/a\t0\tpause\t"]
    (tmp_path / "x_events.tsv").write_bytes("\r\n".join(rows).replace("\t", separator).encode(codec))
    table = read_table(tmp_path / "x_events.tsv")
    assert [row["trial_type"] for row in table.rows] == ["grün", "knopf", "pause"]
    (marks,) = tabled(table)
    assert marks.onset.tolist() == [1.5, 2.25]
    assert marks.unplaced == 1
    assert bool(table.notes) == (codec not in ("utf-8", "utf-8-sig") or separator != "\t")


def test_a_table_that_is_none_is_named_with_its_line(tmp_path):
    path = tmp_path / "x_events.tsv"
    for text, says in (
        ("onset\tvalue\n1\ta\n2\tb\tc\n", "line 3: 3 cells for 2 columns"),
        ("onset\tvalue\n1\t" + "x" * 70_000, "line 2: a field of 70,000 letters"),
        ("onset\tonset\n1\t1\n", "two columns 'onset'"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            read_table(path)
    path.write_bytes(b"\xff\xfeo\x00n\x00s")
    with pytest.raises(InputError, match="is no utf-16"):
        read_table(path)


@pytest.mark.parametrize(
    ("head", "row", "arguments", "n"),
    [
        ("trial_type\tvalue", "{name}\tn/a", (), 9),
        ("trial_type\tvalue", "{name}\t{code}", (), 9),
        ("value\ttrial_type", "n/a\t{name}", (), 9),
        ("trial_type\tvalue", "n/a\t{name}", (), 9),
        ("trial_type\tvalue", "block\t{code}", ("--stimulus", "1", "--response", "2"), 9),
        ("trial_type\tvalue", "block\t{code}.0", ("--stimulus", "1", "--response", "2"), 9),
        ("what\tvalue", "{name}\t{code}", ("--event-column", "what"), 9),
    ],
)
def test_the_column_that_holds_the_names_is_read(tmp_path, head, row, arguments, n):
    edf(tmp_path / "sub-1_task-x_eeg.edf", brain(n=2), notes=False)
    lines = [(at, row.format(name="stim", code=1)) for at in ONSET] + [
        (at + 1, row.format(name="resp", code=2)) for at in ONSET
    ]
    table = "".join(f"{at}\t{text}\n" for at, text in lines) + "n/a\tn/a\tn/a\n"
    (tmp_path / "sub-1_task-x_events.tsv").write_text(f"onset\t{head}\n{table}")
    text = run(tmp_path / "sub-1_task-x_eeg.edf", *MARKED, *arguments, "-o", tmp_path / "w.npz")
    assert len(load_windows(tmp_path / "w.npz")) == n
    assert "1 rows of sub-1_task-x_events.tsv have no onset" in text


def test_names_that_are_nowhere_are_listed_by_source(tmp_path):
    edf(tmp_path / "sub-1_task-x_eeg.edf", brain(n=2))
    (tmp_path / "sub-1_task-x_events.tsv").write_text("onset\tduration\ttrial_type\n1\t0\tgo\n")
    with pytest.raises(InputError, match="no stimulus event nothing") as caught:
        run(tmp_path / "sub-1_task-x_eeg.edf", "--stimulus", "nothing", "--response", "resp", "-o", tmp_path / "w.npz")
    assert "go (sub-1_task-x_events.tsv, column trial_type); resp, stim (annotations)" in caught.value.hint
    with pytest.raises(InputError, match="no single source has all"):
        run(tmp_path / "sub-1_task-x_eeg.edf", "--stimulus", "go", "--response", "resp", "-o", tmp_path / "w.npz")
    text = run(tmp_path / "sub-1_task-x_eeg.edf", *MARKED, "-o", tmp_path / "w.npz")
    assert "events taken from annotations" in text


def test_trigger_bits_that_count_can_be_named(tmp_path):
    data = np.vstack([1e-6 * brain(n=2), np.zeros((1, 8000))])
    for onset in ONSET:
        data[2, round(onset * 200) :][:5] = 0x101
        data[2, round((onset + 1) * 200) :][:5] = 0x102
    raw = mne.io.RawArray(
        data, mne.create_info(["Fz", "Cz", "STI"], 200.0, ["eeg", "eeg", "stim"], verbose="error"), verbose="error"
    )
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    path, rest = tmp_path / "x_raw.fif", ["--window", "0,2", "-o", tmp_path / "w.npz", "--force"]
    run(path, "--stimulus", "257", "--response", "258", *rest)
    whole = load_windows(tmp_path / "w.npz").X[:]
    run(path, "--stimulus", "1", "--response", "2", "--trigger-mask", "0xFF", "--stim-channel", "STI", *rest)
    assert np.array_equal(load_windows(tmp_path / "w.npz").X[:], whole)
    assert len(whole) == len(ONSET)
    with pytest.raises(InputError, match="no channel STI 014"):
        run(path, "--stimulus", "1", "--response", "2", "--stim-channel", "STI 014", *rest)


def test_channels_are_typed_by_their_names_where_the_format_does_not(tmp_path):
    names = ["Fz", "HEOG", "VEOG left", "ECG", "EMG chin", "Resp", "Cz", "Temporal", "EEG Pz"]
    edf(tmp_path / "x.edf", brain(n=len(names)), names=names)
    ready = open_recording(tmp_path / "x.edf", Cleaning())
    assert ready.ch_names == ("Fz", "Cz", "Temporal", "EEG Pz")
    named = open_recording(tmp_path / "x.edf", Cleaning(channels=("HEOG", "Fz")))
    assert named.ch_names == ("HEOG", "Fz")


@pytest.mark.parametrize("claim", ["V", "mV", "uV"])
@pytest.mark.parametrize("true", ["V", "mV", "uV"])
def test_a_unit_takes_the_place_of_the_files_claim(tmp_path, claim, true):
    size = {"V": 1.0, "mV": 1e3, "uV": 1e6}[true]
    data = 1e-6 * brain(n=3, microvolt=30.0)
    path = edf(tmp_path / "x.edf", data * size, units=[claim] * 3)
    right = open_recording(path, Cleaning(low=None, high=None, sfreq=None, unit=true)).data
    assert np.allclose(right, data, atol=2e-8)
    if claim == true:
        return
    with pytest.raises(InputError, match="EEG has about 1e-5 V") as caught:
        open_recording(path, Cleaning())
    assert f"--unit {true} takes" in caught.value.hint
    with pytest.raises(InputError, match=f"with --unit {claim}, EEG has"):
        open_recording(path, Cleaning(unit=claim))


def test_a_unit_replaces_the_volts_of_a_fif(tmp_path):
    raw = made()
    raw.apply_function(lambda x: 1e6 * x, picks="all", verbose="error").save(tmp_path / "x_raw.fif", verbose="error")
    with pytest.raises(InputError, match="a factor of 1e6"):
        open_recording(tmp_path / "x_raw.fif", Cleaning())
    ready = open_recording(tmp_path / "x_raw.fif", Cleaning(unit="uV", low=None, high=None, sfreq=None))
    assert ready.data == pytest.approx(made().get_data(), abs=1e-11)


def test_one_channel_in_another_unit_is_found(tmp_path):
    data = brain(n=4)
    with pytest.raises(InputError, match="channel C2 is declared in another unit than the rest"):
        open_recording(edf(tmp_path / "x.edf", data, units=["uV", "uV", "mV", "uV"]), Cleaning())
    data[1] *= 500
    ready = open_recording(edf(tmp_path / "y.edf", data), Cleaning())
    assert any("channels on another scale than the rest: C1 (" in line for line in ready.notes.lines())


def test_what_mne_warns_of_is_said_once_with_its_count(tmp_path):
    for k in range(3):
        path = tmp_path / f"sub-{k}" / "eeg" / f"sub-{k}_task-x_eeg.edf"
        edf(path, brain(seconds=20, n=2, seed=k))
    text = run(tmp_path, *MARKED, "-o", tmp_path / "w.npz")
    assert "MNE: Omitted 8 annotation(s) that were outside data range. (said 3 times)" in text
    assert text.count("note: MNE: Omitted") == 1
    assert "15 outside the recording" in text
    with pytest.warns(RuntimeWarning, match="Omitted"):
        mne.io.read_raw_edf(path, verbose="warning")


def test_later_parts_of_a_split_recording_are_no_recordings(tmp_path):
    (tmp_path / "sub-1" / "eeg").mkdir(parents=True)
    raw = made([f"EEG{k}" for k in range(40)])
    raw.save(
        tmp_path / "sub-1" / "eeg" / "sub-1_task-x_eeg.fif",
        split_size="2MB",
        split_naming="bids",
        fmt="double",
        verbose="error",
    )
    assert len(list(tmp_path.rglob("*.fif"))) > 1
    run(tmp_path, *MARKED, "-o", tmp_path / "w.npz")
    raw.save(tmp_path / "y_raw.fif", split_size="2MB", fmt="double", verbose="error")
    parts = sorted(tmp_path.glob("y_raw*.fif"), reverse=True)
    assert len(parts) > 1
    run(*parts, *MARKED, "-o", tmp_path / "v.npz")
    first, second = load_windows(tmp_path / "w.npz"), load_windows(tmp_path / "v.npz")
    assert len(first) == len(ONSET)
    assert np.array_equal(first.X[:], second.X[:])
    assert set(first.run_id) == {"sub-1_task-x"}
    (tmp_path / "y_raw-1.fif").unlink()
    with pytest.raises(InputError, match="cannot be read whole") as caught:
        run(tmp_path / "y_raw.fif", *MARKED, "-o", tmp_path / "u.npz")
    assert "keep them together" in caught.value.hint


def test_one_recording_in_two_formats_is_one_too_many(tmp_path):
    folder = write_bids(tmp_path / "b", subjects=("A",), runs=(1,))
    path = next(folder.rglob("*.bdf"))
    edf(path.with_suffix(".edf"), brain(n=2))
    with pytest.raises(InputError, match=r"one recording in several formats: .*\.bdf and .*\.edf"):
        run(folder, *CHANNELS, "-o", tmp_path / "w.npz")


def test_keep_going_goes_on_past_whatever_a_file_is(tmp_path, monkeypatch):
    folder = write_bids(tmp_path / "b", subjects=("A", "B", "C", "D"), runs=(1,))
    paths = sorted(folder.rglob("*.bdf"))
    events = [path.with_name(path.name.replace("_eeg.bdf", "_events.tsv")) for path in paths]
    events[0].write_bytes(events[0].read_bytes().replace(b"n/a", b"gr\xfc\xdf"))  # Latin-1 is read
    events[1].write_bytes(b"\xff\xfe" + b"x")
    paths[2].write_bytes(paths[2].read_bytes()[:256] + b"\0" * 2000)
    text = run(folder, *CHANNELS, "--keep-going", "-o", tmp_path / "w.npz")
    assert "12 windows from 2 recordings of 2 subjects" in text
    assert f"failed: {paths[1]}: table {events[1]} is no utf-16" in text
    assert f"failed: {paths[2]}: recording {paths[2]} " in text
    assert "read as Latin-1" in text


def test_a_reader_that_breaks_is_no_traceback(tmp_path, monkeypatch):
    write_bdf(tmp_path / "x.bdf", brain())
    monkeypatch.setattr(mne.io, "read_raw", lambda *_, **__: {}["missing"])
    with pytest.raises(InputError, match=r"x\.bdf cannot be read whole: 'missing'") as caught:
        read_recording(tmp_path / "x.bdf")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["a.gdf", "a.cnt", "a.xdf", "a.nxe", "a.vhdr", "a.set", "a.fif", "a.edf", "a.bdf"])
def test_files_that_are_not_what_they_are_called(tmp_path, name):
    if name.endswith("xdf"):
        pytest.importorskip("pyxdf")
    (tmp_path / name).write_bytes(b"GDF 2.20" + bytes(512))
    with pytest.raises(InputError, match=f"{name} cannot be read whole") as caught:
        read_recording(tmp_path / name)
    assert any(words in caught.value.hint for words in ("under this name", "keep them together", "cut off"))


def test_parts_and_strangers_are_pointed_to_what_is_read(tmp_path):
    pytest.importorskip("pybv")
    formats.MAKERS["BrainVision"](tmp_path)
    for name in ("x.eeg", "x.vmrk"):
        with pytest.raises(InputError, match="is one part of a recording") as caught:
            read_recording(tmp_path / name)
        assert "x.vhdr" in caught.value.hint
    (tmp_path / "B01.mat").write_bytes(b"x")
    with pytest.raises(InputError, match="no recording that is read here") as caught:
        read_recording(tmp_path / "B01.mat")
    assert "convert" in caught.value.hint
    (tmp_path / "x.eeg").unlink()
    with pytest.raises(InputError, match="cannot be read whole") as caught:
        read_recording(tmp_path / "x.vhdr")
    assert "keep them together" in caught.value.hint


def test_a_set_of_epochs_has_a_gap_between_them(tmp_path):
    raw = made()
    events = mne.events_from_annotations(raw, {"stim": 1}, verbose="error")[0]
    raw.set_annotations(None)
    epochs = mne.Epochs(raw, events, {"stim": 1}, tmin=-0.5, tmax=1.995, baseline=None, preload=True, verbose="error")
    epochs.export(tmp_path / "x.set", verbose="error")
    ready = open_recording(tmp_path / "x.set", Cleaning(low=None, high=None, sfreq=None))
    assert len(ready.clock.stretches) == len(epochs)
    stim = ready.marks[0].onset[np.isin(ready.marks[0].name, "stim")]
    assert stim == pytest.approx(np.arange(len(epochs)) * 2.5 + 0.5, abs=1e-6)
    assert ready.data[:, :500] == pytest.approx(epochs.get_data(copy=False)[0], abs=1e-11)


def test_a_set_in_matlabs_new_format_says_what_helps(tmp_path, monkeypatch):
    import importlib.util

    import h5py

    with h5py.File(tmp_path / "x.set", "w", userblock_size=512) as archive:
        archive.create_group("EEG")["data"] = np.zeros((10, 2))
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    with open(tmp_path / "x.set", "r+b") as handle:
        handle.write(head)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"MATLAB's v7\.3 format") as caught:
        read_recording(tmp_path / "x.set")
    assert "pip install pymatreader" in caught.value.hint
    assert "save it again" in caught.value.hint


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyxdf", None)
    (tmp_path / "x.xdf").write_bytes(b"XDF:")
    with pytest.raises(EnvironmentMissingError, match="needs pyxdf"):
        read_recording(tmp_path / "x.xdf")
    assert EnvironmentMissingError.exit_code == 4


def test_events_of_a_table_win_over_annotations(tmp_path):
    folder = write_bids(tmp_path / "b", subjects=("A",), runs=(1,))
    path = next(folder.rglob("*.bdf"))
    write_events(path, trials(n=3)[0])
    run(folder, *CHANNELS, "-o", tmp_path / "w.npz")
    assert len(load_windows(tmp_path / "w.npz")) == 3
    shutil.rmtree(folder)
    assert Path(tmp_path / "w.npz").exists()


def test_triggers_that_are_held_are_all_events(tmp_path):
    data = np.vstack([1e-6 * brain(n=2), np.zeros((1, 8000))])
    for onset in ONSET:
        data[2, round(onset * 200) :] = 1
        data[2, round((onset + 1) * 200) :] = 2
    info = mne.create_info(["Fz", "Cz", "STI"], 200.0, ["eeg", "eeg", "stim"], verbose="error")
    path, asked = tmp_path / "x_raw.fif", ["--stimulus", "1", "--response", "2", "--window", "0,2"]
    mne.io.RawArray(data, info, verbose="error").save(path, verbose="error")
    text = run(path, *asked, "-o", tmp_path / "w.npz")
    assert len(load_windows(tmp_path / "w.npz")) == len(ONSET)
    assert "never goes back to 0" in text
    data[2, -100:] = 0
    mne.io.RawArray(data, info, verbose="error").save(path, overwrite=True, verbose="error")
    assert f"changes to a lower number {len(ONSET) - 1} times: no events, as in MNE" in run(
        path, *asked, "-o", tmp_path / "v.npz"
    )


def test_names_in_any_script_and_encoding_are_found(tmp_path):
    raw = made()
    raw.annotations.description = np.array(["стимул" if n == "stim" else "größer" for n in raw.annotations.description])
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    named = ["--stimulus", "стимул", "--response", "größer"]
    run(tmp_path / "x_raw.fif", *MARKED[4:], *named, "-o", tmp_path / "w.npz")
    assert len(load_windows(tmp_path / "w.npz")) == len(ONSET)
    path = edf(tmp_path / "x.edf", brain(n=2))
    path.write_bytes(path.read_bytes().replace(b"stim\x14", b"st\xefm\x14"))
    text = run(path, *MARKED[4:], "--stimulus", "stïm", "--response", "resp", "-o", tmp_path / "v.npz")
    assert len(load_windows(tmp_path / "v.npz")) == len(ONSET)
    assert "Latin-1" in text


def test_a_recording_is_inspected(tmp_path, cli):
    path = edf(tmp_path / "x.edf", brain(n=3), names=["Fz", "Cz", "HEOG"])
    code, out, _ = cli("inspect", path)
    assert code == 0
    for words in ("recording", "eeg (2)", "Fz, Cz", "eog (1)", "HEOG", "200", "resp (9), stim (9)"):
        assert words in out
    code, _, err = cli("inspect", tmp_path / "missing.edf")
    assert code == 2
    assert "missing.edf does not exist" in err
