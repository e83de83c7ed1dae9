"""What a recording means by its projectors, joins, names, units and filters; each is what mne.Epochs makes of it."""

from __future__ import annotations

import edfio
import mne
import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals.reading import read_recording
from rtserve.signals.recordings import Cleaning, open_recording, resample
from rtserve.signals.tables import plain_number
from rtserve.signals.windows import load_windows

from . import formats
from .test_prepare import run
from .test_reading import MARKED, ONSET, edf, made


def epochs(raw, **options):
    """Return the windows (n, n_chans, n_times) that MNE cuts from 0 to 2 s after each stim."""
    found, _ = mne.events_from_annotations(raw, {"stim": 1}, verbose="error")
    end = 2 - 1 / raw.info["sfreq"]
    return mne.Epochs(raw, found, tmin=0, tmax=end, baseline=None, verbose="error", **options).get_data(picks="eeg")


def windows(tmp_path, *sources, more=()):
    text = run(*sources, "-o", tmp_path / "w.npz", *MARKED, *more, "--force")
    return load_windows(tmp_path / "w.npz"), text


def test_projectors_of_a_file_are_applied(tmp_path):
    raw = made()
    raw.set_eeg_reference(projection=True, verbose="error")
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    got, text = windows(tmp_path, tmp_path / "a_raw.fif")
    np.testing.assert_allclose(np.asarray(got.X[:]), epochs(raw), rtol=1e-5, atol=1e-10)
    assert np.abs(np.asarray(got.X[:]).mean(axis=1)).max() < 1e-10
    assert "projectors of the file applied, as mne.Epochs does: Average EEG reference" in text


def test_names_that_look_like_parts_are_recordings_of_their_own(tmp_path):
    for seed, name in enumerate(("anna", "anna-1", "anna-2")):
        made(seed=seed).save(tmp_path / f"{name}.fif", verbose="error")
    files = sorted(tmp_path.glob("*.fif"))
    got, text = windows(tmp_path, *files, more=["--subject", "anna"])
    assert len(got) == 3 * len(ONSET)
    assert "later part" not in text


def test_real_parts_are_read_with_their_first(tmp_path):
    raw = made(seconds=400)
    raw.save(tmp_path / "long_raw.fif", split_size="2MB", buffer_size_sec=1, verbose="error")
    files = sorted(tmp_path.glob("*.fif"))
    assert len(files) > 1
    got, text = windows(tmp_path, *files)
    assert len(got) == len(ONSET)
    assert f"{len(files) - 1} files are later parts of a recording" in text


@pytest.mark.parametrize("text", ["1_2", "1__2", "_1", "1_", "\u0661\u0662", "0x10", "1e", "1 2", "--1", ""])
def test_only_a_number_is_a_number(text):
    assert plain_number(text) is None


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("-.5", -0.5), ("+2.", 2), ("1E3", 1000), (" 7 ", 7)])
def test_numbers_are_read(text, value):
    assert plain_number(text) == value


@pytest.mark.parametrize("name", ["edge_left", "Edges", "boundary_cue", "-99", "new segments", "badge"])
def test_an_events_name_is_no_join(tmp_path, name):
    raw = made()
    raw.annotations.append(20.0, 0.0, name)
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    assert len(read_recording(tmp_path / "a_raw.fif").clock.stretches) == 1


@pytest.mark.parametrize("name", ["EDGE boundary", "BAD_ACQ_SKIP", "boundary", "New Segment/"])
def test_a_join_is_a_join(tmp_path, name):
    raw = made()
    raw.annotations.append(20.0, 0.5, name)
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    assert len(read_recording(tmp_path / "a_raw.fif").clock.stretches) == 2


def test_other_columns_of_a_table_mark_nothing(tmp_path):
    """A missing value of -99, and a comment that begins with bad: mne-bids makes annotations of trial_type alone."""
    raw = made()
    raw.set_annotations(None)
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    rows = [(at, "stim", "1", "n/a") for at in ONSET] + [(at + 1, "resp", "-99", "bad outcome shown") for at in ONSET]
    rows += [(at + 0.5, "fix", "-99", "boundary of trials") for at in ONSET]
    head = "onset\tduration\ttrial_type\tvalue\tdescription\n"
    text = head + "".join(f"{at}\t1.0\t{name}\t{value}\t{said}\n" for at, name, value, said in sorted(rows))
    (tmp_path / "a_raw_events.tsv").write_text(text)
    got, printed = windows(tmp_path, tmp_path / "a_raw.fif")
    assert len(got) == len(ONSET)
    assert "gap" not in printed
    assert "bad" not in printed


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "truncated files, incomplete, omitted"
    folder.mkdir()
    made().save(folder / "incomplete.fif", verbose="error")
    got, _ = windows(tmp_path, folder / "incomplete.fif", more=["--subject", "a"])
    assert len(got) == len(ONSET)


@pytest.mark.parametrize(("claim", "really", "numbers"), [("MV", "mV", 0.02), ("UV", "uV", 20.0), ("nV", "uV", 20.0)])
def test_a_unit_takes_the_place_of_what_mne_multiplied_by(tmp_path, claim, really, numbers):
    rng = np.random.default_rng(0)
    data = numbers * rng.standard_normal((3, 200 * 40))
    path = edf(tmp_path / "a.edf", data, units=[claim] * 3)
    signal = open_recording(path, Cleaning(unit=really, low=None, high=None, sfreq=None))
    assert np.std(signal.data) == pytest.approx(2e-5, rel=0.02)


def test_the_trigger_channel_that_was_named_is_taken(tmp_path):
    raw = made(("Fz", "Cz", "STI 014"), ["eeg", "eeg", "stim"])
    raw.set_annotations(mne.Annotations(ONSET + 0.1, 0.0, ["1"] * len(ONSET)))
    raw._data[2] = 0
    raw._data[2, (ONSET * 200).astype(int)] = 1
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    options = ["--target", "class", "--stimulus", "1", "--window", "0,1", "--band", "0,0", "--sfreq", "0"]
    for more, moved in (([], 0.1), (["--stim-channel", "STI 014"], 0.0)):
        run(tmp_path / "a_raw.fif", "-o", tmp_path / "w.npz", *options, *more, "--force")
        np.testing.assert_allclose(load_windows(tmp_path / "w.npz").extra["onset_s"], ONSET + moved, atol=1e-6)


@pytest.mark.parametrize(("first", "filtered"), [("HP:0.01Hz LP:70Hz", True), ("HP:1Hz LP:30Hz", False)])
def test_a_filter_counts_where_every_channel_had_it(tmp_path, first, filtered):
    rng = np.random.default_rng(0)
    rows = 20 * rng.standard_normal((3, 200 * 40)) + 500
    limits = {"physical_dimension": "uV", "physical_range": (-800, 800)}
    said = [first, "HP:1Hz LP:30Hz", "HP:1Hz LP:30Hz"]
    signals = [edfio.EdfSignal(row, 200, label=f"C{k}", prefiltering=said[k], **limits) for k, row in enumerate(rows)]
    edfio.Edf(signals).write(tmp_path / "a.edf")
    signal = open_recording(tmp_path / "a.edf", Cleaning(filter_again=False, sfreq=None))
    assert (abs(signal.data.mean()) < 1e-5) == filtered
    assert any("high-passed at 1 Hz already" in line for line in signal.notes.lines()) != filtered


def test_a_header_padded_with_zeros_is_read(tmp_path):
    path = edf(tmp_path / "a.edf", 20 * np.random.default_rng(0).standard_normal((3, 200 * 40)))
    data = bytearray(path.read_bytes())
    for start, stop in ((184, 192), (192, 236), (236, 244), (244, 252), (252, 256)):
        data[start:stop] = bytes(data[start:stop]).replace(b" ", b"\0")
    path.write_bytes(data)
    assert len(windows(tmp_path, path)[0]) == len(ONSET)


def test_triggers_that_are_no_events_are_told(tmp_path):
    raw = made(("Fz", "Cz", "STI 014"), ["eeg", "eeg", "stim"])
    raw._data[2] = 0
    raw._data[2, :10] = 4
    raw._data[2, (ONSET * 200).astype(int)] = -3
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    marks = read_recording(tmp_path / "a_raw.fif", stim_channel="STI 014").marks[0]
    assert set(marks.name) == {"3"}
    assert f"goes below 0 {len(ONSET)} times" in marks.note
    assert "is at 4 from its first sample on" in marks.note
    assert "lower number" not in marks.note


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_stretch_of_few_samples_is_resampled(n):
    for old, new in ((250.0, 100.0), (100.0, 250.0), (512.0, 100.0)):
        out = resample(np.ones((2, n)), old, new)
        assert out.shape == (2, -(-round(n * new * 1000) // round(old * 1000)))
        assert np.isfinite(out).all()


def test_joins_a_sample_apart_are_no_crash(tmp_path):
    raw = made(rate=250.0)
    raw.annotations.append([20.0, 20.004], [0, 0], ["EDGE boundary"] * 2)
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    text = run(tmp_path / "a_raw.fif", "--stimulus", "stim", "--response", "resp", "--window", "0,2", "-o",
               tmp_path / "w.npz")  # fmt: skip
    assert "2 gaps" in text


def test_an_unknown_factor_is_no_guess(tmp_path):
    path = edf(tmp_path / "a.edf", 20 * np.random.default_rng(0).standard_normal((3, 200 * 40)), units=["MV"] * 3)
    with pytest.raises(InputError, match="half its samples exceed"):
        open_recording(path, Cleaning(low=None, high=None, sfreq=None))


def test_a_column_of_no_table_is_refused(tmp_path):
    path = formats._edf(tmp_path).path
    with pytest.raises(InputError, match=r"has no events\.tsv, so no column nope"):
        read_recording(path, column="nope")


def test_events_after_the_last_sample_are_said(tmp_path):
    path = formats._edf(tmp_path).path
    (tmp_path / "x_events.tsv").write_text("onset\tduration\ttrial_type\n3\t0\tx\n99\t0\tx\n", encoding="utf-8")
    said = " ".join(read_recording(path).notes.lines())
    assert "events of x_events.tsv, column trial_type go on to 99.0 s, the samples end at 26.0 s" in said


def test_a_slow_recording_has_no_low_pass_that_nobody_asked_for(tmp_path):
    raw = made(rate=64.0)
    raw.save(tmp_path / "x_raw.fif", fmt="double", verbose="error")
    options = [*MARKED[:6], "--sfreq", "0", "-o", tmp_path / "w.npz", "--force"]
    text = run(tmp_path / "x_raw.fif", *options)
    assert "sampled at 64 Hz, half of which is under 50 Hz: not low-passed" in text
    X = load_windows(tmp_path / "w.npz").X[:]
    raw.filter(0.5, None, verbose="error")
    assert pytest.approx(epochs(raw), abs=1e-10) == X
    with pytest.raises(InputError, match="a band up to 50 Hz needs more than 100 Hz"):
        run(tmp_path / "x_raw.fif", *options, "--band", "0.5,50")


def test_an_empty_class_says_what_was_left_out(tmp_path):
    raw = made()
    at = np.r_[ONSET, ONSET + 0.001]
    raw.set_annotations(mne.Annotations(np.r_[at, 20.2], 0.0, ["a"] * len(ONSET) + ["b"] * len(ONSET) + ["a"]))
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    options = ["--target", "class", "--classes", "a,b", "--window", "0,1", "-o", tmp_path / "w.npz"]
    with pytest.raises(InputError, match="no window is of class b of class; dropped: 18 different events at the same"):
        run(tmp_path / "x_raw.fif", *options)
