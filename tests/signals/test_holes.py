"""NaN in a segment marked as bad costs its own windows alone; elsewhere it is an error."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals.chosen import EventChoice
from rtserve.signals.cutting import Cutting, cut_windows
from rtserve.signals.recordings import Cleaning, open_recording, resample

RATE, NAMES = 250.0, ["Fz", "Cz", "Pz"]
ONSET = np.arange(2.0, 38.0, 2.0)
HOLE = (5000, 5260)
STIM = Cutting(rule=None, choice=EventChoice(names=("stim",)), start=-0.2, stop=0.8)


def recorded(tmp_path, *, bad=(20.0, 1.04), hole=HOLE, value=np.nan, first=0):
    data = 2e-5 * np.random.default_rng(0).standard_normal((3, 10_000))
    whole = data.copy()
    data[1, hole[0] : hole[1]] = value
    raw = mne.io.RawArray(data, mne.create_info(NAMES, RATE, "eeg", verbose="error"), first, verbose="error")
    raw.set_annotations(
        mne.Annotations(np.r_[ONSET, bad[0]], np.r_[0 * ONSET, bad[1]], ["stim"] * len(ONSET) + ["BAD_off"])
    )
    raw.save(tmp_path / "x_raw.fif", fmt="double", verbose="error")
    return tmp_path / "x_raw.fif", whole


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_windows_are_those_of_mnes_epochs(tmp_path, value):
    path, _ = recorded(tmp_path, value=value, first=777)
    raw = mne.io.read_raw(path, preload=True, verbose="error")
    events, _ = mne.events_from_annotations(raw, regexp="stim", verbose="error")
    epochs = mne.Epochs(raw, events, tmin=-0.2, tmax=0.8 - 1 / RATE, baseline=None, preload=True, verbose="error")
    signal = open_recording(path, Cleaning(low=None, high=None, sfreq=None))
    found = cut_windows(signal, STIM)
    assert np.array_equal(found.X, epochs.get_data(copy=False).astype("f4"))
    assert dict(found.dropped) == {"in a segment marked as bad": len(events) - len(epochs)}
    assert "NaN in segments marked as bad (1.04 s)" in " ".join(signal.notes.lines())


def test_each_side_is_filtered_by_itself_and_the_rate_can_change(tmp_path):
    path, whole = recorded(tmp_path)
    signal = open_recording(path, Cleaning(low=1.0, high=40.0, sfreq=100.0))
    sides = [mne.filter.filter_data(part, RATE, 1.0, 40.0, verbose="error") for part in np.split(whole, HOLE, axis=1)]
    found = cut_windows(signal, STIM)
    assert np.isfinite(found.X).all()
    first, last = resample(sides[0], RATE, 100.0), resample(sides[2], RATE, 100.0)
    for window, onset in zip(found.X, found.onset_s, strict=True):
        at = round((onset - 0.2) * 100)
        side, at = (first, at) if onset < 20 else (last, at - round(HOLE[1] / 2.5))
        assert window[:, 12:-12] == pytest.approx(side[:, at : at + 100][:, 12:-12], abs=1e-10)
    kept = cut_windows(signal, Cutting(rule=None, choice=STIM.choice, start=-0.2, stop=0.8, keep_bad=True))
    assert len(kept.X) == len(found.X)
    assert sum(kept.dropped.values()) == len(ONSET) - len(found.X) == 1


@pytest.mark.parametrize("bad", [(20.0, 1.0), (20.05, 1.0), (30.0, 2.0)])
def test_one_outside_the_segment_is_refused(tmp_path, bad):
    path, _ = recorded(tmp_path, bad=bad)
    with pytest.raises(InputError, match="that are NaN or Inf, first in Cz at"):
        open_recording(path, Cleaning(low=None, high=None, sfreq=None))
