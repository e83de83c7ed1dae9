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
_RECORDS = slice(236, 244)
"""Where the fixed header says how many data records there are (EDF, Kemp 1992)."""


class Unusable(Exception):  # noqa: N818  (an outcome that has its own exit code)
    """A recording that cannot be answered; the text says what, and where."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One signal of a file: its label and unit as they stand there, its rate in Hz, its place."""

    label: str
    unit: str
    rate: Fraction
    index: int


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
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            file = _read(path)
            channels = tuple(_channels(file))
            start = _start(file)
            gaps = not file.is_continuous if file.num_data_records else False
    except Exception as error:  # whatever a reader says of bytes that are none of its format
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unusable(f"{name} cannot be read as EDF: {reason}") from None
    record_s = Fraction(str(file.data_record_duration))
    there = file.num_data_records if channels and record_s else 0
    said = max(there, _number(head[_RECORDS]))
    notes = [] if start else [f"{name} does not say when it began"]
    if said != there:
        notes.append(f"{name} is cut off: its header says {said} data records, the file holds {there}")
    return Recording(
        name=name, channels=channels, seconds=float(said * record_s), there=float(there * record_s), start=start,
        notes=tuple(notes), record_s=record_s, records=there, file=file,
        refused=f"{name} has gaps (EDF+D): times within it are not those of the recording" if gaps else "",
    )  # fmt: skip


def _read(path: str) -> Any:
    """Return a file of edfio; the header alone of one that holds no sample, which cannot be mapped into memory."""
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
    if os.path.getsize(path) > len(whole):
        return edfio.read_edf(path, **options)
    return edfio.read_edf(whole, **options)


def _channels(file: Any) -> Iterator[Channel]:
    record_s = Fraction(str(file.data_record_duration))
    for index, signal in enumerate(file.signals):
        rate = Fraction(signal.samples_per_data_record) / record_s if record_s else Fraction(0)
        yield Channel(label=signal.label, unit=signal.physical_dimension, rate=rate, index=index)


def _start(file: Any) -> datetime.datetime | None:
    """Return when a recording began; files without a name of a person often have no date either."""
    try:
        return datetime.datetime.combine(file.startdate, file.starttime)
    except (
        ValueError,
        OverflowError,
        IndexError,
    ):  # IndexError: the seconds' fraction is in a record that is not there
        return None


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
