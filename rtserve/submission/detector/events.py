"""From a probability for each window to events, and to the table that a contest reads."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Event", "events_of", "table_of"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event: its ends in s from the recording's first sample, and the mean probability of its windows."""

    begin: float
    end: float
    confidence: float


def events_of(
    scores: np.ndarray, centres: np.ndarray, seconds: float, *, threshold: float, merge_s: float, min_s: float
) -> list[Event]:
    """Return events in order, none touching another.

    A window stands for the time that is nearer to its centre than to any other's, the first and the last one also for what
    lies before and behind. Windows at or above the threshold make an event where they follow one another; events that are
    less than `merge_s` apart are one; those that are shorter than `min_s` after that are none.

    Parameters
    ----------
    scores, centres : ndarray, (windows,)
        Probability of an event, and the middle of the window in s.
    seconds : float
        Of the recording.
    threshold : float
        Probability.
    merge_s, min_s : float
        Seconds.
    """
    if not len(scores):
        return []
    edges = np.concatenate([[0.0], (centres[1:] + centres[:-1]) / 2, [seconds]])
    steps = np.diff(np.concatenate([[0], (scores >= threshold).astype(np.int8), [0]]))
    runs = zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True)
    joined: list[tuple[int, int]] = []
    for first, last in runs:
        if joined and edges[first] - edges[joined[-1][1]] < merge_s:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return [
        Event(begin=float(edges[first]), end=float(edges[last]), confidence=_confidence(scores[first:last], threshold))
        for first, last in joined
        if edges[last] - edges[first] >= min_s
    ]


def _confidence(scores: np.ndarray, threshold: float) -> float:
    return float(scores[scores >= threshold].mean())


def table_of(
    events: Sequence[Event],
    table: Mapping[str, Any],
    *,
    seconds: float,
    start: datetime.datetime | None,
    quiet: float = 0.0,
) -> str:
    """Return the table: a row for each event, or one for the whole recording where there is none.

    Parameters
    ----------
    events : sequence of Event
        In order.
    table : mapping
        ``columns`` (name to a pattern of onset, duration, event, confidence, start, recording), ``separator``, ``event``,
        ``background`` and ``no_date`` (the start of a recording that does not say it).
    seconds : float
        Of the recording.
    start : datetime or None
        When it began.
    quiet : float
        How sure it is that there is no event.
    """
    begun = start or datetime.datetime.fromisoformat(table["no_date"])
    rows = [(event.begin, event.end, table["event"], event.confidence) for event in events]
    lines = [table["separator"].join(table["columns"])]
    for begin, end, kind, confidence in rows or [(0.0, seconds, table["background"], quiet)]:
        # Both ends are rounded, so that rounding sends no event beyond the recording or into the next one.
        begin, end = round(begin, 2), round(end, 2)
        values = {"onset": begin, "duration": end - begin, "event": kind, "confidence": confidence,
                  "start": begun, "recording": seconds}  # fmt: skip
        lines.append(table["separator"].join(pattern.format(**values) for pattern in table["columns"].values()))
    return "\n".join(lines) + "\n"
