"""References and what is filled in: as MNE has them, and said."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals.windows import load_windows

from .test_prepare import run
from .test_reading import MARKED, ONSET, made

NAMES = ("Fz", "Cz", "Pz", "Oz", "C3", "C4", "F3", "F4")
MONTAGE = next(name for name in ("colin27_1005", "standard_1005") if name in mne.channels.get_builtin_montages())


@pytest.fixture
def path(tmp_path):
    raw = made(NAMES)
    raw.apply_function(lambda x: 8 * x, picks=["Cz"])
    raw.info["bads"] = ["Cz"]
    raw.save(tmp_path / "a_raw.fif", fmt="double", verbose="error")
    return tmp_path / "a_raw.fif"


def by_mne(raw):
    """Return the windows that MNE cuts."""
    first = np.rint(ONSET * raw.info["sfreq"]).astype(int)
    data = raw.get_data()
    return np.stack([data[:, k : k + 400] for k in first]).astype("f4")


def windows(path, *more):
    text = run(path, *MARKED, *more, "-o", path.with_name("w.npz"), "--force")
    return load_windows(path.with_name("w.npz")), text


@pytest.mark.parametrize("bads", ["keep", "drop", "interpolate"])
def test_the_average_is_mnes(path, bads):
    raw = mne.io.read_raw_fif(path, preload=True, verbose="error")
    if bads == "drop":
        raw.drop_channels(["Cz"])
    elif bads == "interpolate":
        raw.set_montage(MONTAGE)
        raw.interpolate_bads(verbose="error")
    raw.set_eeg_reference("average", verbose="error")
    got, text = windows(path, "--channels", "all", "--bads", bads, "--reference", "average")
    assert got.ch_names == tuple(raw.ch_names)
    assert np.abs(got.X - by_mne(raw)).max() < 1e-10
    assert ("not in the average reference" in text) == (bads == "keep")


@pytest.mark.parametrize("channels", ["all", "Pz,Oz"])
def test_the_reference_may_be_a_channel_that_windows_lack(path, channels):
    raw = mne.io.read_raw_fif(path, preload=True, verbose="error").set_eeg_reference(["Fz"], verbose="error")
    raw.drop_channels(["Cz"]) if channels == "all" else raw.pick(channels.split(","))
    got, _ = windows(path, "--channels", channels, "--reference", "Fz")
    assert got.ch_names == tuple(raw.ch_names)
    assert np.abs(got.X - by_mne(raw)).max() < 1e-10


def test_a_bad_reference_is_refused(path):
    with pytest.raises(InputError, match="marks Cz as bad, which --reference asks for"):
        windows(path, "--reference", "Cz")
    assert not windows(path, "--reference", "Cz", "--bads", "keep")[0].X[:, 1].any()


def test_only_bad_channels_are_said_to_be_bad(path):
    with pytest.raises(InputError, match="marks all 1 channels asked for as bad: Cz"):
        windows(path, "--channels", "Cz", "--bads", "drop")


def test_what_is_absent_is_filled_from_good_channels_and_said(path):
    raw = mne.io.read_raw_fif(path, preload=True, verbose="error").drop_channels(["F3"])
    raw.save(path, fmt="double", overwrite=True, verbose="error")
    raw = mne.add_reference_channels(raw, ["F3"]).reorder_channels(list(NAMES)).set_montage(MONTAGE)
    raw.info["bads"] = ["Cz", "F3"]
    raw.interpolate_bads(exclude=["Cz"], verbose="error")
    got, text = windows(path, "--channels", ",".join(NAMES), "--missing", "interpolate", "--bads", "keep")
    assert np.abs(got.X - by_mne(raw)).max() < 1e-10
    assert "interpolated, being absent: F3" in text
