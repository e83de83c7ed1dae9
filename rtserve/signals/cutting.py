"""Windows out of one recording: around answered stimuli, or at fixed steps for a target that is the subject's."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.events import EventRule, Events, find_trials, read_events

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
    """

    rule: EventRule | None
    start: float = 0.5
    stop: float = 2.5
    every: float = 2.0
    crop: float = 0.0
    crop_seed: int = 42
    max_uv: float = 0.0


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
        Stimulus, or start of the fixed window.
    dropped : Counter
        What was left out, by reason.
    """

    X: np.ndarray
    y: np.ndarray
    onset_s: np.ndarray
    dropped: Counter[str]


def cut_windows(raw: Any, path: Path, cutting: Cutting) -> Cut:
    """Cut the windows of a cleaned recording.

    Raises
    ------
    InputError
        Where nothing is left; the reasons are counted.
    """
    rate = float(raw.info["sfreq"])
    if cutting.rule is None:
        starts, onset = _fixed(raw, path, cutting, rate)
        y, dropped = np.full(len(starts), np.nan), Counter[str]()
        n_times = round((cutting.crop or cutting.stop - cutting.start) * rate)
    else:
        events = read_events(path, raw)
        _require_stimuli(events, cutting.rule, path)
        found = find_trials(events, cutting.rule)
        onset, y, dropped = found.onset, found.response_time, Counter(found.dropped)
        starts = np.round((onset + cutting.start) * rate).astype(int)
        n_times = round((cutting.stop - cutting.start) * rate)
    inside = (starts >= 0) & (starts + n_times <= raw.n_times)
    dropped["outside the recording"] += int((~inside).sum())
    X = np.stack([raw._data[:, s : s + n_times] for s in starts[inside]]) if inside.any() else _none(raw, n_times)
    X, y, onset = X.astype(np.float32), y[inside], onset[inside]
    if cutting.max_uv:
        calm = np.ptp(X, axis=2).max(axis=1) <= cutting.max_uv * 1e-6
        dropped[f"over {cutting.max_uv:g} uV"] += int((~calm).sum())
        X, y, onset = X[calm], y[calm], onset[calm]
    dropped = Counter({reason: n for reason, n in dropped.items() if n})
    if not len(X):
        counted = ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "the recording is shorter than one"
        duration = raw.n_times / rate
        raise InputError(
            f"{path} gives no window: {counted} (it lasts {duration:.1f} s)",
            hint="do events and data belong together, and are the responses marked?",
        )
    return Cut(X=X, y=y, onset_s=onset, dropped=dropped)


def _none(raw: Any, n_times: int) -> np.ndarray:
    return np.empty((0, len(raw.ch_names), n_times))


def _fixed(raw: Any, path: Path, cutting: Cutting, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return first samples of the windows to cut and the starts in s of the windows they lie in."""
    length = round((cutting.stop - cutting.start) * rate)
    step, crop = round(cutting.every * rate), round(cutting.crop * rate)
    outer = np.arange(0, raw.n_times - length + 1, max(1, step))
    if not crop:
        return outer, outer / rate
    # The piece depends on the recording and not on its place in the set, so that a resumed run cuts the same.
    name = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:8], "little")
    rng = np.random.default_rng([cutting.crop_seed, name])
    return outer + rng.integers(0, length - crop + 1, len(outer)), outer / rate


def _require_stimuli(events: Events, rule: EventRule, path: Path) -> None:
    for what, names in (("stimulus", rule.stimulus), ("response", rule.response), ("trial start", rule.trial_start)):
        if names and not np.isin(events.name, names).any():
            there = ", ".join(sorted(set(events.name.tolist()))[:10]) or "none at all"
            raise InputError(
                f"{path} has no {what} event {' or '.join(names)}",
                hint=f"its events are {there}; name them with --{what.split()[0]}",
            )
