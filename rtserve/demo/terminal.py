"""Text for a terminal of any width: a table that wraps or stacks its rows, notes with a hanging indent."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

__all__ = ["note_lines", "table_lines"]

GAP = 2
MIN_FIRST = 24
"""Narrower than this, the first column says too little on a line, and each row becomes a few lines of its own."""


def table_lines(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """Return rows of the same keys as lines of at most `width`, unless a single word is longer.

    The first column takes what the others leave, and wraps; the others stand to the right, with headings that wrap at
    their words. Where that leaves too little, each row is its name and, below it, each value with its heading.
    """
    first, *others = rows[0]
    sizes = [max(_longest_word(key), *(len(row[key]) for row in rows)) for key in others]
    room = width - sum(sizes) - GAP * len(others)
    wanted = max(len(first), *(len(row[first]) for row in rows))
    if room < min(wanted, MIN_FIRST):
        return [line for row in rows for line in _stacked(row, width)]
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


def _stacked(row: Mapping[str, str], width: int) -> list[str]:
    first, *others = row
    values = [line for key in others if row[key] for line in note_lines(f"  {key} {row[key]}", width, indent="    ")]
    return [*note_lines(row[first], width), *values]
