"""What MNE does not say about an EDF or BDF: is it whole, when was each record taken, and what do its annotations say.

A discontinuous file (EDF+D, BDF+D) stores its records one after the other, whatever passed between them; each record's
time stands at the head of its annotation signal (EDF+ specification, 2.2.4). MNE reads the samples as one stretch and
drops annotations that lie after its end, so both are read here. Times count from the first record's first sample.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtserve.errors import InputError

__all__ = ["EdfHeader", "Note", "read_header", "read_notes", "require_whole"]

SUFFIXES = (".bdf", ".edf")
_NOTE = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14([^\x00]*)\x14\x00")


@dataclass(frozen=True, kw_only=True)
class EdfHeader:
    """The sizes in a header.

    Parameters
    ----------
    n_bytes, n_records : int
        Of the header; of records in the file (by its size where the header says fewer).
    record_s : float
        Length of a record in s.
    labels : tuple of str
        Of the signals.
    samples : tuple of int
        Per record, of each signal.
    width : int
        Bytes of a sample.
    prefilters : tuple of str
        What each signal was filtered to: ``"HP:0.1Hz LP:75Hz"``.
    kind : str
        ``"EDF+D"``, ``"BDF+D"``, ``"EDF+C"``, ``"24BIT"`` or what stands there.
    """

    n_bytes: int
    n_records: int
    record_s: float
    labels: tuple[str, ...]
    samples: tuple[int, ...]
    width: int
    kind: str
    prefilters: tuple[str, ...] = ()

    @property
    def bands(self) -> dict[str, tuple[float | None, float | None]]:
        """High-pass and low-pass in Hz that each signal's header names, None where it does not."""
        return {label: _band(text) for label, text in zip(self.labels, self.prefilters, strict=False)}

    @property
    def discontinuous(self) -> bool:
        """Whether records need not follow each other in time."""
        return self.kind.upper().startswith(("EDF+D", "BDF+D"))


@dataclass(frozen=True, kw_only=True)
class Note:
    """An annotation: onset and duration in s, and its text."""

    onset: float
    duration: float
    text: str


def read_header(path: Path) -> EdfHeader:
    """Return the header of an EDF or BDF.

    Raises
    ------
    InputError
        Where it is none.
    """
    width = 3 if path.suffix.lower() == ".bdf" else 2
    try:
        with open(path, "rb") as handle:
            head = handle.read(256)
            n_bytes, n_records, n_signals = (int(_field(head[a:b])) for a, b in ((184, 192), (236, 244), (252, 256)))
            rest = handle.read(256 * n_signals)
        labels = [_field(rest[16 * k : 16 * k + 16]) for k in range(n_signals)]
        prefilters = [_field(rest[136 * n_signals + 80 * k :][:80]) for k in range(n_signals)]
        samples = [int(_field(rest[216 * n_signals + 8 * k :][:8])) for k in range(n_signals)]
        record_s = float(_field(head[244:252]))
    except (ValueError, OSError) as error:
        raise InputError(
            f"recording {path} cannot be read whole: its header is none of an EDF or BDF ({error})",
            hint="is it cut off, or another format under this name?",
        ) from None
    size = width * sum(samples)
    if size:  # -1 or too few stand there where the recorder was not stopped; MNE goes by the file's size
        n_records = max(n_records, (path.stat().st_size - n_bytes) // size)
    return EdfHeader(
        n_bytes=n_bytes, n_records=n_records, record_s=record_s, labels=tuple(labels), samples=tuple(samples),
        width=width, kind=_field(head[192:236]), prefilters=tuple(prefilters),
    )  # fmt: skip


def _field(data: bytes) -> str:
    """Return a field of the header; the standard pads with spaces, some recorders with zeros, and MNE takes both."""
    return data.replace(b"\0", b" ").decode("latin-1").strip()


def _band(text: str) -> tuple[float | None, float | None]:
    high, low = (re.search(rf"{name}:?\s*(\d+(?:\.\d+)?)\s*Hz", text, re.IGNORECASE) for name in ("HP", "LP"))
    return (float(high[1]) if high else None, float(low[1]) if low else None)


def require_whole(path: Path, header: EdfHeader) -> None:
    """Raise `InputError` where the file is smaller than its header promises: quiet readers read what is there."""
    wanted = header.n_bytes + header.n_records * sum(header.samples) * header.width
    actual = path.stat().st_size
    if header.n_records > 0 and actual < wanted:
        raise InputError(
            f"recording {path} is cut off: {actual} bytes, its header promises {wanted}", hint="copy it again"
        )


def read_notes(path: Path, header: EdfHeader) -> tuple[np.ndarray, list[Note]]:
    """Return when each record begins (n_records,) in s from the first, and the annotations of an EDF+ or BDF+.

    Raises
    ------
    InputError
        Where a record does not say when it was taken, or records run back in time.
    """
    offsets = header.width * np.concatenate([[0], np.cumsum(header.samples)]).astype(int)
    signals = [k for k, label in enumerate(header.labels) if label in ("EDF Annotations", "BDF Annotations")]
    onsets, notes = np.full(header.n_records, np.nan), list[Note]()
    with open(path, "rb") as handle:
        for record in range(header.n_records):
            for k in signals:
                handle.seek(header.n_bytes + record * int(offsets[-1]) + int(offsets[k]))
                onset, found = _parsed(handle.read(int(offsets[k + 1] - offsets[k])))
                onsets[record] = onset if k == signals[0] else onsets[record]
                notes += found
    if header.discontinuous:
        _require_times(onsets, header, path)
    first = onsets[0] if len(onsets) and np.isfinite(onsets[0]) else 0.0
    shifted = [Note(onset=note.onset - first, duration=note.duration, text=note.text) for note in notes]
    return onsets - first, shifted


def _parsed(data: bytes) -> tuple[float, list[Note]]:
    """Return when the record begins and the notes of one record's annotation signal."""
    onset, notes = np.nan, []
    for place, match in enumerate(_NOTE.finditer(data + b"\0")):
        at, texts = float(match[1]), match[3].split(b"\x14")
        if place == 0 and not texts[0]:
            onset = at
        for text in filter(None, texts):
            notes.append(Note(onset=at, duration=float(match[2] or 0), text=_text(text)))
    return onset, notes


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _require_times(onsets: np.ndarray, header: EdfHeader, path: Path) -> None:
    unknown = np.flatnonzero(~np.isfinite(onsets))
    if len(unknown):
        raise InputError(
            f"{path} is {header.kind}, but record {unknown[0]} does not say when it begins",
            hint="write it again as a continuous file, or in another format",
        )
    back = np.flatnonzero(np.diff(onsets) < header.record_s - 1e-6)
    if len(back):
        raise InputError(
            f"{path}: record {back[0] + 1} begins at {onsets[back[0] + 1]:g} s, inside or before record {back[0]},"
            f" which begins at {onsets[back[0]]:g} s and lasts {header.record_s:g} s",
            hint="records must follow each other in time; write the file again",
        )
