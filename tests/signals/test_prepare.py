"""Prepare: recordings to windows, by the rule of the data, and a clear word about everything that can be wrong."""

from __future__ import annotations

import shutil

import h5py
import mne
import numpy as np
import pytest
from click.testing import CliRunner

from rtserve.cli.signals import prepare as command
from rtserve.errors import InputError
from rtserve.signals.events import HBN_EVENTS, Events, find_trials
from rtserve.signals.windows import load_windows

from .recordings import NAMES, brain, trials, write_bdf, write_bids, write_events

CHANNELS = ["--channels", ",".join(NAMES)]


def run(*arguments):
    """Run the command; errors come out as they are."""
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=True, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    return write_bids(tmp_path_factory.mktemp("bids"))


def test_a_bids_folder_in_bdf_becomes_windows(bids, tmp_path):
    text = run(bids, *CHANNELS, "-o", tmp_path / "w.npz", "--json")
    windows = load_windows(tmp_path / "w.npz")
    assert windows.X.shape == (24, 8, 200)
    assert (windows.sfreq, windows.t0, windows.ch_names, windows.target) == (100.0, 0.5, NAMES, "response_time")
    assert windows.y[:6] == pytest.approx(trials()[1], abs=1e-3)
    assert sorted(set(windows.subject)) == ["sub-NDARA", "sub-NDARB"]
    assert len(set(windows.run_id)) == 4
    assert '"n_windows": 24' in text
    # The first window is the recording's own samples, band-passed and resampled, from half a second after the target.
    raw = mne.io.read_raw(sorted(bids.glob("sub-NDARA/eeg/*.bdf"))[0], preload=True, verbose="error").pick(list(NAMES))
    raw.filter(0.5, 50, verbose="error").resample(100, method="polyphase", verbose="error")
    assert np.allclose(windows.X[0], raw.get_data()[:, 350:550], atol=1e-10)
    assert 1e-6 < windows.X.std() < 1e-4
    assert not list(tmp_path.glob("*.parts"))


def test_hdf5_holds_the_same_windows_and_processes_make_no_difference(bids, tmp_path):
    run(bids, *CHANNELS, "-o", tmp_path / "a.npz")
    run(bids, *CHANNELS, "-o", tmp_path / "b.h5", "--jobs", 2)
    first, second = load_windows(tmp_path / "a.npz"), load_windows(tmp_path / "b.h5")
    assert first.digest == second.digest
    assert first.run_id.tolist() == second.run_id.tolist()
    run(bids, *CHANNELS, "-o", tmp_path / "c.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()


def test_a_subjects_target_comes_from_participants(bids, tmp_path):
    run(bids, *CHANNELS, "--target", "externalizing", "-o", tmp_path / "w.npz")
    windows = load_windows(tmp_path / "w.npz")
    assert windows.X.shape == (4 * 19, 8, 200)  # 40 s: windows of 4 s every 2 s, 2 s of each
    assert set(windows.y[windows.subject == "sub-NDARA"]) == {0.0}
    assert set(windows.y[windows.subject == "sub-NDARB"]) == {0.5}
    with pytest.raises(InputError, match="no column p_factor") as caught:
        run(bids, *CHANNELS, "--target", "p_factor", "-o", tmp_path / "x.npz")
    assert "externalizing" in caught.value.hint


def test_pairing_takes_the_first_answer_within_the_trial():
    rows, times = trials(n=4, answered=lambda k: k != 2)
    found = find_trials(Events(onset=np.array([r[0] for r in rows]), name=np.array([r[1] for r in rows])), HBN_EVENTS)
    assert found.response_time == pytest.approx(times)
    assert found.dropped == {"no response": 1}


def test_an_interrupted_run_goes_on(bids, tmp_path, monkeypatch):
    from rtserve.signals import prepare

    made = []
    real = prepare.cut_windows

    def stop_after_two(signal, cutting):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(signal.path)
        return real(signal, cutting)

    monkeypatch.setattr(prepare, "cut_windows", stop_after_two)
    with pytest.raises(BaseException):  # noqa: B017, PT011 -- click turns an interrupt into its own Abort
        run(bids, *CHANNELS, "-o", tmp_path / "w.npz")
    assert not (tmp_path / "w.npz").exists()
    monkeypatch.setattr(prepare, "cut_windows", real)
    with pytest.raises(InputError, match="interrupted run") as caught:
        run(bids, *CHANNELS, "-o", tmp_path / "w.npz")
    assert "--resume" in caught.value.hint
    with pytest.raises(InputError, match="other settings"):
        run(bids, *CHANNELS, "--band", "1,40", "-o", tmp_path / "w.npz", "--resume")
    assert "reused 2 recordings" in run(bids, *CHANNELS, "-o", tmp_path / "w.npz", "--resume")
    run(bids, *CHANNELS, "-o", tmp_path / "whole.npz")
    assert (tmp_path / "w.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def broken(kind, folder):
    """Break the second recording of a BIDS folder."""
    path = sorted(folder.glob("sub-*/eeg/*.bdf"))[1]
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind == "units":
        write_bdf(path, brain(), unit="V")
    elif kind == "montage":
        write_bdf(path, brain(), names=(*NAMES[:6], "X1", "X2"))
    elif kind == "unanswered":
        write_events(path, trials(answered=lambda k: False)[0])
    elif kind == "silent":
        write_events(path, [row for row in trials()[0] if not row[1].endswith("buttonPress")])
    elif kind == "elsewhere":
        write_events(path, trials(first=500.0)[0])
    elif kind == "text":
        path.write_text("not a recording")
    elif kind == "columns":
        path.with_name(path.name.replace("_eeg.bdf", "_events.tsv")).write_text("time\tname\n1\tx\n")
    elif kind == "onset":
        path.with_name(path.name.replace("_eeg.bdf", "_events.tsv")).write_text("onset\tvalue\nsoon\tleft_target\n")
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("truncated", "is cut off"),
        ("units", "a factor of 1e6"),
        ("montage", "lacks 2 of 8 channels: E7, E8"),
        ("unanswered", "6 no response"),
        ("silent", "no response event"),
        ("elsewhere", "6 outside the recording"),
        ("text", "cannot be read whole"),
        ("columns", "has columns name, time"),
        ("onset", "an onset is no number"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(bids, tmp_path, kind, says):
    folder = shutil.copytree(bids, tmp_path / "set")
    path = broken(kind, folder)
    with pytest.raises(InputError, match=says) as caught:
        run(folder, *CHANNELS, "-o", tmp_path / "w.npz", "--force")
    assert path.name.replace("_eeg.bdf", "") in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "w.npz").exists()
    shutil.rmtree(tmp_path / "w.npz.parts", ignore_errors=True)
    text = run(folder, *CHANNELS, "-o", tmp_path / "w.npz", "--keep-going")
    assert "18 windows from 3 recordings" in text
    assert path.name.replace("_eeg.bdf", "") in text
    assert len(load_windows(tmp_path / "w.npz")) == 18


def test_different_montages_do_not_mix(bids, tmp_path):
    folder = shutil.copytree(bids, tmp_path / "set")
    path = broken("montage", folder)
    with pytest.raises(InputError, match="do not go together: channels differ in E7, E8, X1, X2") as caught:
        run(folder, "--channels", "all", "-o", tmp_path / "w.npz")
    assert path.name in caught.value.message


def test_nan_segments_are_named(tmp_path):
    data = 1e-6 * brain()
    data[2, 1000:1010] = np.nan
    raw = mne.io.RawArray(data, mne.create_info(list(NAMES), 200, "eeg", verbose="error"), verbose="error")
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    with pytest.raises(InputError, match=r"10 samples that are NaN or Inf, first in E3 at 5\.000 s"):
        run(tmp_path / "a_raw.fif", "--stimulus", "s", "--response", "r", "-o", tmp_path / "w.npz")


def test_missing_channels_are_filled_only_when_asked(tmp_path):
    names = tuple(name for name in (*(f"E{i}" for i in range(1, 129)), "Cz") if name not in ("E5", "E60"))
    path = tmp_path / "sub-A/eeg/sub-A_task-x_eeg.bdf"
    write_bdf(path, brain(seconds=10, n=len(names)), names=names)
    write_events(path, trials(n=1)[0])
    with pytest.raises(InputError, match="lacks 2 of 129 channels: E5, E60") as caught:
        run(tmp_path, "-o", tmp_path / "w.npz")
    assert "interpolate" in caught.value.hint
    run(tmp_path, "-o", tmp_path / "w.npz", "--missing", "interpolate")
    windows = load_windows(tmp_path / "w.npz")
    assert windows.X.shape == (1, 129, 200)
    assert windows.ch_names[4] == "E5"
    assert windows.X[:, 4].std() > 0
    assert not np.allclose(windows.X[:, 0], windows.X[:, 4])


def test_caches_of_the_origin_are_read(tmp_path):
    X = brain(seconds=20, n=129).reshape(129, 20, 200).transpose(1, 0, 2)
    for name, (eeg, labels) in {"a": ("eeg", "labels"), "b": ("data", "targets")}.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as archive:
            archive[eeg], archive[labels] = X * 1e-6, np.linspace(0.5, 2.0, 20)
            archive["subject_ids"] = [f"s{i % 4}".encode() for i in range(20)]
        run(tmp_path / f"{name}.h5", "-o", tmp_path / f"{name}.npz")
        windows = load_windows(tmp_path / f"{name}.npz")
        np.testing.assert_allclose(windows.X, X * 1e-6, rtol=1e-5)
        assert len(set(windows.subject)) == 4
    with h5py.File(tmp_path / "z.h5", "w") as archive:
        archive["eeg"], archive["labels"] = X / X.std(), np.zeros(20)
    with pytest.raises(InputError, match="EEG has about 1e-5 V") as caught:
        run(tmp_path / "z.h5", "-o", tmp_path / "z.npz")
    assert "normalised" in caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--window", "2,1"], "ends before it begins"),
        (["--window", "x"], "not two numbers"),
        (["--band", "0.5,300"], "needs more than 600 Hz"),
        (["--stimulus", "a"], "go together"),
        (["--stimulus", "a", "--response", "b"], "no stimulus event a"),
        (["--stimulus", "left_target", "--response", "b"], "no response event b"),
        (["--task", "restingState"], "no recording of task restingState"),
        (["--drop", "EOG7"], "no channel EOG7 to drop"),
        (["--target", "externalizing", "--crop", "9"], "cut to 9 s"),
    ],
)
def test_arguments_that_cannot_be_meant(bids, tmp_path, arguments, says):
    with pytest.raises(InputError, match=says):
        run(bids, *CHANNELS, *arguments, "-o", tmp_path / "w.npz")
    assert not list(tmp_path.iterdir())


def test_no_stimulus_is_no_trial():
    found = find_trials(Events(onset=np.array([1.0]), name=np.array(["x"])), HBN_EVENTS)
    assert len(found.onset) == 0


def test_an_existing_output_is_left_alone(bids, tmp_path):
    (tmp_path / "w.npz").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        run(bids, *CHANNELS, "-o", tmp_path / "w.npz")
    assert (tmp_path / "w.npz").read_text() == "mine"


@pytest.mark.shared
def test_the_real_recording_gives_the_windows_it_once_gave(shared_dir, tmp_path):
    folder = shared_dir / "data/eeglab_squares"
    text = run(
        folder / "eeglab_data.set", "--stimulus", "square", "--response", "rt", "--window=-1,2", "--sfreq", 100,
        "--band", "0.5,45", "--drop", "EOG1,EOG2", "--reference", "average", "-o", tmp_path / "w.npz",
    )  # fmt: skip
    assert "74 windows" in text
    assert "6 no response" in text
    windows, known = load_windows(tmp_path / "w.npz"), np.load(folder / "eeglab_squares_m1p2s_100hz.npz")
    assert windows.X.shape == known["X"].shape
    # The stored windows were resampled by MNE's FFT method, which at this length moves everything by 3/8 of a sample.
    frequency = np.fft.rfftfreq(300, 0.01)
    moved = np.fft.rfft(1e6 * windows.X) * np.exp(-2j * np.pi * frequency * 0.00375) * (frequency < 40)
    there = np.fft.irfft(np.fft.rfft(known["X"]) * (frequency < 40), 300)[:, :, 40:260]
    assert (np.fft.irfft(moved, 300)[:, :, 40:260] - there).std() < 0.005 * there.std()
    assert windows.y == pytest.approx(known["y"], abs=1e-6)
    assert windows.ch_names == tuple(known["ch_names"])
    assert windows.t0 == -1.0
