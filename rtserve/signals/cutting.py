"""Windows out of one recording: around answered stimuli, or at fixed steps for a target that is the subject's."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.chosen import EventChoice, choose_events, event_values
from rtserve.signals.clock import GAP
from rtserve.signals.events import EventRule, find_trials, read_events
from rtserve.signals.holes import bad_spans, is_bad
from rtserve.signals.recordings import Signal
from rtserve.signals.wanted import Wanted

__all__ = ["OPEN", "Cut", "Cutting", "cut_windows", "marked_bad"]

OPEN = "with NaN in a segment marked as bad, or beside one"
"""Why a window that holds such samples is left out."""


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """Where windows lie.

    Parameters
    ----------
    rule : EventRule or None
        Which events make a trial.
    choice : EventChoice or None
        Without a rule: which events get a window each; None for windows at fixed steps.
    wanted : tuple of Wanted
        What is taken of each event; response times only by a rule.
    start, stop : float
        Window in s from the stimulus; half-open, so 2 s at 100 Hz are 200 samples.
    every : float
        Step in s of fixed windows.
    crop : float
        A random piece of this many s of each fixed window is kept; 0 for all of it.
    crop_seed : int
        Of the pieces.
    max_uv : float
        Windows with a larger range in any channel are dropped; 0 for none.
    keep_bad : bool
        Keep windows that overlap a segment marked as bad.
    """

    rule: EventRule | None
    choice: EventChoice | None = None
    wanted: tuple[Wanted, ...] = ()
    start: float = 0.5
    stop: float = 2.5
    every: float = 2.0
    crop: float = 0.0
    crop_seed: int = 42
    max_uv: float = 0.0
    keep_bad: bool = False

    @property
    def around_events(self) -> bool:
        """Whether a window lies around an event, not at a fixed step."""
        return self.rule is not None or self.choice is not None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Windows of one recording.

    Parameters
    ----------
    X : ndarray, float32, (n, n_chans, n_times)
        Volts.
    values : dict of str to ndarray, (n,)
        What was wanted of each event: numbers, or texts where they are classes or it is not known yet.
    onset_s : ndarray, (n,)
        Stimulus, or start of the fixed window, in s from the recording's first sample.
    event : ndarray of str, (n,)
        The stimulus's name; empty for fixed windows.
    overlap : tuple of int, float
        How many windows share samples with another, and how many s of the next at most.
    dropped : Counter
        What was left out, by reason.
    """

    X: np.ndarray
    values: dict[str, np.ndarray]
    onset_s: np.ndarray
    event: np.ndarray
    overlap: tuple[int, float]
    dropped: Counter[str]

    @property
    def y(self) -> np.ndarray:
        """The first of `values` (n,): of trials their response times."""
        return next(iter(self.values.values()))


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where windows shall lie: first samples, and per window its onset in s, targets, event and stretch."""

    start: np.ndarray
    onset: np.ndarray
    values: dict[str, np.ndarray]
    event: np.ndarray
    stretch: np.ndarray
    dropped: Counter[str]


def cut_windows(signal: Signal, cutting: Cutting) -> Cut:
    """Cut the windows of a cleaned recording.

    Raises
    ------
    InputError
        Where nothing is left; the reasons are counted.
    """
    rate = signal.clock.rate
    if cutting.around_events:
        places, n_times = _around_events(signal, cutting), round((cutting.stop - cutting.start) * rate)
    else:
        places, n_times = _fixed(signal, cutting), round((cutting.crop or cutting.stop - cutting.start) * rate)
    if n_times < 1:
        raise InputError(
            f"{signal.path}: a window of {cutting.stop - cutting.start:g} s holds no sample at {rate:g} Hz",
            hint="a longer --window (or --fixed and --crop), or a higher --sfreq",
        )
    dropped = Counter(places.dropped)
    keep = _inside(places, n_times, signal, dropped)
    if not cutting.keep_bad:
        keep &= ~marked_bad(places.start, n_times, signal, keep, dropped)
    starts = places.start[keep]
    X = np.empty((len(starts), len(signal.ch_names), n_times), np.float32)
    for window, start in zip(X, starts, strict=True):
        window[:] = signal.data[:, start : start + n_times]
    whole = np.isfinite(X).all(axis=(1, 2))
    dropped[OPEN] += int((~whole).sum())
    X, keep[keep] = X if whole.all() else X[whole], whole
    if cutting.max_uv:
        calm = np.ptp(X, axis=2).max(axis=1) <= cutting.max_uv * 1e-6
        dropped[f"over {cutting.max_uv:g} uV"] += int((~calm).sum())
        X, keep[keep] = X[calm], calm
    dropped = Counter({reason: n for reason, n in dropped.items() if n})
    if not len(X):
        counted = ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "the recording is shorter than one"
        raise InputError(
            f"{signal.path} gives no window: {counted} (it lasts {signal.clock.duration:.1f} s)",
            hint="do events and data belong together, and are the responses marked?",
        )
    return Cut(
        X=X,
        values={name: values[keep] for name, values in places.values.items()},
        onset_s=places.onset[keep],
        event=places.event[keep],
        overlap=_overlap(places.start[keep], n_times, rate),
        dropped=dropped,
    )


def _overlap(start: np.ndarray, n_times: int, rate: float) -> tuple[int, float]:
    """Return how many windows share samples with another, and for how many s at most with the next."""
    start = np.sort(start)
    shared = n_times - np.diff(start)
    meets = shared > 0
    both = np.append(meets, False) | np.append(False, meets)
    return int(both.sum()), float(shared.max(initial=0) / rate) if meets.any() else 0.0


def _around_events(signal: Signal, cutting: Cutting) -> _Places:
    """Return windows around answered stimuli, or around every chosen event, with what is wanted of each."""
    if cutting.rule is not None:
        events = read_events(signal, cutting.rule.needed)
        found = find_trials(events, cutting.rule)
        index, dropped = found.stimulus, Counter(found.dropped)
        values = {"response_time": found.response_time}
    else:
        assert cutting.choice is not None
        events, index = choose_events(signal, cutting.choice, cutting.wanted)
        dropped, values = Counter[str](), {}
    assert events.stretch is not None
    assert events.sample is not None
    others, keep = event_values(signal, events, index, cutting.wanted, dropped)
    values |= others
    if cutting.rule is None:
        here = keep & (events.stretch[index] >= 0)  # those outside have no sample, and are counted as what they are
        keep &= _alone(events.sample[index], events.name[index], here, dropped)
    values = {name: given[keep] for name, given in values.items()}
    index = index[keep]
    return _Places(
        start=events.sample[index] + round(cutting.start * signal.clock.rate),
        onset=events.onset[index],
        values=values,
        event=events.name[index],
        stretch=events.stretch[index],
        dropped=dropped,
    )


def _alone(sample: np.ndarray, name: np.ndarray, keep: np.ndarray, dropped: Counter[str]) -> np.ndarray:
    """Return which events have no other chosen one at their sample; of one event marked twice the first is kept."""
    alone = np.ones(len(sample), bool)
    places = np.flatnonzero(keep)
    values, counts = np.unique(sample[places], return_counts=True)
    for at in values[counts > 1].tolist():
        here = places[sample[places] == at]
        same = len(set(name[here].tolist())) == 1
        alone[here[1:] if same else here] = False
        dropped["event marked twice" if same else "different events at the same time"] += len(here) - same
    return alone


def _fixed(signal: Signal, cutting: Cutting) -> _Places:
    """Return windows at fixed steps of time, those that data is whole for; of each a random piece is kept."""
    clock = signal.clock
    length = round((cutting.stop - cutting.start) * clock.rate)
    step, crop = round(cutting.every * clock.rate), round(cutting.crop * clock.rate)
    end = round(clock.stretches[-1].time * clock.rate) + clock.lengths[-1]
    placed = clock.at_times(np.arange(0, end - length + 1, max(1, step)) / clock.rate)
    first = clock.first
    whole = (placed.stretch >= 0) & (placed.sample + length <= first[placed.stretch + 1])
    start = placed.sample
    if crop:
        # The piece depends on the recording and not on its place in the set, so that a resumed run cuts the same.
        name = int.from_bytes(hashlib.sha256(os.fsencode(signal.path.name)).digest()[:8], "little")
        rng = np.random.default_rng([cutting.crop_seed, name])
        start = start + rng.integers(0, length - crop + 1, len(start))
    n = int(whole.sum())
    return _Places(
        start=start[whole],
        onset=placed.time[whole],
        values={},
        event=np.full(n, ""),
        stretch=placed.stretch[whole],
        dropped=Counter({"across a gap of the recording": int((~whole & (placed.stretch >= 0)).sum())}),
    )


def _inside(places: _Places, n_times: int, signal: Signal, dropped: Counter[str]) -> np.ndarray:
    """Return which windows lie within the stretch of their event; count the others."""
    first = signal.clock.first
    known = places.stretch >= 0
    low, high = first[np.where(known, places.stretch, 0)], first[np.where(known, places.stretch, 0) + 1]
    inside = known & (places.start >= low) & (places.start + n_times <= high)
    end = first[-1]
    outside = np.where(known, (places.start < 0) | (places.start + n_times > end), places.stretch != GAP)
    dropped["outside the recording"] += int((~inside & outside).sum())
    dropped["across a gap of the recording"] += int((~inside & ~outside).sum())
    return np.asarray(inside)


def marked_bad(start: np.ndarray, n_times: int, signal: Signal, keep: np.ndarray, dropped: Counter[str]) -> np.ndarray:
    """Return which windows overlap a segment whose mark begins with BAD, by MNE's rule; count those of `keep`."""
    begin = signal.clock.time_of(start)
    end = begin + n_times / signal.clock.rate
    bad = is_bad(begin, end, bad_spans(signal.marks))
    dropped["in a segment marked as bad"] += int((bad & keep).sum())
    return bad
