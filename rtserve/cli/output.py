"""How every command speaks: JSON on stdout for machines, talk on stderr, tables for people."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import click

__all__ = [
    "conclude",
    "document_alone",
    "emit_json",
    "fitted",
    "hush",
    "is_quiet",
    "json_option",
    "moves",
    "printable",
    "resumable",
    "show",
    "tell",
    "warn",
    "width_of",
    "working",
]

EVERY_S = 15.0
"""Seconds between two lines about one long piece of work."""

CLOCK = 10
"""Columns of a clock and of what turns beside it, whatever is cut."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout (talk goes to stderr).")


def emit_json(kind: str, payload: dict[str, Any], *, version: int = 1) -> None:
    """Print one JSON document on stdout with its schema, e.g. ``{"schema": "rtserve.bench/1", ...}``."""
    document = {"schema": f"rtserve.{kind}/{version}"} | payload
    text = json.dumps(document, indent=2, ensure_ascii=False)
    stdout = _DOCUMENT[-1] if _DOCUMENT else sys.stdout
    try:
        text.encode(stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # another locale, or a file's name that is no text: JSON has its own escapes
        text = json.dumps(document, indent=2)
    click.echo(text, file=stdout)


_DOCUMENT: list[TextIO] = []
"""Where a document goes while everything else that is printed goes to stderr."""


@contextlib.contextmanager
def document_alone() -> Iterator[None]:
    """Keep stdout for one document: what any library prints meanwhile goes to stderr."""
    _DOCUMENT.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _DOCUMENT.pop()


@contextlib.contextmanager
def working(label: str, *, limit_s: float | None = None, quiet: bool = False) -> Iterator[None]:
    """Show on stderr that something long is going on: a clock on a terminal, a line now and then elsewhere.

    Parameters
    ----------
    label : str
        What is going on.
    limit_s : float, optional
        Seconds after which it is stopped: the only forecast there is for work that cannot be counted.
    quiet : bool
        Show nothing.
    """
    limit = f" (at most {limit_s:g} s)" if limit_s else ""
    if quiet or is_quiet():
        yield
        return
    if moves(sys.stderr):
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        room = (width_of(sys.stderr) or 80) - CLOCK - len(limit)
        words = Column(no_wrap=True, overflow="ellipsis", max_width=max(1, room))
        columns = (
            SpinnerColumn("line"),
            TextColumn("{task.description}", markup=False, table_column=words),
            *((TextColumn(limit.strip(), markup=False),) if limit else ()),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            bar.add_task(printable(label), total=None)
            yield
        return
    done = threading.Event()
    talker = threading.Thread(target=_talk, args=(label, limit, done), daemon=True)
    talker.start()
    try:
        yield
    finally:
        done.set()
        talker.join()


def _talk(label: str, limit: str, done: threading.Event) -> None:
    seconds = 0.0
    while not done.wait(EVERY_S):
        seconds += EVERY_S
        tell(f"{printable(label)}: {seconds:g} s so far{limit}")


@contextlib.contextmanager
def resumable(kept: Path) -> Iterator[None]:
    """Say where an interrupted run left what it has done, and how it is gone on with."""
    try:
        yield
    except (KeyboardInterrupt, click.exceptions.Abort):
        if kept.exists():
            warn(f"what is done is kept in {kept}: the same command with --resume goes on from there")
        raise


_SAID = {"quiet": False}


def hush(quiet: bool) -> None:
    """Leave out talk from here on, or say it again: `--quiet` of one call of the command line."""
    _SAID["quiet"] = quiet


def is_quiet() -> bool:
    """Whether talk is left out."""
    return _SAID["quiet"]


def moves(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which lines may be drawn again, which takes escape codes."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown") and not os.environ.get("NO_COLOR")


def width_of(stream: TextIO) -> int | None:
    """Return how many columns a stream shows, COLUMNS before the terminal's own; None for a pipe or a file."""
    if not stream.isatty():
        return None
    columns = 0 if os.environ.get("COLUMNS", "").isdigit() else _own_columns(stream)
    return columns or shutil.get_terminal_size().columns


def _own_columns(stream: TextIO) -> int:
    """Return the columns of the terminal behind a stream (the other stream may be a pipe); 0 where it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0


def printable(text: str) -> str:
    """Return text that a terminal shows as it is: a file may be called as anything."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def fitted(text: str, stream: TextIO) -> str:
    """Return text for a stream: on a terminal lines break between words and go on with an indent, elsewhere they do not."""
    width = width_of(stream)
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in _broken(line, width))


def _broken(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    own = min(len(line) - len(line.lstrip()), width // 4)
    return textwrap.wrap(
        line, width, subsequent_indent=" " * (own + 4), break_long_words=False, break_on_hyphens=False
    ) or [line]  # fmt: skip


def tell(message: str, *, quiet: bool = False) -> None:
    """Say something to the person at the terminal (stderr), unless `quiet` or `--quiet`."""
    if not quiet and not is_quiet():
        warn(message)


def warn(message: str) -> None:
    """Say on stderr what has to be known, with `--quiet` too."""
    click.echo(fitted(message, sys.stderr), err=True)


def show(text: str) -> None:
    """Print a result on stdout."""
    click.echo(fitted(text, sys.stdout))


def conclude(text: str, *, as_json: bool = False) -> None:
    """Say on stderr what came out, for commands whose stdout is for machines; with `--quiet`, unless JSON says it."""
    if not (as_json and is_quiet()):
        warn(text)
