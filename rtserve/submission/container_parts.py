"""What a contest that runs containers says of them: the command's files, the recordings, the events and their table."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from datetime import datetime

from rtserve.errors import ProfileError

__all__ = ["Container", "Events", "Recordings", "Table", "require_container"]

VALUES = ("onset", "duration", "event", "confidence", "start", "recording")
"""What a column of a table can hold: s, s, kind, probability, date and time, s."""
NEEDED = ("onset", "duration", "event")


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """The recordings that a contest hands over.

    Parameters
    ----------
    electrodes : tuple of str
        In the contest's order.
    reference : str
        How the contest's files write what these are referred to, behind the electrode: ``"Avg"``.
    averages : tuple of str
        Names of the average of all electrodes, `reference` among them where it is one.
    aliases : dict of str to tuple of str
        Other names of an electrode.
    prefixes : tuple of str
        What stands before a name in some files.
    unit : str
        Of a file that states none.
    fill : int
        Channels that may lack and are zeros then.
    hours : float
        Length of the recording that times are forecast for.
    chains : tuple of str
        The bipolar channels that files of this contest's data sets have instead, as ``Fp1-F3``.
    """

    electrodes: tuple[str, ...]
    reference: str
    averages: tuple[str, ...]
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()
    unit: str = "uV"
    fill: int = 0
    hours: float = 24.0
    chains: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Events:
    """How answers become events; a profile states what a recipe may state otherwise.

    Parameters
    ----------
    hop_s : float
        Seconds from one window to the next.
    threshold : float
        Probability from which on a window is in an event.
    merge_s : float
        Events that are less apart are one.
    min_s : float
        Shorter ones are none.
    classes : tuple of str
        Names that an event's class may have; the first that the graph knows is it.
    """

    hop_s: float = 1.0
    threshold: float = 0.5
    merge_s: float = 0.0
    min_s: float = 0.0
    classes: tuple[str, ...] = ()

    def require_sensible(self, where: str) -> None:
        """Raise `ProfileError` where a number is none that can be meant."""
        bad = [
            f"{name} is {getattr(self, name)!r}"
            for name, fits in (
                ("hop_s", self.hop_s > 0), ("threshold", 0 < self.threshold < 1), ("merge_s", self.merge_s >= 0),
                ("min_s", self.min_s >= 0),
            ) if not fits
        ]  # fmt: skip
        if bad:
            raise ProfileError(
                f"{where}: {'; '.join(bad)}",
                hint="seconds are positive or 0, a hop is not 0, a threshold is a probability between 0 and 1",
            )


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table that is written.

    Parameters
    ----------
    columns : dict of str to str
        Name to what stands in it: Python's format of the values `VALUES`, ``"{onset:.2f}"``, or a fixed text.
    event, background : str
        What an event is called, and a recording without any.
    kinds : str
        Regular expression of all that the scorer knows as events.
    separator : str
        Between columns.
    no_date : str
        Start of a recording that does not say it, in ISO 8601.
    optional : tuple of str
        Columns that may hold `unknown` instead.
    unknown : str
        What stands for a value that is not known.
    recording_s : float
        A recording's length is read in whole units of these seconds; 0 where to the digit.
    """

    columns: dict[str, str]
    event: str
    background: str
    kinds: str
    separator: str = "\t"
    no_date: str = "1970-01-01T00:00:00"
    optional: tuple[str, ...] = ()
    unknown: str = "n/a"
    recording_s: float = 0.0

    def column_of(self, value: str) -> tuple[str, str]:
        """Return the column that holds a value, and its format; empty where none does."""
        for name, pattern in self.columns.items():
            for key, form in fields_of(pattern):
                if key == value:
                    return name, form
        return "", ""

    @property
    def held(self) -> list[str]:
        """Which of `VALUES` the columns hold."""
        return [value for value in VALUES if self.column_of(value)[0]]


def fields_of(pattern: str) -> list[tuple[str, str]]:
    """Return the values that a pattern names, with the format of each."""
    return [(key, form or "") for _, key, form, _ in string.Formatter().parse(pattern) if key is not None]


@dataclass(frozen=True, kw_only=True)
class Container:
    """A contest that runs a container: a recording in, a table out, no network.

    Parameters
    ----------
    data, output : str
        Folders of both, the first read-only.
    input_variable, output_variable : str
        Environment variables that name the files in there.
    recordings : Recordings
        What is handed over.
    events : Events
        How the detector that `rtserve build` writes decides, where a recipe does not say it.
    table : Table
        What is read.
    """

    data: str
    output: str
    input_variable: str
    output_variable: str
    recordings: Recordings
    events: Events
    table: Table


def require_container(container: Container, where: str) -> None:
    """Raise `ProfileError` where a container's tables contradict themselves."""
    container.events.require_sensible(f"{where}: container.events")
    table, recordings = container.table, container.recordings
    try:
        named = {key for pattern in table.columns.values() for key, _ in fields_of(pattern)}
        re.compile(table.kinds)
        datetime.fromisoformat(table.no_date)
    except (ValueError, re.error) as error:
        raise ProfileError(f"{where}: container.table: {error}", hint="see docs/contests.md") from None
    strange = sorted(named - set(VALUES))
    lacking = [value for value in NEEDED if value not in named]
    if strange or lacking:
        raise ProfileError(
            f"{where}: container.table.columns {f'name {strange[0]!r}' if strange else f'lack {lacking[0]!r}'}",
            hint=f"values are {', '.join(VALUES)}",
        )
    if table.background != table.event and not re.fullmatch(table.kinds, table.event):
        raise ProfileError(f"{where}: container.table.kinds does not fit {table.event!r}", hint="name it there")
    if others := sorted(set(table.optional) - set(table.columns)):
        raise ProfileError(f"{where}: container.table.optional names {others[0]!r}", hint="columns has no such name")
    strangers = sorted(set(recordings.aliases) - set(recordings.electrodes))
    if strangers:
        raise ProfileError(
            f"{where}: container.recordings.aliases names {strangers[0]!r}", hint="electrodes has no such name"
        )
