"""What is marked in a recording, by every source that says so: its events.tsv, its annotations, its trigger channels."""

from __future__ import annotations

import html
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.brainvision import HEADS as BRAINVISION
from rtserve.signals.brainvision import marker_file
from rtserve.signals.clock import Marks
from rtserve.signals.decimals import Commas, commas_of
from rtserve.signals.edf import SUFFIXES as EDF_SUFFIXES
from rtserve.signals.edf import Note, read_header, read_notes
from rtserve.signals.tables import Table, is_empty, plain_name, plain_number

__all__ = ["NAME_COLUMNS", "annotated", "comma_notes", "from_notes", "tabled"]

NAME_COLUMNS = ("trial_type", "value", "event_type", "stim_type", "event", "type", "description", "name")
"""Columns of an events.tsv that may hold the names, in the order in which they are tried."""
JOINS = re.compile(r"^((stimulus|comment)/)?(edge( boundary)?|boundary|new segment(/.*)?)$", re.IGNORECASE)
"""Annotations that mark a join: MNE's (`mne.concatenate_raws`), EEGLAB's in any format, BrainVision's."""
EEGLAB_JOINS = re.compile(r"^(boundary|-99)$", re.IGNORECASE)
"""EEGLAB writes a join as a boundary, and as -99 where a set's event types are numbers (its ``eeg_boundarytype``)."""
TABLED_JOIN = "boundary"
"""What an events.tsv that EEGLAB wrote calls one; its numbers are the user's, and -99 the commonest missing value."""


def annotated(raw: Any, path: Path, *, lost: bool) -> Marks:
    """Return the annotations of a recording, with their samples as `mne.events_from_annotations` rounds them.

    Parameters
    ----------
    raw : mne.io.Raw
        As it was read.
    path : Path
        Its file.
    lost : bool
        Whether MNE said that it left annotations out because they lie outside the data; they are read again, so that
        trials there are counted.
    """
    notes = raw.annotations
    stored = raw.time_as_index(notes.onset, use_rounding=True, origin=notes.orig_time)
    if notes.orig_time is None:
        stored = stored - raw.first_samp
    onset, duration = notes.onset - raw.first_time, np.nan_to_num(np.asarray(notes.duration, float))
    if path.name.lower().endswith((".fif", ".fif.gz")):
        # Onsets are kept there in single precision: one that is a sample but for that is the sample.
        exact = stored / float(raw.info["sfreq"])
        onset = np.where(np.abs(onset - exact) <= np.spacing(notes.onset.astype("f4")) + 1e-6, exact, onset)
    # MNE writes what is not Latin-1 into a .fif as &#1234; and leaves it so when it reads.
    name = np.array([html.unescape(t) if "&#" in t else t for t in map(str, notes.description)], "U")
    length = raw.n_times / float(raw.info["sfreq"])
    outside = [note for note in (_all_notes(path, raw) if lost else []) if not 0 <= note.onset <= length]
    if outside:
        more = from_notes(outside)
        onset, duration = np.concatenate([onset, more.onset]), np.concatenate([duration, more.duration])
        name = np.concatenate([name, more.name])
        stored = np.concatenate([stored, np.rint(more.onset * raw.info["sfreq"]).astype(int)])
    joins = np.array([is_join(text, path) for text in name], bool)
    return Marks(source="annotations", onset=onset, duration=duration, name=name, stored=stored, joins=joins)


def is_join(text: str, path: Path) -> bool:
    """Whether an annotation of this file says that the samples before and after it do not follow one another."""
    eeglab = path.suffix.lower() == ".set" and EEGLAB_JOINS.match(text)
    return bool(eeglab or JOINS.match(text))


def from_notes(notes: list[Note]) -> Marks:
    """Return annotations that were read by hand."""
    return Marks(
        source="annotations",
        onset=np.array([note.onset for note in notes], float),
        duration=np.array([note.duration for note in notes], float),
        name=np.array([note.text for note in notes], "U"),
    )


def _all_notes(path: Path, raw: Any) -> list[Note]:
    """Return a file's annotations whether or not there is data at their time; none where that cannot be read."""
    import mne

    if path.suffix.lower() in EDF_SUFFIXES:
        return read_notes(path, read_header(path))[1]
    source = marker_file(path) if path.suffix.lower() in BRAINVISION else path
    with warnings.catch_warnings(), mne.utils.use_log_level("error"):
        warnings.simplefilter("ignore")  # said when the recording was read
        try:
            found = mne.read_annotations(source)
        except (NotImplementedError, ValueError, OSError):  # a format whose annotations MNE does not read alone
            return []
    from_first = found.onset
    if found.orig_time is not None:  # a .fif counts from the measurement's start
        start = raw.info["meas_date"] or found.orig_time
        from_first = found.onset + (found.orig_time - start).total_seconds() - raw.first_time
    pairs = zip(from_first, found.duration, found.description, strict=True)
    return [Note(onset=float(at), duration=float(lasts), text=str(text)) for at, lasts, text in pairs]


def tabled(table: Table, column: str = "") -> list[Marks]:
    """Return the marks of an events.tsv, once for each column that may hold their names.

    Parameters
    ----------
    table : Table
        As read.
    column : str
        The column to take; empty for all of `NAME_COLUMNS` that say something.

    Raises
    ------
    InputError
        Where it lacks its columns or holds an onset that is no number.
    """
    given = [column] if column else [name for name in NAME_COLUMNS if name in table.columns]
    if "onset" not in table.columns or not given or not set(given) <= set(table.columns):
        raise InputError(
            f"{table.path} has columns {', '.join(sorted(table.columns)) or 'none'}",
            hint=f"an events.tsv has onset and {column or 'one of ' + ', '.join(NAME_COLUMNS)}",
        )
    onset = np.array(_numbers(table, "onset"), float)
    placed = np.isfinite(onset)
    lasts = np.nan_to_num(_numbers(table, "duration", lenient=True), nan=0.0)
    fields = {name: np.array(table.column(name), "U")[placed] for name in table.columns}
    said = [n for n in given if column or not all(map(is_empty, table.column(n))) or n == given[-1]]
    return [
        Marks(
            source=f"{table.path.name}, column {name}",
            onset=onset[placed],
            duration=np.maximum(lasts[placed], 0.0),
            name=np.array([plain_name(text) for text in table.column(name)], "U")[placed],
            unplaced=int((~placed).sum()),
            fields=fields,
            joins=np.char.lower(np.array(table.column(name), "U")[placed]) == TABLED_JOIN,
            quality=name == said[0],
            semicolons=table.separator == ";",
        )
        for name in said
    ]


def _numbers(table: Table, column: str, *, lenient: bool = False) -> list[float]:
    """Return a column as numbers, NaN where a field is empty (or, `lenient`, a word)."""
    if column not in table.columns:
        return [math.nan] * len(table.rows)
    commas = _commas(table, column)
    out = []
    for line, text in zip(table.lines, table.column(column), strict=True):
        value = None if is_empty(text) else plain_number(commas.plain(text))
        if value is None and not (lenient or is_empty(text)):
            raise InputError(
                f"{table.path}, line {line}: an onset is no number: {text!r:.60}", hint="onsets are seconds"
            )
        out.append(math.nan if value is None else value)
    return out


def comma_notes(table: Table) -> list[str]:
    """Say how the commas in an events.tsv's seconds were read, where there are any."""
    columns = [name for name in ("onset", "duration") if name in table.columns]
    return [f"{table.path.name}: {note}" for name in columns if (note := _commas(table, name).note(name))]


def _commas(table: Table, column: str) -> Commas:
    return commas_of(table.column(column), f"column {column} of {table.path}", semicolons=table.separator == ";")
