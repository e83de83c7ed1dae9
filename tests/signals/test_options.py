"""Options of prepare: nonsense is refused by the option's name, and before a file is read or an output is touched."""

from __future__ import annotations

import os

import click
import h5py
import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals.windows import WindowSet, load_windows, save_windows

from .test_prepare import run
from .test_reading import MARKED, made


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("options") / "a_raw.fif"
    made().save(path, verbose="error")
    return path


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("--window 0,0.001 --sfreq 200", "--window '0,0.001' holds no sample at 200 Hz"),
        ("--window 0,0.001", "holds no sample at 200 Hz"),
        ("--window 0,inf", "--window '0,inf' is not two finite numbers"),
        ("--window=-inf,2", "--window '-inf,2' is not two finite"),
        ("--window 2,0", "--window '2,0' ends before"),
        ("--window 1", "--window '1' is not two numbers"),
        ("--sfreq 0.3", "--sfreq 0.3 is no rate"),
        ("--sfreq -1", "--sfreq -1 is no rate"),
        ("--sfreq nan", "--sfreq nan is no rate"),
        ("--sfreq inf", "--sfreq inf is no rate"),
        ("--sfreq 1e-9", "--sfreq 1e-09 is no rate"),
        ("--sfreq 1e8", "--sfreq 1e.08 is no rate"),
        ("--band nan,50", "--band 'nan,50' is not two finite"),
        ("--band 1,inf", "--band '1,inf' is not two finite"),
        ("--band=-1,50", "--band '-1,50' has an end below 0"),
        ("--band 50,1", "--band '50,1' ends before"),
        ("--max-uv nan", "--max-uv nan is not a number from 0"),
        ("--max-uv -5", "--max-uv -5 is not a number from 0"),
        ("--channels Fz,Fz", "--channels 'Fz,Fz' names Fz twice"),
        ("--channels ,", "--channels ',' names no channel"),
        ("--channels Fz,all", "has all beside names"),
        ("--drop ,", "--drop ',' names no channel"),
        ("--drop Fz,Fz", "--drop 'Fz,Fz' names Fz twice"),
        ("--drop Fz --channels Fz,Cz", "--channels names Fz, which --drop leaves out"),
        ("--channels Fz --reference Fz", "would be 0 throughout"),
        ("--channels Fz --reference average", "would be 0 throughout"),
        ("--reference C9", "has no channel C9"),
        ("--fixed 4,2", "not at fixed steps"),
        ("--crop 2", "not at fixed steps"),
        ("--trial-start nope", "no trial start event nope"),
        ("--stimulus ,", "--stimulus ',' names no event"),
        ("--trial-end ,", "--trial-end ',' names no event"),
        ("--trigger-mask 0", "--trigger-mask 0 lets no bit"),
        ("--trigger-mask -1", "--trigger-mask -1 lets no bit"),
        ("--task rest", "--task rest is for BIDS folders"),
        ("--unit 1", "--unit 1 is of windows"),
    ],
)
def test_nonsense_is_named(recording, tmp_path, more, says):
    with pytest.raises(InputError, match=says) as caught:
        run(recording, *MARKED, *more.split(), "-o", tmp_path / "w.npz")
    assert caught.value.hint
    assert "is the file whole" not in caught.value.hint
    assert not list(tmp_path.iterdir())
    if "nope" in more:
        assert "--trial-start" in caught.value.hint


@pytest.mark.parametrize("fixed", ["inf,2", "4,nan", "4,0", "-4,2", "4"])
def test_fixed_windows_are_finite(recording, tmp_path, fixed):
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t3\n")
    path = tmp_path / "sub-01_raw.fif"
    path.symlink_to(recording)
    with pytest.raises(InputError, match="--fixed"):
        run(path, "--target", "age", f"--fixed={fixed}", "-o", tmp_path / "w.npz")


@pytest.mark.parametrize("name", ["w", "w.mat", "a_raw.fif", "participants.tsv", "w.npz.bak"])
def test_an_output_is_a_file_of_windows(tmp_path, name):
    made().save(tmp_path / "a_raw.fif", verbose="error")
    (tmp_path / "participants.tsv").write_text("dear")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"does not end in \.npz or \.h5"):
        run(tmp_path / "a_raw.fif", *MARKED, "-o", tmp_path / name, "--force")
    with pytest.raises(InputError, match=r"does not end in \.npz or \.h5"):
        save_windows(tmp_path / name, WindowSet(X=np.full((1, 1, 2), 1e-5), y=np.zeros(1)), force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_units_are_called_as_files_call_them(recording, tmp_path):
    for k, unit in enumerate(("µV", "\N{GREEK SMALL LETTER MU}V", "uV")):
        with pytest.raises(InputError, match="with --unit uV"):
            run(recording, *MARKED, "--unit", unit, "-o", tmp_path / f"{k}.npz")
    with pytest.raises(click.UsageError):
        run(recording, *MARKED, "--unit", "kV", "-o", tmp_path / "w.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["x_raw.fif", "a_raw_events.tsv", "x.edf"])
def test_a_pipe_is_called_one(recording, tmp_path, name):
    (tmp_path / "a_raw.fif").symlink_to(recording)
    os.mkfifo(tmp_path / name)
    source = tmp_path / ("a_raw.fif" if name.endswith("tsv") else name)
    with pytest.raises(InputError, match="is a pipe or a device"):
        run(source, *MARKED, "-o", tmp_path / "w.npz")


@pytest.mark.parametrize("name", ["e_raw.fif", "e.edf", "e.bdf", "e.vhdr", "e.set"])
def test_an_empty_file_is_called_empty(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"is empty \(0 bytes\)"):
        run(tmp_path / name, *MARKED, "-o", tmp_path / "w.npz")


def test_a_file_of_epochs_is_called_one(recording, tmp_path):
    import mne

    raw = mne.io.read_raw_fif(recording, preload=True, verbose="error")
    events = mne.events_from_annotations(raw, {"stim": 1}, verbose="error")[0]
    mne.Epochs(raw, events, verbose="error").save(tmp_path / "x-epo.fif", verbose="error")
    with pytest.raises(InputError, match="holds no raw data") as caught:
        run(tmp_path / "x-epo.fif", *MARKED, "-o", tmp_path / "w.npz")
    assert "epochs" in caught.value.hint


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "c.h5"
    with h5py.File(path, "w") as file:
        file["eeg"] = np.random.default_rng(0).standard_normal((6, 4, 200)) * 1e-5
        file["labels"] = np.arange(6.0)
    return path


def test_what_is_assumed_of_a_cache_is_said(cache, tmp_path):
    text = run(cache, "-o", tmp_path / "w.npz")
    assert "assumed, since c.h5 does not say: 100 Hz, first sample at 0.5 s, unit V, labels are response_time" in text
    more = ["--sfreq", 200, "--window", "0,1", "--unit", "V", "--target", "age"]
    assert "since c.h5" not in run(cache, *more, "-o", tmp_path / "v.npz")
    assert load_windows(tmp_path / "v.npz").sfreq == 200


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("--band 1,20", "--band has no meaning"),
        ("--reference average", "--reference has no meaning"),
        ("--classes a=1", "--classes has no meaning"),
        ("--max-uv 1", "--max-uv has no meaning"),
        ("--sfreq 0", "does not say its rate"),
        ("--window 0,1", "windows of 200 samples, 2 s at 100 Hz, and --window of 1 s"),
        ("--unit uV", "--unit V or --unit mV or --unit 1|--unit V or --unit 1"),
        ("--unit nV", "in nV are not read"),
    ],
)
def test_options_that_mean_nothing_to_a_cache_are_refused(cache, tmp_path, more, says):
    with pytest.raises(InputError) as caught:
        run(cache, *more.split(), "-o", tmp_path / "w.npz")
    assert any(text in f"{caught.value} {caught.value.hint}" for text in says.split("|"))
    assert not (tmp_path / "w.npz").exists()


def test_a_cache_is_no_output_of_itself(cache, tmp_path):
    before = cache.read_bytes()
    for output in (cache, tmp_path / "link.h5"):
        if output != cache:
            output.symlink_to(cache)
        with pytest.raises(InputError, match="is the source itself"):
            run(cache, "-o", output, "--force")
    assert cache.read_bytes() == before


@pytest.mark.parametrize("labels", [[b"left", b"right"], [1j, 2j]])
def test_labels_are_numbers(tmp_path, labels):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["eeg"] = np.ones((2, 4, 8))
        file["labels"] = labels
    with pytest.raises(InputError, match=r"labels holds .*, no numbers"):
        run(tmp_path / "c.h5", "-o", tmp_path / "w.npz")


def test_normalised_windows_are_taken_as_their_hint_says(tmp_path):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["eeg"] = np.random.default_rng(0).standard_normal((6, 4, 200))
        file["labels"] = np.arange(6.0)
    with pytest.raises(InputError) as caught:
        run(tmp_path / "c.h5", "-o", tmp_path / "w.npz")
    assert caught.value.hint == "--unit mV or --unit uV or --unit 1 for windows normalised to variance 1"
    run(tmp_path / "c.h5", "--unit", 1, "-o", tmp_path / "w.npz")
    assert load_windows(tmp_path / "w.npz").unit == "1"


def test_a_cache_without_windows_is_said_to_have_none(tmp_path):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["eeg"] = np.ones((0, 4, 8))
        file["labels"] = np.ones(0)
    with pytest.raises(InputError, match="holds no window"):
        run(tmp_path / "c.h5", "-o", tmp_path / "w.npz")


def test_a_window_set_needs_no_preparing(cache, tmp_path):
    run(cache, "-o", tmp_path / "w.npz")
    with pytest.raises(InputError, match="hold windows that are cut already"):
        run(tmp_path / "w.npz", "-o", tmp_path / "v.npz")
