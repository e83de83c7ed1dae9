"""Help that can be read at any width from 40 columns on: nothing is cut, and words break where they have joints."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable

import click

__all__ = ["HelpContext", "HelpText", "fold", "folded_call"]

WIDEST, NARROWEST = 110, 20
LEAST_TEXT = 24
"""Columns that what is said of a name needs beside it; with less it goes below."""
JOINTS = re.compile(r"(?<=[|,;/=])|(?<=[^\[]:)|(?=\[)")


def fold(text: str, width: int) -> list[str]:
    """Return words as lines of at most `width`; a word that is longer is broken behind a sign that joins its parts."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
            continue
        pieces = JOINTS.split(word) if len(word) > width else [word]
        lines.append("")
        for piece in (part[i : i + width] for part in pieces for i in range(0, len(part), width)):
            if len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece
    return lines


def folded_call(call: str, width: int) -> list[str]:
    """Return a call as lines that a shell takes as one, each but the last with a backslash; words stay whole."""
    lines = [""]
    for word in call.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) + 2 > width and len(" ".join(lines)) + len(word) >= width:
            lines[-1] += " \\"
            lines.append("  " + word)
        else:
            lines[-1] = f"{lines[-1]} {word}".lstrip() if len(lines) == 1 else f"{lines[-1]} {word}"
    return lines


class HelpText(click.HelpFormatter):
    """click's formatter without its floor of 50 columns, and without cuts in the middle of a word."""

    def __init__(self) -> None:
        columns = min(shutil.get_terminal_size().columns, WIDEST)
        super().__init__(width=max(columns - 2, NARROWEST))

    def _put(self, text: str, *, first: int, then: int) -> None:
        """Write text with an indent for the first line, which is written already, and one for the others."""
        lines = fold(text, self.width - max(first, then))
        self.write((("\n" + " " * then).join(lines)) + "\n")

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write how a command is called."""
        said = f"{prefix if prefix is not None else 'Usage: '}{prog} "
        beside = len(said) + 20 <= self.width
        self.write(said.rstrip() + (" " if beside and args else "\n" if args else ""))
        indent = len(said) if beside else 4
        if args and not beside:
            self.write(" " * indent)
        self._put(args, first=indent, then=indent)

    def write_text(self, text: str) -> None:
        """Write paragraphs; one that begins with a line of backspace is calls, each on a line of its own."""
        indent = self.current_indent
        for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip("\n"))):
            self.write("\n" if number else "")
            lines = paragraph.split("\n")
            if lines[0].strip() != "\b":
                self.write(" " * indent)
                self._put(paragraph, first=indent, then=indent)
                continue
            for line in lines[1:]:
                own = indent + len(line) - len(line.lstrip())
                for part in folded_call(line.strip(), self.width - own):
                    self.write(f"{' ' * own}{part}\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names and what is said of each beside it, or below it where there is too little room."""
        rows, indent = list(rows), self.current_indent
        column = min(max(len(first) for first, _ in rows), col_max) + col_spacing
        if self.width - indent - column < LEAST_TEXT:
            column = 4
        for first, second in rows:
            self.write(" " * indent)
            names = fold(first, self.width - indent - 4)
            self.write(("\n" + " " * (indent + 4)).join(names))
            if not second:
                self.write("\n")
                continue
            room = column - len(first) if len(names) == 1 else 0
            self.write(" " * room if room >= col_spacing else "\n" + " " * (indent + column))
            self._put(second, first=indent + column, then=indent + column)


class HelpContext(click.Context):
    """A context whose help is a `HelpText`."""

    def make_formatter(self) -> click.HelpFormatter:
        """Return what help and usage are written with."""
        return HelpText()
