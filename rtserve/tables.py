"""Tables as text, for a place of any width: columns where they fit, else a record for each row. No column is ever cut.

A width of None is a pipe or a file: every row is one line there, however long.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["aligned", "fits", "fitting", "note_lines", "record_lines", "wrapping_table"]

GAP = 2
MIN_FIRST = 24
"""Narrower than this, the first column says too little on a line, and each row becomes a record."""

Record = tuple[str, Sequence[tuple[str, str]]]
"""A row's title, and what each of its columns is called with what stands there."""


def fits(lines: Iterable[str], width: int | None) -> bool:
    """Whether all lines of a table fit a width."""
    return width is None or all(len(line) <= width for line in lines)


def fitting(lines: Sequence[str], records: Iterable[Record], width: int | None, *, indent: int = 0) -> list[str]:
    """Return a table's lines where all of them fit a width, else its rows as records.

    Parameters
    ----------
    lines : sequence of str
        The table as it is where there is room.
    records : iterable of (str, sequence of (str, str))
        The same, row by row.
    width : int or None
        Columns that there are.
    indent : int
        Of the records.
    """
    if width is None or fits(lines, width):
        return list(lines)
    return [line for title, values in records for line in record_lines(title, values, width, indent=indent)]


def record_lines(title: str, values: Iterable[tuple[str, str]], width: int, *, indent: int = 0) -> list[str]:
    """Return a row as its title and, below it, ``name: value`` lines; a cell that is empty has none."""
    pad = " " * indent
    below = (f"{name}: {value}" if name else value for name, value in values if value)
    return [
        *note_lines(pad + title, width, indent=pad + "  "),
        *(line for each in below for line in note_lines(f"{pad}  {each}", width, indent=pad + "    ")),
    ]


def aligned(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    *,
    right: Iterable[int] = (),
    headed: bool = True,
    wraps: bool = False,
    indent: int = 0,
    title: str = "",
) -> list[str]:
    """Return a table in columns as wide as what stands in them; the first column is the title of a row's record.

    Parameters
    ----------
    names : sequence of str
        Of the columns; of the first, where it says no more than which rows there are, may be empty.
    rows : sequence of sequence of str
        One cell for each column, or fewer.
    width : int or None
        Columns that there are.
    right : iterable of int
        Columns that stand to the right.
    headed : bool
        Whether the names stand above.
    wraps : bool
        Whether the last column, a sentence, may go on below itself where the others leave it room.
    indent : int
        Spaces before every line.
    title : str
        Of a record, with ``{}`` for the first cell; by default the first column's name and the cell.
    """
    cells = [names, *rows] if headed else list(rows)
    sizes = [max((len(row[k]) for row in cells if k < len(row)), default=0) for k in range(len(names))]
    to_right = set(right)
    before = indent + sum(sizes[:-1]) + GAP * (len(sizes) - 1)
    lines = []
    for row in cells:
        placed = [
            cell.rjust(size) if k in to_right else cell.ljust(size)
            for k, (cell, size) in enumerate(zip(row, sizes, strict=False))
        ]
        line = (" " * indent + (" " * GAP).join(placed)).rstrip()
        if wraps and width is not None and len(line) > width >= before + MIN_FIRST and len(row) == len(sizes):
            first, *more = _wrapped(row[-1], width - before)
            line = "\n".join(
                [" " * indent + (" " * GAP).join([*placed[:-1], first]), *(" " * before + m for m in more)]
            )
        lines += line.split("\n")
    title = title or f"{names[0]} {{}}".lstrip()
    records = [(title.format(row[0]), list(zip(names[1:], row[1:], strict=False))) for row in rows]
    return fitting(lines, records, width, indent=indent)


def wrapping_table(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """Return rows of the same keys as lines of at most `width`, unless a single word is longer.

    The first column takes what the others leave, and wraps; the others stand to the right, with headings that wrap at
    their words. Where that leaves too little, each row is a record.
    """
    first, *others = rows[0]
    sizes = [max(_longest_word(key), *(len(row[key]) for row in rows)) for key in others]
    room = width - sum(sizes) - GAP * len(others)
    wanted = max(len(first), *(len(row[first]) for row in rows))
    if room < min(wanted, MIN_FIRST):
        return [line for row in rows for line in record_lines(row[first], [(k, row[k]) for k in others], width)]
    sizes = [min(wanted, room), *sizes]
    rule = (" " * GAP).join("-" * size for size in sizes)
    head = _line([_wrapped(key, size) for key, size in zip(rows[0], sizes, strict=True)], sizes, bottom=True)
    body = [
        line
        for row in rows
        for line in _line([_wrapped(row[key], size) for key, size in zip(row, sizes, strict=True)], sizes, bottom=False)
    ]
    return [*head, rule, *body]


def note_lines(text: str, width: int, *, indent: str = "  ") -> list[str]:
    """Return a sentence wrapped at its words, every line but the first indented; long words (paths) stay whole."""
    return _wrapped(text, width, indent=indent)


def _wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    room = max(width, len(indent) + 1)
    return textwrap.wrap(text, room, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]


def _longest_word(text: str) -> int:
    return max(len(word) for word in text.split())


def _line(cells: Sequence[Sequence[str]], sizes: Sequence[int], *, bottom: bool) -> list[str]:
    """Lay out cells of several lines beside each other; the first to the left, the others to the right."""
    height = max(len(cell) for cell in cells)
    padded = [[""] * (height - len(cell)) + list(cell) if bottom else [*cell, *[""] * (height - len(cell))]
              for cell in cells]  # fmt: skip
    lines = []
    for parts in zip(*padded, strict=True):
        first = parts[0].ljust(sizes[0])
        rest = [part.rjust(size) for part, size in zip(parts[1:], sizes[1:], strict=True)]
        lines.append((" " * GAP).join([first, *rest]).rstrip())
    return lines
