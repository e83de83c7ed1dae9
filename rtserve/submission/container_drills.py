"""The recordings that a container is tried on: as the contest hands them over, with what looks like seizures planted.

Noise as EEG has it, and in it bursts of spikes and waves at 3 Hz that grow and spread over all electrodes. Which of them a
network finds is the network's own; that it answers each with a whole table is the contest's.
"""

from __future__ import annotations

import datetime
import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rtserve.submission.drive import probe_windows

if TYPE_CHECKING:
    from rtserve.submission.container_parts import Recordings
    from rtserve.submission.profile_parts import Signal

__all__ = ["LONG", "SHORT", "Drill", "drills", "edf_bytes", "planted"]

SHORT, ODD, LONG = 60.0, 61.5, 600.0
"""Seconds of a recording; the difference of the first and the last says what an hour takes."""
BURSTS = ((0.2, 0.2), (0.7, 0.2))
"""Where bursts begin and how long they last, as parts of a recording."""
LOUD = 8.0
"""A burst's amplitude at its end beside the noise's standard deviation."""
BEGUN = datetime.datetime(2024, 2, 29, 23, 59, 30)
FIRST_S = 60.0
"""Seconds within which both bursts begin and end, however long a recording is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drill:
    """One recording.

    Parameters
    ----------
    name, what : str
        Of its file, without the ending; and in words.
    labels : tuple of str
        Of its channels.
    data : ndarray, (n_chans, samples)
        In `unit`.
    unit, sfreq : str, float
        Unit and Hz.
    bursts : tuple of (float, float)
        Begin and end in s.
    like : str
        Name of the recording whose answer this one's has to be, or empty.
    file : bytes
        The file itself, where it is there already.
    """

    name: str
    what: str
    labels: tuple[str, ...]
    data: np.ndarray
    unit: str
    sfreq: float
    bursts: tuple[tuple[float, float], ...] = ()
    like: str = ""
    file: bytes = b""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return float(self.data.shape[1] / self.sfreq)


def drills(recordings: Recordings, signal: Signal) -> list[Drill]:
    """Return the recordings of a contest: as stated, and what else its clauses say may come."""
    short, odd, long = (planted(recordings, signal, seconds) for seconds in (SHORT, ODD, LONG))
    stated = replace(short, name="stated", what="as the contest states it")
    ecg = replace(
        stated, name="others", what="with a channel more behind its own", like=stated.name,
        labels=(*stated.labels, "ECG"), data=np.concatenate([stated.data, 5 * stated.data[:1]]),
    )  # fmt: skip
    flat = replace(stated, name="flat", what="without any signal", data=np.zeros_like(stated.data), bursts=())
    found = [stated, ecg, replace(odd, name="odd", what=f"of {odd.seconds:g} s"), flat]
    if recordings.fill:
        data = stated.data.copy()
        data[: recordings.fill] = 0
        lacking = ", ".join(stated.labels[: recordings.fill])
        found.append(replace(stated, name="zeros", what=f"with zeros in {lacking}", data=data))
    if recordings.chains:
        found.append(replace(_chained(short, recordings), name="bipolar", what="of bipolar channels alone"))
    return [*found, replace(long, name="long", what=f"of {long.seconds:g} s")]


def _chained(drill: Drill, recordings: Recordings) -> Drill:
    """Return a recording with a contest's bipolar channels instead."""
    place = {name: k for k, name in enumerate(recordings.electrodes)}
    ends = [chain.split("-") for chain in recordings.chains]
    data = np.stack([drill.data[place[plus]] - drill.data[place[minus]] for plus, minus in ends])
    return replace(drill, labels=recordings.chains, data=data)


def planted(recordings: Recordings, signal: Signal, seconds: float) -> Drill:
    """Return a recording with the contest's channels, unit and rate, and two bursts in its first minute."""
    n = int(seconds * signal.sfreq) // _record(signal.sfreq) * _record(signal.sfreq)
    noise = probe_windows(1, len(recordings.electrodes), n, sfreq=signal.sfreq, scale=signal.scale)[0].astype(
        np.float64
    )
    time, gains = np.arange(n) / signal.sfreq, 0.5 + np.random.default_rng(1).random((len(noise), 1))
    bursts = tuple((FIRST_S * at, FIRST_S * (at + length)) for at, length in BURSTS)
    for begin, end in bursts:
        inside = (time >= begin) & (time < end)
        phase = 2 * np.pi * 3.0 * (time[inside] - begin)
        wave = np.sin(phase) + 2 * np.exp(-((np.sin(phase / 2) / 0.15) ** 2))
        grown = np.linspace(0.3, 1.0, int(inside.sum()))
        noise[:, inside] += LOUD * signal.scale * gains * grown * wave
    referred = noise - noise.mean(axis=0)
    labels = tuple(f"{name}-{recordings.reference}" if recordings.reference else name for name in recordings.electrodes)
    return Drill(
        name="planted",
        what="planted",
        labels=labels,
        data=referred,
        unit=recordings.unit,
        sfreq=signal.sfreq,
        bursts=bursts,
    )


def _record(sfreq: float) -> int:
    """Return the samples of a data record: half a second where that is a whole number of them, else one."""
    n = max(1, round(sfreq))
    return n // 2 if n % 2 == 0 else n


def edf_bytes(drill: Drill) -> bytes:
    """Return a recording as an EDF file; the same recording gives the same bytes."""
    import edfio

    if drill.file:
        return drill.file
    largest = float(np.abs(drill.data).max(initial=0.0))
    limit = 10.0 ** math.ceil(math.log10(largest)) if largest else 1.0  # its text has to fit into eight characters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signals = [
            edfio.EdfSignal(
                row, drill.sfreq, label=label, physical_dimension=drill.unit, physical_range=(-limit, limit)
            )
            for label, row in zip(drill.labels, drill.data, strict=True)
        ]
        file = edfio.Edf(
            signals, recording=edfio.Recording(startdate=BEGUN.date()), starttime=BEGUN.time(),
            data_record_duration=_record(drill.sfreq) / drill.sfreq,
        )  # fmt: skip
        return bytes(file.to_bytes())
