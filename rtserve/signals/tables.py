"""Reading tab-separated tables of a BIDS folder as people's programs wrote them: whatever the encoding, by column."""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass
from pathlib import Path

from rtserve.errors import InputError
from rtserve.files import readable_file

__all__ = ["MISSING", "Table", "read_table"]

MISSING = ("", "n/a", "na", "nan", "none", "null")
"""What stands for no value, in lower case; BIDS says ``n/a``."""
LARGEST = 64 << 20
"""Bytes; a table of a million events is smaller."""
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table's cells, without the blanks around them.

    Parameters
    ----------
    path : Path
        The file.
    columns : tuple of str
        Their names.
    rows : tuple of dict
        Column to text; the file's line is `lines`.
    lines : tuple of int
        Line of each row in the file.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]


def read_table(path: Path, *, what: str) -> Table:
    """Read a table: UTF-8 or UTF-16 with or without a mark, else Latin-1; empty lines are left out.

    Parameters
    ----------
    path : Path
        A .tsv file.
    what : str
        What errors call it.

    Raises
    ------
    InputError
        Where it cannot be read, is too large, has no header, names a column twice, or a row has too many cells.
    """
    path = readable_file(path, what)
    size = path.stat().st_size
    if size > LARGEST:
        raise InputError(f"{what} {path} has {size:,} bytes, over {LARGEST:,}", hint="is it the right file?")
    text = _decoded(path.read_bytes())
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
        cells = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise InputError(f"{what} {path} is no table: {error}", hint="a .tsv has cells between tabs") from None
    cells = [(line, row) for line, row in cells if any(row)]
    if not cells:
        return Table(path=path, columns=(), rows=(), lines=())
    columns = cells[0][1]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{what} {path} has two columns {twice!r}", hint="rename one of them")
    wide = next(((line, row) for line, row in cells[1:] if len(row) > len(columns)), None)
    if wide is not None:
        raise InputError(
            f"{what} {path}, line {wide[0]}: {len(wide[1])} cells for {len(columns)} columns",
            hint="a tab too many, or a header that lacks a name",
        )
    rows = tuple(dict(zip(columns, row + [""] * (len(columns) - len(row)), strict=True)) for _, row in cells[1:])
    return Table(path=path, columns=tuple(columns), rows=rows, lines=tuple(line for line, _ in cells[1:]))


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    if b"\0" in data[:200]:  # UTF-16 without a mark
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
