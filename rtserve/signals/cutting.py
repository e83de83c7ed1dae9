"""Windows out of one recording: around answered stimuli, or at fixed steps for a target that is the subject's."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.clock import GAP, SKIP
from rtserve.signals.events import EventRule, find_trials, read_events
from rtserve.signals.recordings import Signal

__all__ = ["Cut", "Cutting", "cut_windows"]


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """Where windows lie.

    Parameters
    ----------
    rule : EventRule or None
        Which events make a trial; None for fixed steps.
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
    start: float = 0.5
    stop: float = 2.5
    every: float = 2.0
    crop: float = 0.0
    crop_seed: int = 42
    max_uv: float = 0.0
    keep_bad: bool = False


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Windows of one recording.

    Parameters
    ----------
    X : ndarray, float32, (n, n_chans, n_times)
        Volts.
    y : ndarray, (n,)
        Response time in s; NaN for fixed windows, whose target is the subject's.
    onset_s : ndarray, (n,)
        Stimulus, or start of the fixed window, in s from the recording's first sample.
    event : ndarray of str, (n,)
        The stimulus's name; empty for fixed windows.
    dropped : Counter
        What was left out, by reason.
    """

    X: np.ndarray
    y: np.ndarray
    onset_s: np.ndarray
    event: np.ndarray
    dropped: Counter[str]


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where windows shall lie: first samples, and per window its onset in s, target, event and stretch."""

    start: np.ndarray
    onset: np.ndarray
    y: np.ndarray
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
    if cutting.rule is None:
        places, n_times = _fixed(signal, cutting), round((cutting.crop or cutting.stop - cutting.start) * rate)
    else:
        places, n_times = (
            _around_stimuli(signal, cutting.rule, cutting.start),
            round((cutting.stop - cutting.start) * rate),
        )
    dropped = Counter(places.dropped)
    keep = _inside(places, n_times, signal, dropped)
    if not cutting.keep_bad:
        keep &= ~_marked_bad(places.start, n_times, signal, keep, dropped)
    starts = places.start[keep]
    X = np.empty((len(starts), len(signal.ch_names), n_times), np.float32)
    for window, start in zip(X, starts, strict=True):
        window[:] = signal.data[:, start : start + n_times]
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
    return Cut(X=X, y=places.y[keep], onset_s=places.onset[keep], event=places.event[keep], dropped=dropped)


def _around_stimuli(signal: Signal, rule: EventRule, start: float) -> _Places:
    events = read_events(signal, rule.needed)
    assert events.stretch is not None
    assert events.sample is not None
    found = find_trials(events, rule)
    return _Places(
        start=events.sample[found.stimulus] + round(start * signal.clock.rate),
        onset=found.onset,
        y=found.response_time,
        event=events.name[found.stimulus],
        stretch=events.stretch[found.stimulus],
        dropped=found.dropped,
    )


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
        name = int.from_bytes(hashlib.sha256(signal.path.name.encode()).digest()[:8], "little")
        rng = np.random.default_rng([cutting.crop_seed, name])
        start = start + rng.integers(0, length - crop + 1, len(start))
    n = int(whole.sum())
    return _Places(
        start=start[whole],
        onset=placed.time[whole],
        y=np.full(n, np.nan),
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


def _marked_bad(start: np.ndarray, n_times: int, signal: Signal, keep: np.ndarray, dropped: Counter[str]) -> np.ndarray:
    """Return which windows overlap a segment whose mark begins with BAD, by MNE's rule; count those of `keep`."""
    begin = signal.clock.time_of(start)
    end = begin + n_times / signal.clock.rate
    bad = np.zeros(len(start), bool)
    for onset, duration, name in (mark for marks in signal.marks for mark in marks):
        if name.lower().startswith("bad") and not name.upper().startswith(SKIP):
            bad |= (onset < end) & (onset + duration > begin)
    dropped["in a segment marked as bad"] += int((bad & keep).sum())
    return bad
