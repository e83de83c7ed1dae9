"""The recording of `pulses` in the formats that MNE reads and does not write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import numpy as np

from .pulses import JOIN, NAMES, PAUSE_S, RATE, STIMULI, Recorded, annotated, rows_of, signal
from .vendor_files import CNT_LATE, cnt, epoched_set, gdf, matlab73_set, mff

CODES = {"stim": 769, "resp": 770}


def _coded(stimuli: np.ndarray = STIMULI, late: int = 0) -> list[tuple[int, int]]:
    return [(round(at * RATE) + late, CODES[name]) for at, name in rows_of(stimuli)]


def _numbered(path: Path, **change: Any) -> Recorded:
    """Return a recording whose events are numbers, as MNE reads them."""

    def oracle() -> tuple[Any, np.ndarray]:
        raw = mne.io.read_raw(path, preload=True, verbose="error")
        return raw, mne.events_from_annotations(raw, {"769": 1}, verbose="error")[0]

    return Recorded(path=path, marks=("769", "770"), **({} if "why" in change else {"oracle": oracle}), **change)


def in_gdf(folder: Path, *, segment: bool = False, why: str = "", **about: Any) -> Recorded:
    events = sorted([*_coded(), *([(JOIN, 0x7FFE)] if segment else [])])
    data = signal(seconds=26.0)
    path = gdf(folder / "x.gdf", data, RATE, events, names=NAMES, **about)
    return _numbered(path, **({"why": why} if why else {}))


def in_cnt(folder: Path, *, broken: bool = False, why: str = "", **about: Any) -> Recorded:
    """Its events are a sample late in the file, since MNE has them a sample early."""
    events = sorted([*_coded(late=CNT_LATE), *([(JOIN, 0)] if broken else [])])
    accepts = [0xE0 if code == 0 else 0 for _, code in events]
    data = signal(seconds=26.0)
    cnt(folder / "x.cnt", data, round(RATE), events, names=NAMES, accepts=accepts, **about)
    return _numbered(folder / "x.cnt", **({"why": why} if why else {}))


def in_mff(folder: Path, *, paused: bool = False, late: float = 0.0) -> Recorded:
    stimuli = STIMULI + late + PAUSE_S * (paused & (STIMULI >= JOIN / RATE))
    data, rate = signal(seconds=26.0), round(RATE)
    begin, gap = round(late * rate), round(PAUSE_S * rate)
    parts = [(begin, JOIN + begin), (JOIN + begin + gap * paused, data.shape[1] + begin + gap * paused)]
    path = mff(folder / "x.mff", data, rate, rows_of(stimuli), parts=parts, names=NAMES)
    return annotated(path, stimuli=stimuli)


def in_eeglab_epochs(folder: Path) -> Recorded:
    """Two epochs of 13 s with all events; MNE has them as epochs, which are put one after the other for its own cut."""
    path, rows = folder / "x.set", [(round(at * RATE), name) for at, name in rows_of()]
    data = signal(seconds=26.0)
    epoched_set(path, data, RATE, rows, names=NAMES, trials=2, zero=round(2.5 * RATE))

    def oracle() -> tuple[Any, np.ndarray]:
        epochs, notes = mne.io.read_epochs_eeglab(path, verbose="error"), mne.read_annotations(path)
        at = np.rint(notes.onset[notes.description == "stim"] * RATE).astype(int)
        samples = np.concatenate(list(epochs.get_data()), axis=1)
        return mne.io.RawArray(samples, epochs.info, verbose="error"), np.c_[at, 0 * at, 0 * at + 1]

    return Recorded(path=path, oracle=oracle)


def in_eeglab_hdf5(folder: Path) -> Recorded:
    rows = [(round(at * RATE), name) for at, name in rows_of()]
    return annotated(matlab73_set(folder / "x.set", signal(), RATE, rows, names=NAMES))
