"""Epochs that MNE saved are windows as they are; what they do not say is refused."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals.windows import load_windows


def epochs(n=12, kinds=("left", "right"), types="eeg", tmin=-0.2):
    rng = np.random.default_rng(0)
    info = mne.create_info(8, 100.0, types)
    codes = 5 - np.arange(n) % len(kinds)
    events = np.c_[np.arange(n) * 100, np.zeros(n, int), codes]
    ids = {name: 5 - place for place, name in enumerate(kinds)}
    data = rng.standard_normal((n, 8, 50)) * 1e-5
    return mne.EpochsArray(data, info, events=events, event_id=ids, tmin=tmin, verbose="error")


def test_the_windows_are_mnes_own(tmp_path):
    one = epochs()
    one.info["subject_info"] = {"his_id": "s7"}
    one.save(tmp_path / "x-epo.fif", verbose="error")
    windows = load_windows(tmp_path / "x-epo.fif")
    np.testing.assert_allclose(windows.X, one.get_data(copy=True), rtol=1e-6, atol=1e-12)
    assert windows.classes == ("right", "left")  # in the order of their codes, 4 and 5
    assert [windows.classes[int(label)] for label in windows.y[:2]] == ["left", "right"]
    assert (windows.sfreq, windows.unit, windows.t0) == (100.0, "V", pytest.approx(-0.2))
    assert windows.ch_names == tuple(one.ch_names)
    assert set(windows.subject) == {"s7"}


def test_projectors_are_applied_and_other_channels_left_out(tmp_path):
    one = epochs(types=["eeg"] * 6 + ["eog", "stim"])
    one.set_eeg_reference(projection=True, verbose="error")
    one.save(tmp_path / "x-epo.fif", verbose="error")
    windows = load_windows(tmp_path / "x-epo.fif")
    assert windows.X.shape[1] == 6
    assert np.abs(windows.X.mean(axis=1)).max() < 1e-10


def _bad(one):
    one.info["bads"] = [one.ch_names[2]]
    return one


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: _bad(epochs()), "marks 2 as bad"),
        (lambda: epochs(kinds=("go",)), "one kind of event (go)"),
        (lambda: epochs(types="mag"), "without an EEG channel"),
    ],
)
def test_what_cannot_be_known_is_refused(make, said, tmp_path):
    make().save(tmp_path / "x-epo.fif", verbose="error")
    with pytest.raises(InputError) as caught:
        load_windows(tmp_path / "x-epo.fif")
    assert said in caught.value.message


def test_a_recording_is_told_the_way(tmp_path):
    info = mne.create_info(3, 100.0, "eeg")
    mne.io.RawArray(np.zeros((3, 500)), info, verbose="error").save(tmp_path / "x_raw.fif", verbose="error")
    with pytest.raises(InputError, match="without epochs") as caught:
        load_windows(tmp_path / "x_raw.fif")
    assert "rtserve prepare" in caught.value.hint
