"""Events that get a window each, and what is taken of every event: its class, a column of its row, a number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.clock import Marks
from rtserve.signals.decimals import commas_of
from rtserve.signals.events import Events, events_of
from rtserve.signals.patterns import fits
from rtserve.signals.recordings import Signal
from rtserve.signals.tables import is_empty, plain_number
from rtserve.signals.wanted import Wanted

__all__ = ["EventChoice", "choose_events", "event_values"]

_TECHNICAL = re.compile(
    r"((stimulus|comment)/)?(bad(?![a-z]).*|edge( boundary)?|boundary|new segment(/.*)?"
    r"|start experiment.*|recording ends.*)",
    re.IGNORECASE | re.DOTALL,
)
"""Names that say something of the recording and nothing of the experiment; edge_left and badge are the experiment's."""
_COMMA = re.compile(r"\d,\d")


@dataclass(frozen=True, kw_only=True)
class EventChoice:
    """Which events get a window.

    Parameters
    ----------
    names : tuple of str
        Any of these, with ``*`` for anything; empty for all that are the experiment's.
    """

    names: tuple[str, ...] = ()

    def mask(self, marks: Marks, wanted: Sequence[Wanted], *, broad: bool = False) -> np.ndarray:
        """Return which of one source's events (n,) are chosen, and have what is wanted of them.

        With `broad` those also whose name has digits that are no number, so that they are counted.
        """
        chosen = np.array([self._takes(name) for name in marks.name.tolist()], bool)
        for one in () if self.names else wanted:
            chosen |= _meant(marks, one)
        for one in wanted:
            chosen &= _has(marks, one, broad=broad)
        return chosen

    def _takes(self, name: str) -> bool:
        if self.names:
            return any(fits(name, key) for key in self.names)
        return not is_empty(name) and not _TECHNICAL.fullmatch(name)


def _has(marks: Marks, one: Wanted, *, broad: bool) -> np.ndarray:
    if one.kind == "class" and one.classes is not None:
        return np.array([one.classes.name_of(name) is not None for name in marks.name.tolist()], bool)
    if one.kind == "number":
        has = one.may_have_number if broad else one.has_number
        return np.array([has(name) for name in marks.name.tolist()], bool)
    if one.kind == "column":
        return np.full(len(marks.name), one.detail in marks.fields)
    return np.ones(len(marks.name), bool)


def choose_events(signal: Signal, choice: EventChoice, wanted: Sequence[Wanted]) -> tuple[Events, np.ndarray]:
    """Return the events of the first source that has some of them, and which are chosen (n_chosen,).

    Raises
    ------
    InputError
        Where no source has any.
    """
    for marks in signal.marks:
        if choice.mask(marks, wanted).any():
            mask = choice.mask(marks, wanted, broad=True)
            if marks is not signal.marks[0]:
                signal.notes.add(f"events taken from {marks.source}")
            events = events_of(signal, marks)
            _tell_nameless(marks, mask, choice, signal)
            return events, np.flatnonzero(mask[events.order])
    what = ", ".join([*choice.names, *(_said(one) for one in wanted if one.of_event)]) or "any"
    listed = [f"{', '.join(sorted(set(m.name.tolist()))[:10])} ({m.source})" for m in signal.marks if len(m.name)]
    columns = sorted({name for m in signal.marks for name in m.fields})
    raise InputError(
        f"{signal.path} has no event for {what}",
        hint=f"its events are {'; '.join(listed) or 'none at all'}"
        + (f"; columns {', '.join(columns)}" if columns else "")
        + "; name them with --classes or --stimulus",
    )


def _meant(marks: Marks, one: Wanted) -> np.ndarray:
    """Return which events (n,) are chosen since a class is called what they are: a cue may be called none, or edge."""
    none = np.zeros(len(marks.name), bool)
    texts = marks.name if one.kind == "class" else marks.fields.get(one.detail) if one.kind == "column" else None
    if one.classes is None or not one.classes.keys or texts is None:
        return none
    meant = np.array([one.classes.means(text) for text in texts.tolist()], bool)
    if one.kind == "column":
        meant &= np.array([not _TECHNICAL.fullmatch(name) for name in marks.name.tolist()], bool)
    return meant


def _tell_nameless(marks: Marks, mask: np.ndarray, choice: EventChoice, signal: Signal) -> None:
    """Say which words for no value were taken for no name."""
    left = Counter[str]() if choice.names else Counter(marks.name[~mask].tolist())
    for name, n in left.items():
        if is_empty(name) and name.strip().lower() not in ("", "n/a"):
            signal.notes.add(f"events called {name} are taken for no events (--stimulus or --classes names them)", n)


def _said(one: Wanted) -> str:
    if one.kind == "class" and one.classes is not None and one.classes.keys:
        return "class " + "/".join(one.classes.keys)
    return {"column": f"column {one.detail}", "number": f"a number {one.detail}".strip()}.get(one.kind, one.name)


def event_values(
    signal: Signal, events: Events, index: np.ndarray, wanted: Sequence[Wanted], dropped: Counter[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return what is wanted of each event, and which events have all of it.

    Parameters
    ----------
    signal : Signal
        For what errors say.
    events : Events
        Of one source.
    index : ndarray of int, (n,)
        Events that get a window.
    wanted : sequence of Wanted
        Targets; response times are not known here.
    dropped : Counter
        Counts what is left out, by reason.

    Returns
    -------
    dict of str to ndarray, (n,)
        Numbers, or texts where they are classes or it is not known yet.
    ndarray of bool, (n,)

    Raises
    ------
    InputError
        Where the events have no such column.
    """
    keep = np.ones(len(index), bool)
    values: dict[str, np.ndarray] = {}
    for one in wanted:
        if one.kind == "class" and one.classes is not None:
            found = [one.classes.name_of(name) for name in events.name[index].tolist()]
            values[one.name] = np.array([text or "" for text in found], "U")
            missing = np.array([text is None for text in found], bool)
            reason = "event of no class"
        elif one.kind == "number":
            values[one.name] = _numbers(signal, events.name[index].tolist(), one)
            missing, reason = np.isnan(values[one.name]), "no single number in the event's name"
        elif one.kind == "column":
            values[one.name], missing = _column(signal, events, index, one)
            reason = f"no {one.detail}" if one.classes is None else f"{one.detail} of no class"
        else:
            continue
        dropped[reason] += int((missing & keep).sum())
        keep &= ~missing
    return values, keep


def _numbers(signal: Signal, names: list[str], one: Wanted) -> np.ndarray:
    """Return the number that each event's name has, NaN where it has none or several."""
    numbers = [one.number_in(name) for name in names]
    comma = next((n for n, v in zip(names, numbers, strict=True) if v is None and _COMMA.search(n)), None)
    if comma is not None:
        raise InputError(
            f"{signal.path}: whether {comma!r}, the name of an event, has a decimal comma is not known",
            hint="write a point into the names, or name the events whose numbers to take with --stimulus",
        )
    return np.array([np.nan if value is None else value for value in numbers], float)


def _column(signal: Signal, events: Events, index: np.ndarray, one: Wanted) -> tuple[np.ndarray, np.ndarray]:
    if one.detail not in events.fields:
        raise InputError(
            f"{signal.path}: its events ({events.source}) have no column {one.detail}",
            hint=f"they have {', '.join(events.fields) or 'no columns'}; --event-column names another source",
        )
    texts = events.fields[one.detail][index]
    missing = np.array([is_empty(text) for text in texts.tolist()], bool)
    if one.classes is not None:
        found = [one.classes.name_of(text) for text in texts.tolist()]
        missing &= ~np.array([one.classes.means(text) for text in texts.tolist()], bool)
        missing |= np.array([text is None for text in found], bool)
        return np.array([text or "" for text in found], "U"), missing
    every = events.fields[one.detail].tolist()
    commas = commas_of(every, f"{signal.path}: column {one.detail} of its events", semicolons=events.semicolons)
    numbers = [plain_number(commas.plain(text)) for text in texts[~missing].tolist()]
    if any(value is None for value in numbers):
        return texts, missing
    if commas.seen:
        signal.notes.add(f"{events.source.partition(',')[0]}: {commas.note(one.detail)}")
    values = np.full(len(texts), np.nan)
    values[~missing] = np.array(numbers, float)
    return values, missing | ~np.isfinite(values)
