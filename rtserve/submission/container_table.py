"""`faults`: what is wrong with a table of events, as the contest's own reader would stumble over it, and stricter.

The header is compared to the letter; every value has to be what its column holds; events lie within the recording, in no
other's way; one row of the background's kind stands for a recording without events.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rtserve.submission.container_parts import Table

__all__ = ["HEADER", "KIND", "LENGTH", "ROW", "Fault", "Row", "faults", "read_rows"]

HEADER, ROW, KIND, LENGTH = "header", "row", "kind", "length"
EDGE_S = 0.011
"""How far an end may lie beyond another: both are written with two digits."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong: `HEADER`, `ROW`, `KIND` or `LENGTH`, with both values."""

    about: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row's values: begin and duration in s, kind."""

    onset: float
    duration: float
    kind: str

    @property
    def end(self) -> float:
        """Where it ends, in s."""
        return self.onset + self.duration


def read_rows(text: str, table: Table) -> list[Row]:
    """Return the rows of a table without faults."""
    lines = [line.split(table.separator) for line in text.splitlines()[1:] if line.strip()]
    places = {value: list(table.columns).index(table.column_of(value)[0]) for value in ("onset", "duration", "event")}
    return [
        Row(onset=float(c[places["onset"]]), duration=float(c[places["duration"]]), kind=c[places["event"]])
        for c in lines
    ]


def faults(text: str, table: Table, *, seconds: float) -> list[Fault]:
    """Return everything that is wrong with a table.

    Parameters
    ----------
    text : str
        As it was written.
    table : Table
        What the contest reads.
    seconds : float
        Of the recording.
    """
    lines = text.splitlines()
    wanted = table.separator.join(table.columns)
    if not lines or lines[0] != wanted:
        return [Fault(about=HEADER, message=f"the header is {_shown(lines[0] if lines else '')}, not {_shown(wanted)}")]
    cells = [(number, line.split(table.separator)) for number, line in enumerate(lines[1:], start=2)]
    odd = [f for number, row in cells for f in _row(number, row, table, seconds)]
    if not cells:
        message = f"it has no row; a recording without events is one row {table.background!r} of its whole length"
        return [Fault(about=ROW, message=message)]
    return odd or list(_together(read_rows(text, table), table, seconds))


def _row(number: int, cells: Sequence[str], table: Table, seconds: float) -> Iterator[Fault]:
    if len(cells) != len(table.columns):
        yield Fault(about=ROW, message=f"line {number} has {len(cells)} columns, the header {len(table.columns)}")
        return
    for name, cell in zip(table.columns, cells, strict=True):
        if cell == table.unknown and name in table.optional:
            continue
        for value in _values(table, name):
            fault = _value(value, cell, table, seconds)
            if fault is not None:
                yield Fault(about=fault.about, message=f"line {number}: {name} {fault.message}")


def _values(table: Table, name: str) -> list[str]:
    """Return which of the known values a column holds: one, or none where it is a fixed text."""
    return [value for value in table.held if table.column_of(value)[0] == name]


def _value(value: str, cell: str, table: Table, seconds: float) -> Fault | None:
    if value == "event":
        allowed = re.fullmatch(table.kinds, cell) or cell == table.background
        said = f"is {cell!r}, not {table.background!r} or {table.kinds}"
        return None if allowed else Fault(about=KIND, message=said)
    if value == "start":
        return _start(cell, table)
    number = _number(cell)
    if number is None:
        return Fault(about=ROW, message=f"is {cell!r}, not a number")
    if value == "recording":
        return _length(number, table, seconds)
    high = 1.0 if value == "confidence" else seconds + EDGE_S
    if not 0 <= number <= high:
        limit = "1" if value == "confidence" else f"the recording's {seconds:g} s"
        return Fault(about=ROW, message=f"is {number:g}, not from 0 to {limit}")
    return None


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and cell == cell.strip() else None


def _start(cell: str, table: Table) -> Fault | None:
    pattern = table.column_of("start")[1] or "%Y-%m-%dT%H:%M:%S"
    try:
        datetime.strptime(cell, pattern)
    except ValueError:
        return Fault(about=ROW, message=f"is {cell!r}, not a time as {pattern}")
    return None


def _length(number: float, table: Table, seconds: float) -> Fault | None:
    unit = table.recording_s
    same = int(number / unit) == int(seconds / unit) if unit else abs(number - seconds) < EDGE_S
    how = f", compared in whole units of {unit:g} s" if unit else ""
    said = f"is {number:g} s, the recording has {seconds:g} s{how}"
    return None if same else Fault(about=LENGTH, message=said)


def _together(rows: Sequence[Row], table: Table, seconds: float) -> Iterator[Fault]:
    """Yield what is wrong between rows, all of which are right by themselves."""
    for row in rows:
        if row.end > seconds + EDGE_S:
            yield Fault(about=ROW, message=f"an event ends at {row.end:g} s, the recording at {seconds:g} s")
    for one, other in itertools.pairwise(rows):
        if other.onset < one.end - EDGE_S:
            yield Fault(
                about=ROW,
                message=f"the event at {other.onset:g} s begins before the one at {one.onset:g} s ends, at {one.end:g} s",
            )
    quiet = [row for row in rows if row.kind == table.background]
    whole = len(rows) == 1 and abs(quiet[0].duration - seconds) <= max(EDGE_S, table.recording_s) if quiet else True
    if not whole:
        row = quiet[0]
        yield Fault(
            about=ROW,
            message=f"a row {table.background!r} from {row.onset:g} to {row.end:g} s among {len(rows)}: it stands for a"
            f" recording of {seconds:g} s without events, alone",
        )


def _shown(header: str) -> str:
    return repr(header[:200])
