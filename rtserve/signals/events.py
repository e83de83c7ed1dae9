"""Events to trials: which stimulus was answered when.

The rule (HBN's contrast change detection, and any stimulus with a response): a trial goes from its start to the next
start; within it the first stimulus counts, and the first response at or after it. Where recordings mark no trial
starts, every stimulus begins a trial. A trial without a response is no trial; it is counted with its reason. So is one
across a gap of the recording: what is marked beyond the gap did not follow the stimulus by the time that it seems to.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.clock import OUTSIDE, Marks
from rtserve.signals.recordings import Signal

__all__ = ["HBN_EVENTS", "EventRule", "Events", "Found", "events_of", "find_trials", "read_events"]


@dataclass(frozen=True, kw_only=True)
class EventRule:
    """Names of the events that make a trial.

    Parameters
    ----------
    stimulus, response : tuple of str
        Any of these names.
    trial_start : tuple of str
        Empty where every stimulus begins a trial.
    trial_end : tuple of str
        What ends the last trial; empty where it ends with the recording. The last trial of a recording that lacks such
        an event is left out and counted.
    """

    stimulus: tuple[str, ...]
    response: tuple[str, ...]
    trial_start: tuple[str, ...] = ()
    trial_end: tuple[str, ...] = ()

    @property
    def needed(self) -> dict[str, tuple[str, ...]]:
        """Names that a recording must have, by what they are."""
        parts = {"stimulus": self.stimulus, "response": self.response, "trial start": self.trial_start}
        return {what: names for what, names in parts.items() if names}


HBN_EVENTS = EventRule(
    stimulus=("left_target", "right_target"),
    response=("left_buttonPress", "right_buttonPress"),
    trial_start=("contrastTrial_start",),
    trial_end=("end_experiment",),
)
"""Contrast change detection of HBN-EEG (events.tsv, column ``value``), ended as the contest's start kit ends it."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """What happened when.

    Parameters
    ----------
    onset : ndarray, (n,)
        In s from the recording's first sample.
    name : ndarray of str, (n,)
        What it is called.
    stretch : ndarray of int, (n,), or None
        In which stretch of samples without a gap, as `rtserve.signals.clock.Instants` has it. None for one stretch.
    sample : ndarray of int, (n,), or None
        Of the signal's data; None where no windows are cut.
    source : str
        Where it is from.
    fields : dict of str to ndarray of str, (n,)
        What else its source says of each, by column.
    order : ndarray of int, (n,)
        Place of each among the marks it was read from.
    semicolons : bool
        See `rtserve.signals.clock.Marks`.
    """

    onset: np.ndarray
    name: np.ndarray
    stretch: np.ndarray | None = None
    sample: np.ndarray | None = None
    source: str = ""
    fields: dict[str, np.ndarray] = field(default_factory=dict)
    order: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    semicolons: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """Trials of one recording.

    Parameters
    ----------
    stimulus : ndarray of int, (n_trials,)
        Index of each trial's stimulus among the events.
    onset : ndarray, (n_trials,)
        Stimulus in s.
    response_time : ndarray, (n_trials,)
        Response minus stimulus in s.
    dropped : Counter
        Trials left out, by reason.
    """

    stimulus: np.ndarray
    onset: np.ndarray
    response_time: np.ndarray
    dropped: Counter[str] = field(default_factory=Counter)


def read_events(signal: Signal, needed: dict[str, tuple[str, ...]]) -> Events:
    """Return the events of the first source that has all that is needed, on the signal's clock.

    Parameters
    ----------
    signal : Signal
        A cleaned recording.
    needed : dict of str to tuple of str
        Event names, any of which will do, by what they are; ``--stimulus`` names ``"stimulus"``.

    Raises
    ------
    InputError
        Where no source has them all.
    """
    for marks in signal.marks:
        if all(np.isin(marks.name, names).any() for names in needed.values()):
            if marks is not signal.marks[0]:
                signal.notes.add(f"events taken from {marks.source}")
            return events_of(signal, marks)
    have = {name for marks in signal.marks for name in marks.name.tolist()}
    absent = {what: names for what, names in needed.items() if not have & set(names)}
    what, names = next(iter((absent or needed).items()))
    listed = [f"{_listed(marks)} ({marks.source})" for marks in signal.marks if len(marks.name)]
    scattered = "" if absent else "; no single source has all that is asked for"
    raise InputError(
        f"{signal.path} has no {what} event {' or '.join(names)}{scattered}",
        hint=f"its events are {'; '.join(listed) or 'none at all'}; name them with --{what.replace(' ', '-')}",
    )


def _listed(marks: Marks) -> str:
    names = sorted(set(marks.name.tolist()))
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def events_of(signal: Signal, marks: Marks) -> Events:
    """Return one source's events in order of time, on the signal's clock."""
    if marks.note:
        signal.notes.add(marks.note)
    clock = signal.clock
    placed = clock.at_times(marks.onset) if marks.stored is None else clock.at_stored(marks.stored, marks.onset)
    order = np.argsort(placed.time, kind="stable")
    return Events(
        onset=placed.time[order],
        name=marks.name[order],
        stretch=placed.stretch[order],
        sample=placed.sample[order],
        source=marks.source,
        fields={column: texts[order] for column, texts in marks.fields.items()},
        order=order,
        semicolons=marks.semicolons,
    )


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
    stretch = np.zeros(len(onset), int) if events.stretch is None else events.stretch[order]
    stimuli, responses = (np.flatnonzero(np.isin(name, names)) for names in (rule.stimulus, rule.response))
    starts = np.flatnonzero(np.isin(name, rule.trial_start)) if rule.trial_start else stimuli
    ends = np.append(onset[starts[1:]], np.inf)[: len(starts)]
    dropped: Counter[str] = Counter()
    if rule.trial_end and len(starts):
        closed = onset[np.isin(name, rule.trial_end)]
        if len(closed) and closed[-1] > onset[starts[-1]]:
            ends[-1] = closed[-1]
        else:
            dropped[f"last trial without {' or '.join(rule.trial_end)}"] += 1
            starts, ends = starts[:-1], ends[:-1]
    kept: list[tuple[int, float]] = []
    for start, end in zip(starts, ends, strict=True):
        shown = stimuli[(onset[stimuli] >= onset[start]) & (onset[stimuli] < end)]
        answered = responses[(onset[responses] >= onset[shown[0]]) & (onset[responses] < end)] if len(shown) else shown
        if not len(shown):
            dropped["no stimulus" if rule.trial_start else "stimulus repeated at the same time"] += 1
        elif not len(answered):
            dropped["no response"] += 1
        elif len({int(stretch[k]) for k in (start, shown[0], answered[0]) if stretch[k] != OUTSIDE}) > 1:
            dropped["across a gap of the recording"] += 1
        else:
            kept.append((int(shown[0]), float(onset[answered[0]] - onset[shown[0]])))
    chosen = np.array([index for index, _ in kept], int)
    return Found(
        stimulus=order[chosen],
        onset=onset[chosen],
        response_time=np.array([seconds for _, seconds in kept], float),
        dropped=dropped,
    )
