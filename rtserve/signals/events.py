"""Events to trials: which stimulus was answered when.

The rule (HBN's contrast change detection, and any stimulus with a response): a trial goes from its start to the next
start; within it the first stimulus counts, and the first response at or after it. Where recordings mark no trial
starts, every stimulus begins a trial. A trial without a response is no trial; it is counted with its reason.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError

__all__ = ["HBN_EVENTS", "EventRule", "Events", "Found", "find_trials", "read_events"]


@dataclass(frozen=True, kw_only=True)
class EventRule:
    """Names of the events that make a trial.

    Parameters
    ----------
    stimulus, response : tuple of str
        Any of these names.
    trial_start : tuple of str
        Empty where every stimulus begins a trial.
    """

    stimulus: tuple[str, ...]
    response: tuple[str, ...]
    trial_start: tuple[str, ...] = ()


HBN_EVENTS = EventRule(
    stimulus=("left_target", "right_target"),
    response=("left_buttonPress", "right_buttonPress"),
    trial_start=("contrastTrial_start",),
)
"""Contrast change detection of HBN-EEG (events.tsv, column ``value``)."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """What happened when: onset (n,) in s from the recording's first sample, and name (n,)."""

    onset: np.ndarray
    name: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Found:
    """Trials of one recording.

    Parameters
    ----------
    onset : ndarray, (n_trials,)
        Stimulus in s.
    response_time : ndarray, (n_trials,)
        Response minus stimulus in s.
    dropped : Counter
        Trials left out, by reason.
    """

    onset: np.ndarray
    response_time: np.ndarray
    dropped: Counter[str] = field(default_factory=Counter)


def read_events(recording: Path, raw: Any) -> Events:
    """Return the events of a recording: its BIDS ``_events.tsv`` where there is one, else its own annotations.

    Raises
    ------
    InputError
        Where the table lacks its columns or holds what is no number.
    """
    stem = recording.name.rpartition("_eeg.")[0]
    table = recording.with_name(f"{stem}_events.tsv") if stem else recording.with_suffix(".events.tsv")
    if table.exists():
        return _from_table(table)
    notes = raw.annotations
    # Annotations count from the measurement's date where there is one, else from the first sample.
    shift = raw.first_time if notes.orig_time is not None else 0.0
    return Events(
        onset=np.asarray(notes.onset, float) - shift, name=np.array([str(name) for name in notes.description], "U")
    )


def _from_table(table: Path) -> Events:
    with open(table, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    columns = set(rows[0]) if rows else set()
    name = next((key for key in ("value", "trial_type", "event_type") if key in columns), None)
    if "onset" not in columns or name is None:
        raise InputError(
            f"{table} has columns {', '.join(sorted(map(str, columns))) or 'none'}",
            hint="an events.tsv has onset and one of value, trial_type, event_type",
        )
    try:
        onset = np.array([float(row["onset"]) for row in rows])
    except (TypeError, ValueError) as error:
        raise InputError(f"{table}: an onset is no number ({error})", hint="onsets are seconds") from None
    return Events(onset=onset, name=np.array([str(row[name] or "").strip() for row in rows], "U"))


def find_trials(events: Events, rule: EventRule) -> Found:
    """Pair stimuli with responses; see the module.

    Parameters
    ----------
    events : Events
        In any order.
    rule : EventRule
        Which names count.
    """
    order = np.argsort(events.onset, kind="stable")
    onset, name = events.onset[order], events.name[order]
    stimuli, responses = (onset[np.isin(name, names)] for names in (rule.stimulus, rule.response))
    starts = onset[np.isin(name, rule.trial_start)] if rule.trial_start else stimuli
    ends = np.append(starts[1:], np.inf)[: len(starts)]
    dropped: Counter[str] = Counter()
    kept: list[tuple[float, float]] = []
    for start, end in zip(starts, ends, strict=True):
        shown = stimuli[(stimuli >= start) & (stimuli < end)]
        answered = responses[(responses >= shown[0]) & (responses < end)] if len(shown) else shown
        if len(answered):
            kept.append((float(shown[0]), float(answered[0] - shown[0])))
        else:
            dropped["no stimulus" if not len(shown) else "no response"] += 1
    pairs = np.array(kept, float).reshape(-1, 2)
    return Found(onset=pairs[:, 0], response_time=pairs[:, 1], dropped=dropped)
