"""`open_edf`: what a recording in an EDF file says of itself, and its samples in blocks."""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

__all__ = ["Channel", "Recording", "Unusable", "open_edf"]

BLOCK_S = 600
"""Seconds that are read at once: 19 channels at 256 Hz are 23 MB of float64."""
_BEGAN = slice(168, 184)
"""Where the fixed header says when the recording began, as dd.mm.yyhh.mm.ss."""
FIRST_YEAR = 1985
_RECORDS, _LASTS = slice(236, 244), slice(244, 252)
"""Where the fixed header says how many data records there are, and how many seconds each lasts (EDF, Kemp 1992)."""


class Unusable(Exception):  # noqa: N818  (an outcome that has its own exit code)
    """A recording that cannot be answered; the text says what, and where."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One signal of a file: its label and unit as they stand there, its rate in Hz, its place.

    `faulty` says why its numbers stand for no potential, where they do not.
    """

    label: str
    unit: str
    rate: Fraction
    index: int
    faulty: str = ""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """An open file.

    Parameters
    ----------
    name : str
        Of the file.
    channels : tuple of Channel
        Annotations left out.
    seconds : float
        How long it is by its header.
    there : float
        How many of these seconds the file holds, in whole data records.
    start : datetime or None
        None where the file does not say it.
    notes : tuple of str
        What is not as it should be, and was read all the same.
    refused : str
        Why its samples cannot be used though its header can; empty where they can.
    record_s, records : Fraction, int
        Seconds of a data record, and how many the file holds.
    """

    name: str
    channels: tuple[Channel, ...]
    seconds: float
    there: float
    start: datetime.datetime | None
    notes: tuple[str, ...]
    record_s: Fraction
    records: int
    file: Any
    refused: str = ""

    def blocks(self, channels: Sequence[Channel]) -> Iterator[np.ndarray]:
        """Yield (len(channels), samples) in the file's own units, float64, in whole data records."""
        step = max(1, int(BLOCK_S / self.record_s))
        signals = [self.file.signals[channel.index] for channel in channels]
        for first in range(0, self.records, step):
            last = min(first + step, self.records)
            ends = float(first * self.record_s), float(last * self.record_s)
            yield np.stack([signal.get_data_slice(*ends) for signal in signals])


def open_edf(path: str) -> Recording:
    """Return the recording in a file.

    Raises
    ------
    Unusable
        Where it is no EDF file, or is cut off within its header.
    """
    name = os.path.basename(path)
    try:
        with open(path, "rb") as handle:
            head = handle.read(256)
        record_s = _seconds(head[_LASTS])
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            file = _read(path, samples=bool(record_s))
            channels = tuple(_channels(file, record_s or Fraction(0)))
            start = _start(file, head)
            gaps = not file.is_continuous if file.num_data_records else False
    except Exception as error:  # whatever a reader says of bytes that are none of its format
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unusable(f"{name} cannot be read as EDF: {reason}") from None
    refused = ""
    if gaps:
        lasts = f"{float(record_s or 0):g} s"
        refused = f"{name} has gaps (EDF+D), or its data records do not last {lasts}: times within it are not known"
    if record_s is None or (channels and not record_s):
        lasts = head[_LASTS].decode("latin-1").strip()
        refused = f"the header of {name} says that a data record lasts {lasts!r} s: how long it is cannot be told"
    record_s = record_s or Fraction(0)
    there = file.num_data_records if channels and record_s else 0
    said = max(there, _number(head[_RECORDS]))
    notes = [] if start else [f"{name} does not say when it began"]
    if said != there:
        notes.append(f"{name} is cut off: its header says {said} data records, the file holds {there}")
    return Recording(
        name=name, channels=channels, seconds=float(said * record_s), there=float(there * record_s), start=start,
        notes=tuple(notes), record_s=record_s, records=there, file=file, refused=refused,
    )  # fmt: skip


def _read(path: str, *, samples: bool) -> Any:
    """Return a file of edfio; the header alone of one that holds no sample, which cannot be mapped into memory.

    Without `samples` the header alone is read, as if its data records lasted a second.
    """
    import edfio

    options: dict[str, Any] = {"lazy_load_data": True, "header_encoding": "latin-1"}
    with open(path, "rb") as handle:
        head = handle.read(256)
        if len(head) < 256 or not head.startswith(b"0 "):
            raise ValueError("it does not begin with an EDF header")
        size = int(head[184:192])
        whole = head + handle.read(max(0, size - 256))
    if len(whole) < size:
        raise ValueError(f"it is cut off within its header: {len(whole)} of {size} bytes")
    if not samples:
        return edfio.read_edf(whole[: _RECORDS.start] + b"0       1       " + whole[_LASTS.stop :], **options)
    if os.path.getsize(path) > len(whole):
        return edfio.read_edf(path, **options)
    return edfio.read_edf(whole, **options)


def _channels(file: Any, record_s: Fraction) -> Iterator[Channel]:
    for index, signal in enumerate(file.signals):
        rate = Fraction(signal.samples_per_data_record) / record_s if record_s else Fraction(0)
        unit, faulty = signal.physical_dimension, _faulty(signal)
        yield Channel(label=signal.label, unit=unit, rate=rate, index=index, faulty=faulty)


def _faulty(signal: Any) -> str:
    """Return why a signal's stored integers cannot be turned into its unit; edfio would give them as they are."""
    for kind in ("digital", "physical"):
        try:
            low, high = (float(getattr(signal, f"{kind}_{end}")) for end in ("min", "max"))
        except ValueError:
            return f"its {kind} range is no number"
        if not np.isfinite(high - low):
            return f"its {kind} range is {low:g} to {high:g}"
        if low == high:
            return f"its {kind} minimum and maximum are both {low:g}"
    return ""


def _start(file: Any, head: bytes) -> datetime.datetime | None:
    """Return when a recording began; files without a name of a person often have no date either."""
    try:
        return datetime.datetime.combine(file.startdate, file.starttime)
    except IndexError:  # the second's fraction is in a record that is not there
        return _whole_second(head)
    except (ValueError, OverflowError):
        return None


def _whole_second(head: bytes) -> datetime.datetime | None:
    """Return when a recording began by its fixed header alone."""
    try:
        begun = datetime.datetime.strptime(head[_BEGAN].decode("ascii"), "%d.%m.%y%H.%M.%S")
    except ValueError:
        return None
    # Years of two digits: 85 to 99 are of the last century (EDF, Kemp 1992; %y would begin at 69).
    begun = begun.replace(year=begun.year + 100) if begun.year < FIRST_YEAR else begun
    return None if b"Startdate X" in head else begun


def _seconds(text: bytes) -> Fraction | None:
    """Return how long a data record lasts; None where that is no length."""
    try:
        found = Fraction(text.decode("ascii").strip())
    except (ValueError, ZeroDivisionError):
        return None
    return found if found >= 0 else None


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
