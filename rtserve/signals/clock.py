"""The one clock: which sample of the data is the sample of an event.

A recording is one or several stretches of samples without a gap between them. Time is counted in s from the first
sample of the first stretch; everything that happened has a time, and the clock says in which stretch that lies and at
which sample of the data windows are cut from. Four facts make this less trivial than time x rate:

- stored samples need not be one stretch of time: EDF+D and BDF+D carry each record's time, and a join is marked by
  EEGLAB's ``boundary``, BrainVision's ``New Segment`` and MNE's ``EDGE``; ``BAD_ACQ_SKIP`` marks samples that are filler;
- MNE counts an annotation from the measurement's start, of which the file may hold only a later part (``first_samp``),
  with a date and without one alike;
- an .xdf has a time stamp for every sample and marker, and its samples rarely come at the rate that it names;
- MNE rounds an onset to a sample of the recording's own rate. At that rate this does the same; at another rate the
  event's exact time, and not its rounded sample, is rounded once.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["GAP", "OUTSIDE", "SKIP", "Clock", "Instants", "Marks", "Stretch", "stretches_of"]

OUTSIDE, GAP = -1, -2
SKIP = "BAD_ACQ_SKIP"
_SLACK = 0.01
"""Of a sample: EEGLAB puts a boundary between two samples, and dates are rounded to microseconds."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Samples without a gap between them.

    Parameters
    ----------
    start, stop : int
        Of the stored samples; half-open.
    time : float
        Of its first sample in s.
    pace : float
        How many times as fast as its rate says the samples came, by time stamps of their own (XDF); else 1.
    """

    start: int
    stop: int
    time: float
    pace: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What one source says happened in a recording.

    Parameters
    ----------
    source : str
        For people: ``"annotations"``, ``"x_events.tsv, column trial_type"``, ``"trigger channel STI 014"``.
    onset, duration : ndarray, (n,)
        In s; onsets from the first sample.
    name : ndarray of str, (n,)
        What it is called.
    stored : ndarray of int, (n,), or None
        The stored sample of each where the source says it (MNE's rounding, a trigger's edge).
    unplaced : int
        Rows without an onset, which are left out.
    note : str
        What must be said where this source is used.
    fields : dict of str to ndarray of str, (n,)
        What else it says of each, by column.
    joins : ndarray of bool, (n,), or None
        Which of them say that the samples before and after do not follow one another; None for none.
    quality : bool
        Whether a name that begins with BAD marks a segment as bad: an annotation's does, and a table's first column of
        names (which mne-bids makes annotations of), not what else the table says.
    semicolons : bool
        Whether semicolons part its table's fields, so that commas are decimal ones.
    """

    source: str
    onset: np.ndarray
    duration: np.ndarray
    name: np.ndarray
    stored: np.ndarray | None = None
    unplaced: int = 0
    note: str = ""
    fields: dict[str, np.ndarray] = field(default_factory=dict)
    joins: np.ndarray | None = None
    quality: bool = True
    semicolons: bool = False

    def __iter__(self) -> Iterator[tuple[float, float, str]]:
        return zip(self.onset.tolist(), self.duration.tolist(), self.name.tolist(), strict=True)


@dataclass(frozen=True, kw_only=True)
class Instants:
    """Where on the clock some events are.

    Parameters
    ----------
    time : ndarray, (n,)
        In s from the first sample.
    stretch : ndarray of int, (n,)
        In which stretch; `OUTSIDE` before the first and after the last, `GAP` between two.
    sample : ndarray of int, (n,)
        Of the data that windows are cut from; without meaning where `stretch` is negative.
    """

    time: np.ndarray
    stretch: np.ndarray
    sample: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time of a recording, and of the data made from it.

    Parameters
    ----------
    sfreq : float
        Of the stored samples in Hz.
    stretches : tuple of Stretch
        In order of time.
    rate : float
        Of the data in Hz.
    lengths : tuple of int
        Samples of the data in each stretch; the data is all stretches one after the other.
    """

    sfreq: float
    stretches: tuple[Stretch, ...]
    rate: float
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, sfreq: float, stretches: Sequence[Stretch]) -> Clock:
        """Return the clock of data that is the stored samples themselves."""
        lengths = tuple(part.stop - part.start for part in stretches)
        return cls(sfreq=sfreq, stretches=tuple(stretches), rate=sfreq, lengths=lengths)

    def at_rate(self, rate: float, lengths: Sequence[int]) -> Clock:
        """Return the clock of data resampled to `rate`, with that many samples in each stretch."""
        return dataclasses.replace(self, rate=rate, lengths=tuple(lengths))

    @property
    def first(self) -> np.ndarray:
        """First sample of each stretch in the data, and its length at the end."""
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(int)

    @property
    def duration(self) -> float:
        """From the first sample to the last in s."""
        last = self.stretches[-1]
        return last.time + (last.stop - last.start) / (self.sfreq * last.pace)

    @property
    def plain(self) -> bool:
        """Whether time is counted along the stored samples, whatever passed in a gap."""
        return all(abs(p.time * self.sfreq - p.start) < _SLACK and p.pace == 1.0 for p in self.stretches)

    @property
    def _begins(self) -> np.ndarray:
        return np.array([part.time for part in self.stretches])

    @property
    def _paces(self) -> np.ndarray:
        return np.array([part.pace for part in self.stretches])

    def at_times(self, time: np.ndarray) -> Instants:
        """Return where events with these times in s from the first sample are."""
        time = np.asarray(time, float)
        if self.plain:
            return self.at_stored(np.rint(time * self.sfreq), time)
        stretch = np.searchsorted(self._begins - 0.5 / self.sfreq, time, side="right") - 1
        return self._instants(
            time, stretch, np.rint((time - self._begins[stretch]) * self.sfreq * self._paces[stretch])
        )

    def at_stored(self, stored: np.ndarray, time: np.ndarray | None = None) -> Instants:
        """Return where events at these stored samples are; `time` keeps what rounding to a sample lost."""
        stored = np.asarray(stored).astype(int)
        starts = np.array([part.start for part in self.stretches])
        stretch = np.searchsorted(starts, stored, side="right") - 1
        offset = stored - starts[stretch]
        if time is None or not self.plain:
            time = self._begins[stretch] + offset / (self.sfreq * self._paces[stretch])
        return self._instants(np.asarray(time, float), stretch, offset)

    def _instants(self, time: np.ndarray, stretch: np.ndarray, offset: np.ndarray) -> Instants:
        """Place events by stretch and by offset in stored samples from its start."""
        sizes = np.array([part.stop - part.start for part in self.stretches])
        inside = (stretch >= 0) & (offset >= 0) & (offset < sizes[stretch])
        if self.rate != self.sfreq:
            offset = np.rint((time - self._begins[stretch]) * self.rate * self._paces[stretch])
        sample = self.first[stretch] + offset.astype(int)
        between = (stretch >= 0) & (stretch < len(sizes) - 1)
        where = np.where(inside, stretch, np.where(between, GAP, OUTSIDE))
        return Instants(time=time, stretch=where, sample=np.where(inside, sample, -1))

    def time_of(self, sample: np.ndarray) -> np.ndarray:
        """Return the time in s of samples of the data."""
        stretch = np.clip(np.searchsorted(self.first, sample, side="right") - 1, 0, len(self.lengths) - 1)
        offset = np.asarray(sample) - self.first[stretch]
        times: np.ndarray = self._begins[stretch] + offset / (self.rate * self._paces[stretch])
        return times


def stretches_of(
    rate: float, n_times: int, marks: Sequence[Marks], records: tuple[np.ndarray, float] | None = None
) -> list[Stretch]:
    """Return the stretches of a recording, by what its file says of gaps.

    Parameters
    ----------
    rate : float
        Of the stored samples in Hz.
    n_times : int
        How many there are.
    marks : sequence of Marks
        All that is marked in the recording; times count along the stored samples.
    records : tuple of ndarray and float, optional
        Times of its records in s and the length of one, where it is stored in records that have a time (EDF+D, BDF+D).
    """
    if records is not None:
        return _by_records(rate, n_times, *records)
    keep = np.ones(n_times, bool)
    cuts = {0, n_times}
    for onset, duration, text in (mark for some in marks if some.quality for mark in some):
        if text.upper().startswith(SKIP):
            # A sample that a skip touches is none; MNE's .mff has its skips half a sample early.
            begin, end = np.floor(onset * rate + _SLACK), np.ceil((onset + duration) * rate - _SLACK)
            start, stop = (int(np.clip(at, 0, n_times)) for at in (begin, end))
            keep[start:stop] = False
            cuts |= {start, stop}
    joins = [some.onset[some.joins] for some in marks if some.joins is not None]
    for onset in np.concatenate([np.empty(0), *joins]):
        cuts.add(int(np.clip(np.ceil(onset * rate - _SLACK), 0, n_times)))
    edges = sorted(cuts)
    parts = [(start, stop) for start, stop in itertools.pairwise(edges) if keep[start]]
    return [Stretch(start=start, stop=stop, time=start / rate) for start, stop in parts]


def _by_records(rate: float, n_times: int, onsets: np.ndarray, record_s: float) -> list[Stretch]:
    size = round(record_s * rate)
    edges = [0]
    for record, onset in enumerate(onsets):
        if abs(onset - onsets[edges[-1]] - (record - edges[-1]) * record_s) > 0.5 / rate:
            edges.append(record)
    return [
        Stretch(start=first * size, stop=min(last * size, n_times), time=float(onsets[first]))
        for first, last in zip(edges, [*edges[1:], len(onsets)], strict=True)
        if first * size < n_times
    ]
