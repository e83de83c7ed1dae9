"""Recordings drawn at random give the windows of MNE's own epochs, bit for bit, and every event is counted."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime

import mne
import numpy as np
import pytest

from rtserve.signals.chosen import EventChoice
from rtserve.signals.cutting import Cutting, cut_windows
from rtserve.signals.recordings import Cleaning, open_recording

FORMATS = ("double", "single", "gz", "edf", "set", "vhdr")
NEEDS = {"set": "eeglabio", "vhdr": "pybv"}


def draw(rng, kind):
    """Return a recording with events anywhere, in segments marked as bad and at half samples too."""
    rate = float(rng.choice([100, 128, 250, 512] if kind in ("edf", "set", "vhdr") else [100, 250, 499.9, 1000 / 3]))
    seconds, n_events = int(rng.integers(15, 30)), int(rng.integers(4, 12))
    first = int(rng.choice([0, 777])) if kind in ("double", "single", "gz") else 0
    names = ["Fz", "Cz", "Pz"]
    samples = rng.normal(0, 2e-5, (3, int(seconds * rate)))
    raw = mne.io.RawArray(samples, mne.create_info(names, rate, "eeg", verbose="error"), first, verbose="error")
    if rng.random() < 0.5:
        raw.set_meas_date(datetime(1990 + int(rng.integers(0, 40)), 3, 4, 5, 6, 7, 891_234, tzinfo=UTC))
    onset = (
        np.unique(np.floor(rng.uniform(0, seconds - 0.1, n_events) * rate)) / rate + rng.choice([0, 0.5, 0.3]) / rate
    )
    bad = rng.uniform(0, seconds - 3, 2)
    notes = mne.Annotations(
        np.r_[onset, bad] + (raw.first_time if raw.info["meas_date"] else 0),
        np.r_[0 * onset, [0.001, 1.7]],
        ["stim"] * len(onset) + ["BAD_x", "bad y"],
        raw.info["meas_date"],
    )
    return raw.set_annotations(notes)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", FORMATS)
def test_windows_are_those_of_mnes_epochs(tmp_path, kind, seed):
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    rng = np.random.default_rng([seed, FORMATS.index(kind)])
    raw = draw(rng, kind)
    path = tmp_path / {"double": "x_raw.fif", "single": "x_raw.fif", "gz": "x_raw.fif.gz"}.get(kind, f"x.{kind}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if ".fif" in path.name:
            raw.save(path, fmt="double" if kind == "double" else "single", verbose="error")
        else:
            mne.export.export_raw(path, raw, verbose="error")
    start, length = float(rng.choice([-0.5, 0, -1 / 3, 0.25])), float(rng.choice([0.5, 1.0, 0.777]))
    again = mne.io.read_raw(path, preload=True, verbose="error")
    events, _ = mne.events_from_annotations(again, regexp=".*stim$", verbose="error")
    rate = again.info["sfreq"]
    first = round(start * rate)
    epochs = mne.Epochs(
        again, events, tmin=first / rate, tmax=(first + round(length * rate) - 1) / rate, baseline=None, preload=True,
        verbose="error",
    )  # fmt: skip
    ready = open_recording(path, Cleaning(low=None, high=None, sfreq=None))
    found = cut_windows(
        ready, Cutting(rule=None, choice=EventChoice(names=("*stim",)), start=start, stop=start + length)
    )
    assert np.array_equal(found.X, epochs.get_data(copy=False).astype("f4"))
    assert len(found.X) + sum(found.dropped.values()) == len(events)
