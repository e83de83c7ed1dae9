"""Samples that are no numbers within a segment marked as bad: no window has them, and no filter spreads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rtserve.signals.clock import SKIP, Clock, Marks

__all__ = ["around_holes", "bad_spans", "filled", "is_bad", "opened", "without_holes"]


def bad_spans(marks: Sequence[Marks]) -> list[tuple[float, float]]:
    """Return begin and end in s of the segments whose mark begins with BAD, but for filler, which is a gap."""
    return [
        (onset, onset + duration)
        for some in marks
        if some.quality
        for onset, duration, name in some
        if name.lower().startswith("bad") and not name.upper().startswith(SKIP)
    ]


def is_bad(begin: np.ndarray, end: np.ndarray, spans: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return which stretches of time (n,) overlap a span, by the rule of `mne.Epochs`."""
    bad = np.zeros(len(begin), bool)
    for onset, stop in spans:
        bad |= (onset < end) & (stop > begin)
    return bad


def opened(data: np.ndarray, clock: Clock, marks: Sequence[Marks]) -> np.ndarray:
    """Return which samples (n_times,) hold a value that is no number and lie in a segment marked as bad."""
    odd: np.ndarray = ~np.isfinite(data).all(axis=0)
    where = np.flatnonzero(odd)
    times = np.full(len(where), np.nan)
    for part in clock.stretches:
        here = (where >= part.start) & (where < part.stop)
        times[here] = part.time + (where[here] - part.start) / (clock.sfreq * part.pace)
    odd[where] = is_bad(times, times + 1 / clock.sfreq, bad_spans(marks))
    return odd


def without_holes(data: np.ndarray) -> np.ndarray:
    """Return the samples (n_chans, n) that are numbers in every channel; the same array where all are."""
    whole = np.isfinite(data).all(axis=0)
    return data if whole.all() else data[:, whole]


def around_holes(data: np.ndarray, clean: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return samples (n_chans, n_times) with what lies between two holes filtered by itself."""
    whole = np.isfinite(data).all(axis=0)
    if whole.all():
        return clean(data)
    out = np.full(data.shape, np.nan)
    edges = np.flatnonzero(np.diff(np.r_[False, whole, False].astype(int)))
    for start, stop in edges.reshape(-1, 2).tolist():
        out[:, start:stop] = clean(data[:, start:stop])
    return out


def filled(data: np.ndarray, ratio: float, resample: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return samples resampled over straight lines across the holes, which are holes again at `ratio` times the rate."""
    whole = np.isfinite(data).all(axis=0)
    if whole.all():
        return resample(data)
    places = np.arange(data.shape[1])
    known = np.flatnonzero(whole)
    out = resample(np.stack([np.interp(places, known, row[known]) if len(known) else 0.0 * places for row in data]))
    edges = np.flatnonzero(np.diff(np.r_[False, ~whole, False].astype(int)))
    for start, stop in edges.reshape(-1, 2).tolist():
        out[:, max(0, int(np.floor((start - 1) * ratio)) + 1) : int(np.ceil(stop * ratio))] = np.nan
    return out
