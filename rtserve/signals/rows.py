r"""The rows of a table: lines end at \r\n, \n or \r alone, and a quoted cell may hold the separator and an end of line.

Where tabs part the cells, quotes are often just letters (5" screen): a line whose quotes do not close is taken as it
stands. Where commas or semicolons part them, as spreadsheets write, it is an error.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from rtserve.errors import InputError

__all__ = ["rows_of"]

_END = re.compile(r"\r\n|\n|\r")
LONGEST_CELL_LINES = 64
"""Lines that one quoted cell may have."""


def rows_of(text: str, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of every row that is not empty; the first is the head.

    Parameters
    ----------
    text : str
        The whole table.
    separator : str
        What parts its cells.
    path : Path
        Its file, for messages.

    Raises
    ------
    InputError
        Where a quote does not close, and no tabs part the cells.
    """
    lines, at, width = _END.split(text), 0, 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        cells, used = _row(lines, at, separator, width, path)
        width = width or len(cells)
        yield at + 1, [cell.strip().strip("\0").strip() for cell in cells]
        at += used


def _row(lines: list[str], at: int, separator: str, width: int, path: Path) -> tuple[list[str], int]:
    """Return the cells of the row that begins at a line, and how many lines it has."""
    if '"' not in lines[at]:
        return lines[at].split(separator), 1
    tabs = separator == "\t"
    for used in range(1, LONGEST_CELL_LINES + 1):
        end = at + used
        if end > len(lines) or (tabs and used > 1 and len(lines[end - 1].split(separator)) >= max(width, 2)):
            break  # a line that is a row of its own is no part of a cell
        cells = _parsed("\n".join(lines[at:end]), separator)
        if cells is not None:
            return cells, used
    if not tabs:
        raise InputError(
            f"{path}, line {at + 1}: a quote does not close, or text stands beside a quoted cell",
            hint='a quoted cell is "..." whole, and a quote within it is ""',
        )
    return [_bare(cell) for cell in lines[at].split(separator)], 1


def _parsed(line: str, separator: str) -> list[str] | None:
    """Return the cells of a row, None where its quotes are not those of quoted cells."""
    quoted = re.sub(r'" +(?=$|' + re.escape(separator) + ")", '"', line) if line.count('"') == 2 else line
    try:
        rows = list(csv.reader([quoted], delimiter=separator, strict=True, skipinitialspace=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _bare(field: str) -> str:
    field = field.strip()
    return field[1:-1].strip() if len(field) > 1 and field[0] == field[-1] == '"' else field
