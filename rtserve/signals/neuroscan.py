"""The event table of a Neuroscan .cnt: places, names, rejected segments and breaks.

paulbourke.net/dataformats/eeg. An event's place is a byte of the file, or in tables of type 3 (files beyond 1 GB) a sample;
MNE (1.13) takes the header's length off both, which makes those of type 3 early by as much (sccn/eeglab#9). It also has
every event one sample before the one at its place, which EEGLAB and FieldTrip take; here as in MNE, and it is said. Breaks
of the recording (a code of 14, or 11 where the amplifier was reset) are ends of a stretch, as in EEGLAB.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.clock import Marks
from rtserve.signals.notes import Notes

__all__ = ["corrected", "unreadable", "unsaid_width"]

_SETUP, _ELECTRODE = 900, 75
_ROW = {1: np.dtype("<u2,u1,u1,<i4"), 2: np.dtype("<u2,u1,u1,<i4,V11"), 3: np.dtype("<u2,u1,u1,<u4,V11")}
"""Stimulus, key, code of acceptance with the response pad, place; what types 2 and 3 add is not needed."""
_BAD, _GOOD, _BREAKS = 12, 13, (14, 11)
_WIDE_AT = 52
"""Byte after the file's end of data that is 1 where samples have 32 bits; loadcnt.m of EEGLAB has it."""


def corrected(marks: Marks, raw: Any, path: Path, notes: Notes) -> Marks:
    """Return the events of a Neuroscan .cnt by its own table; those of an ANT .cnt as they are.

    Raises
    ------
    InputError
        Where MNE took its samples for another width than the file says.
    """
    if type(raw).__name__ != "RawCNT":
        return marks
    with open(path, "rb") as handle:
        head = handle.read(_SETUP)
        n_chans, (table_at,) = struct.unpack_from("<H", head, 370)[0], struct.unpack_from("<i", head, 886)
        data_at = _SETUP + _ELECTRODE * n_chans
        width = (table_at - data_at) // (n_chans * raw.n_times)
        _require_width(handle, head, raw.n_times, width, path)
        handle.seek(table_at)
        kind, size, _ = struct.unpack("<Bii", handle.read(9))
        rows = np.frombuffer(handle.read(size // _ROW[kind].itemsize * _ROW[kind].itemsize), _ROW[kind])
    place = rows["f3"].astype(np.int64) if kind == 3 else (rows["f3"].astype(np.int64) - data_at) // (n_chans * width)
    if len(rows):
        notes.add(
            "events of a Neuroscan .cnt: one sample before the one that the file names (which EEGLAB takes), as in MNE"
        )
    return _marks(rows, np.maximum(place - 1, 0), float(raw.info["sfreq"]), raw.n_times)


def unreadable(path: Path) -> str:
    """Return why MNE's reader of Neuroscan's files cannot read one, empty where it is none of those."""
    import mne

    with open(path, "rb") as handle:
        if not handle.read(8).startswith(b"Version"):
            return ""
    try:
        mne.io.read_raw_cnt(path, verbose="error")
    except Exception as error:
        said = [line for line in str(error).splitlines() if re.match(r"\w+(Error|Exception): ", line)]
        return (said or str(error).splitlines() or [""])[-1].strip()
    return ""


def unsaid_width(what: str, why: str) -> InputError:
    """Return the error of a file whose samples have 16 or 32 bits, and nobody knows which."""
    return InputError(
        f"{what} does not say whether its samples have 16 or 32 bits: {why}",
        hint="mne.io.read_raw_cnt(FILE, data_format='int32').save('x_raw.fif'), or 'int16': see which is EEG",
    )


def _marks(rows: np.ndarray, sample: np.ndarray, rate: float, n_times: int) -> Marks:
    """Return marks of a table's rows at these samples."""
    accept = rows["f2"] >> 4
    bad, good, breaks = accept == _BAD, accept == _GOOD, np.isin(accept, _BREAKS)
    ends = np.append(sample[bad | good], n_times)
    lasts = [int(ends[np.searchsorted(ends, at, side="right")]) - at for at in np.minimum(sample[bad], n_times - 1)]
    duration = np.zeros(len(rows))
    duration[bad] = lasts
    name = np.array([_name(*row) for row in zip(rows["f0"], rows["f1"], rows["f2"] & 15, strict=True)], "U40")
    name[bad] = np.char.add("BAD_", name[bad])
    name[breaks] = "boundary"
    keep = ~good if bad.any() else np.ones(len(rows), bool)
    # A break is before the sample at its place or, by MNE's count, before the one before that: neither is crossed.
    both = np.concatenate([sample[keep], sample[breaks] + 1])
    return Marks(
        source="annotations",
        onset=both / rate,
        duration=np.concatenate([duration[keep], np.zeros(int(breaks.sum()))]) / rate,
        name=np.concatenate([name[keep], name[breaks]]),
        stored=both,
        joins=np.concatenate([breaks[keep], np.ones(int(breaks.sum()), bool)]),
    )


def _name(stimulus: int, key: int, pad: int) -> str:
    """Return what MNE calls an event."""
    if pad:
        return f"KeyPad Response {pad}"
    return f"Keyboard Response {key}" if key else str(stimulus)


def _require_width(handle: Any, head: bytes, n_times: int, width: int, path: Path) -> None:
    after, said = struct.unpack_from("<i", head, 12)[0], struct.unpack_from("<i", head, 864)[0]
    if said != n_times:  # what MNE before 1.12 takes for 16 bits
        raise unsaid_width(str(path), f"its header counts {said:,}, its data {n_times:,}")
    handle.seek(max(0, after) + _WIDE_AT)
    flag = handle.read(1)
    if after > 0 and flag == b"\1" and width == 2:
        raise InputError(
            f"{path} says in its last part that samples have 32 bits, and its header's number of samples says 16",
            hint="mne.io.read_raw_cnt(FILE, data_format='int32').save('x_raw.fif') reads it as 32 bits",
        )
