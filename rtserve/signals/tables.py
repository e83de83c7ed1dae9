"""Tables beside recordings (events.tsv, channels.tsv, participants.tsv), as BIDS, Excel and MATLAB write them.

BIDS says UTF-8 and tabs; found in the wild are byte-order marks, UTF-16, Latin-1, semicolons and decimal commas. They are
read, and what was assumed is said. A table that is none after all is an `InputError` that names file and line.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from rtserve.errors import InputError
from rtserve.files import readable_file
from rtserve.signals.rows import rows_of

__all__ = ["MISSING", "Table", "is_empty", "plain_name", "plain_number", "read_table"]

MISSING = ("", "n/a", "na", "nan", "none", "null")
"""What stands for no value, in lower case; BIDS says ``n/a``."""
LARGEST_BYTES = 1 << 28
LONGEST_FIELD = 1 << 16
"""Beyond these a file is no table of events, channels or people."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as text.

    Parameters
    ----------
    path : Path
        Where it stands.
    columns : tuple of str
        The head's names in order.
    rows : tuple of dict of str to str
        Every row's fields by column; a field that a short row lacks is ``""``.
    lines : tuple of int
        The line of the file that each row stands on.
    notes : tuple of str
        What was assumed in reading it.
    separator : str
        What parts its fields.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]
    notes: tuple[str, ...] = ()
    separator: str = "\t"

    def column(self, name: str) -> list[str]:
        """Return one column's fields."""
        return [row[name] for row in self.rows]


def read_table(path: Path, *, what: str = "table") -> Table:
    """Read a table of fields with tabs (or semicolons or commas where its head has no tab); empty lines are left out.

    Parameters
    ----------
    path : Path
        A .tsv file.
    what : str
        What errors call it.

    Raises
    ------
    InputError
        Where it cannot be read, is no text, is too large, or a row has more fields than the head.
    """
    path = readable_file(path, what)
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise InputError(
            f"{what} {path} has {size:,} bytes, at most {LARGEST_BYTES:,} are read", hint="is it a table at all?"
        )
    text, encoding = _decoded(path.read_bytes(), path)
    head = next((line for line in re.split("[\r\n]+", text) if line.strip()), "")
    if not head:
        return Table(path=path, columns=(), rows=(), lines=())
    separator = "\t" if "\t" in head else next((mark for mark in ";," if mark in head), "\t")
    (_, names), *lines = rows_of(text, separator, path)
    columns = tuple(names)
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise InputError(f"{what} {path} has two columns {twice!r}", hint="rename one of them")
    rows = tuple(_row(cells, at, columns, path) for at, cells in lines)
    notes = [f"{path.name} read as {encoding}, not UTF-8"] if encoding not in ("utf-8", "utf-8-sig") else []
    notes += [f"{path.name} read with {separator!r} between its fields, not tabs"] if separator != "\t" else []
    places = tuple(at for at, _ in lines)
    return Table(path=path, columns=columns, rows=rows, lines=places, notes=tuple(notes), separator=separator)


def _decoded(data: bytes, path: Path) -> tuple[str, str]:
    marked = next((codec for mark, codec in _MARKS if data.startswith(mark)), "")
    if not marked and len(data) > 3 and 0 in (data[0], data[1]):
        marked = "utf-16-be" if data[0] == 0 else "utf-16-le"  # text in two bytes a letter without a mark
    try:
        return data.decode(marked or "utf-8"), marked or "utf-8"
    except UnicodeDecodeError as error:
        if marked or b"\0" in data:
            raise InputError(
                f"table {path} is no {marked or 'text'}: {error.reason} at byte {error.start}",
                hint="save it as UTF-8 with tabs",
            ) from None
    return data.decode("cp1252", errors="replace"), "Latin-1 (Windows-1252)"


def _row(fields: list[str], at: int, columns: tuple[str, ...], path: Path) -> dict[str, str]:
    while len(fields) > len(columns) and not fields[-1]:
        fields.pop()
    if len(fields) > len(columns):
        raise InputError(
            f"{path}, line {at}: {len(fields)} cells for {len(columns)} columns",
            hint="a tab too many, or a head that lacks a name",
        )
    longest = max(map(len, fields))
    if longest > LONGEST_FIELD:
        raise InputError(
            f"{path}, line {at}: a field of {longest:,} letters, at most {LONGEST_FIELD:,} are read",
            hint="is it a table of events, channels or people?",
        )
    return dict(zip(columns, fields + [""] * (len(columns) - len(fields)), strict=True))


def is_empty(field: str) -> bool:
    """Whether a field says nothing: empty, or BIDS's ``n/a`` in its spellings."""
    return field.strip().lower() in MISSING


_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE | re.ASCII)
"""A number as a table holds it. Python takes more for one: 1_2 for 12, and digits of other scripts."""


def plain_number(field: str) -> float | None:
    """Return a field as a number, None where it is none; a comma is no part of one: 1,234 may be two numbers."""
    return float(field) if _NUMBER.fullmatch(field.strip()) else None


def plain_name(text: str) -> str:
    """Return a name; 201.0, as a column with gaps is often written, is 201."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)
