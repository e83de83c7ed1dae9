"""Triggers are the numbers that the file holds, whatever MNE took their channel for."""

from __future__ import annotations

import edfio
import mne
import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals.bids import find_recordings
from rtserve.signals.reading import read_recording

RATE, N = 250, 2500
PLACES = np.arange(250, 2400, 250)


def codes(add=0.0):
    """Pulses of five samples, 1 and 2 by turns."""
    out = np.zeros(N)
    for k, place in enumerate(PLACES):
        out[place : place + 5] = 1 + k % 2 + add
    return out


def write(path, label, dimension, trigger):
    wide = path.suffix == ".bdf"
    one, whole = (edfio.BdfSignal, edfio.Bdf) if wide else (edfio.EdfSignal, edfio.Edf)
    brain = np.random.default_rng(0).normal(0, 20, N)
    limits = (-8388608, 8388607) if wide else (-3276.8, 3276.7) if (trigger % 1).any() else (-32768, 32767)
    signals = [
        one(brain, RATE, label="Fz", physical_dimension="uV", physical_range=(-200, 200)),
        one(trigger, RATE, label=label, physical_dimension=dimension, physical_range=limits),
    ]
    whole(signals).write(path)
    return path


@pytest.mark.parametrize("ending", [".edf", ".bdf"])
@pytest.mark.parametrize("label", ["Marker", "DC01", "TRIG", "STI 014", "Status"])
@pytest.mark.parametrize("dimension", ["uV", "mV", ""])
def test_a_named_channel_gives_its_own_numbers(tmp_path, ending, label, dimension):
    path = write(tmp_path / f"x{ending}", label, dimension, codes())
    marks = read_recording(path, stim_channel=label).marks[0]
    assert marks.source == f"trigger channel {label}"
    assert marks.name.tolist() == ["1", "2"] * 4 + ["1"]
    assert marks.stored.tolist() == PLACES.tolist()


def test_of_numbers_that_are_not_whole_the_whole_part_is_taken_as_in_mne(tmp_path):
    path = write(tmp_path / "x.edf", "Marker", "", codes(add=0.6))
    marks = read_recording(path, stim_channel="Marker").marks[0]
    raw = mne.io.read_raw(path, preload=True, verbose="error")
    found = mne.find_events(raw, "Marker", shortest_event=1, verbose="error")
    assert marks.stored.tolist() == found[:, 0].tolist()
    assert marks.name.tolist() == found[:, 2].astype(str).tolist()
    assert "numbers that are not whole, such as 1.6" in marks.note


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    for who in ("01", "02"):
        path = tmp_path / f"sub-{who}" / "eeg" / f"sub-{who}_task-x_eeg.edf"
        path.parent.mkdir(parents=True)
        write(path, "Status", "", codes())
    (tmp_path / "sub-01_note.txt").touch()
    assert len(find_recordings([tmp_path]).items) == 2
    import os

    real = os.scandir

    def scandir(place):
        if "sub-02" in str(place):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"folder .*sub-02 cannot be read \(Permission denied\)"):
        find_recordings([tmp_path])
