"""The event table of a .gdf: at which rate its positions count, and which of its codes mark a break.

arxiv.org/abs/cs/0608052. MNE (1.13) counts positions at the samples' rate whatever the table says, and takes a break for
an event like any other; BioSig's table of codes has them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.signals.clock import Marks
from rtserve.signals.notes import Notes

__all__ = ["corrected", "declared", "unreadable"]

BREAK = 0x7FFE
"""Start of a new segment after a break."""
VALUE = 0x7FFF
"""A value of a channel that is not sampled evenly, and no event."""
_FLOAT_SINCE = 1.94
_HEAD, _NEW = 256, 1.9
"""Bytes of the head, and of each channel's; the version from which on units are numbers."""
_VOLT = 4256
_TENS = {0: 1.0, 18: 1e-3, 19: 1e-6, 20: 1e-9}
"""Low five bits of a unit's number: of volt, milli-, micro- and nanovolt."""
_TEXTS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "\xb5V": 1e-6, "nV": 1e-9}
_SAME = 1e-6


def corrected(marks: Marks, raw: Any, path: Path, notes: Notes) -> Marks:
    """Return the events of a .gdf by its own table, with their own rate and its breaks.

    Parameters
    ----------
    marks : Marks
        As MNE has them; taken where there is no table.
    raw : mne.io.Raw
        As it was read.
    path : Path
        Its file.
    notes : Notes
        What is said of it.
    """
    table = raw._raw_extras[0].get("events")
    if table is None or not len(table[1]):
        return marks
    rate, own = float(raw.info["sfreq"]), _event_rate(raw, path)
    if own:
        notes.add(f"events of the .gdf count at {own:g} Hz, its samples at {rate:g}: both are taken at their own rate")
    _, place, code, _, duration = (np.asarray(column) for column in table)
    keep = code != VALUE
    place, code, duration = place[keep].astype(np.int64), code[keep], duration[keep]
    return Marks(
        source="annotations",
        onset=place / (own or rate),
        duration=duration / (own or rate),
        name=np.where(code == BREAK, "boundary", code.astype("U")),
        stored=None if own else place,
        joins=code == BREAK,
    )


def declared(path: Path) -> list[float]:
    """Return what brings each channel of a .gdf to volts by its own claim; NaN where that is no unit of volts.

    MNE (1.13) knows micro- and millivolt of version 2 and microvolt of version 1, and takes everything else for volts.
    """
    with open(path, "rb") as handle:
        head = handle.read(_HEAD)
        new = float(head[4:8]) > _NEW
        (n_chans,) = struct.unpack_from("<H" if new else "<I", head, 252)
        handle.seek(_HEAD + n_chans * (16 + 80 + (6 if new else 0)))
        raw = handle.read(n_chans * (2 if new else 8))
    if new:
        codes = np.frombuffer(raw, "<u2").tolist()
        return [_TENS.get(code & 31, np.nan) if code & ~31 == _VOLT else np.nan for code in codes]
    texts = [raw[8 * k : 8 * k + 8].decode("latin-1").strip("\0 ") for k in range(n_chans)]
    return [_TEXTS.get(text, np.nan) for text in texts]


def unreadable(path: Path) -> str:
    """Return what in its header keeps a .gdf from being read, empty where that is not known."""
    with open(path, "rb") as handle:
        n_records = struct.unpack("<q", handle.read(244)[236:].ljust(8, b"\0"))[0]
    return f"its header says {n_records} records: was its recording ended?" if n_records < 1 else ""


def _event_rate(raw: Any, path: Path) -> float | None:
    """Return the rate in Hz at which events count where it is another than the samples', else None."""
    about = raw._raw_extras[0]
    with open(path, "rb") as handle:
        handle.seek(int(about["data_offset"]) + int(about["n_records"]) * int(about["bytes_tot"]))
        head = handle.read(8)
    if len(head) < 8:
        return None
    rate = float(raw.info["sfreq"])
    if float(about["number"]) < _FLOAT_SINCE:  # whole Hz in three bytes
        own = float(int.from_bytes(head[1:4], "little"))
        same = abs(own - rate) < 1.0
    else:
        own = float(struct.unpack("<f", head[4:])[0])
        same = abs(own / rate - 1.0) < _SAME
    return None if same or not own > 0 or not np.isfinite(own) else own
