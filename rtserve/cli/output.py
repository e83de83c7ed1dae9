"""How every command speaks: JSON on stdout for machines, talk on stderr, tables for people."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

__all__ = ["emit_json", "json_option", "resumable", "tell", "working"]

EVERY_S = 15.0
"""Seconds between two lines about one long piece of work."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout (talk goes to stderr).")


def emit_json(kind: str, payload: dict[str, Any], *, version: int = 1) -> None:
    """Print one JSON document on stdout with its schema, e.g. ``{"schema": "rtserve.bench/1", ...}``."""
    document = {"schema": f"rtserve.{kind}/{version}"} | payload
    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # another locale, or a file's name that is no text: JSON has its own escapes
        text = json.dumps(document, indent=2)
    click.echo(text)


@contextlib.contextmanager
def working(label: str, *, limit_s: float | None = None) -> Iterator[None]:
    """Show on stderr that something long is going on: a clock on a terminal, a line now and then elsewhere.

    Parameters
    ----------
    label : str
        What is going on.
    limit_s : float, optional
        Seconds after which it is stopped: the only forecast there is for work that cannot be counted.
    """
    limit = f" (at most {limit_s:g} s)" if limit_s else ""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn("line"), TextColumn(label + limit), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            bar.add_task(label, total=None)
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
        tell(f"{label}: {seconds:g} s so far{limit}")


@contextlib.contextmanager
def resumable(kept: Path) -> Iterator[None]:
    """Say where an interrupted run left what it has done, and how it is gone on with."""
    try:
        yield
    except (KeyboardInterrupt, click.exceptions.Abort):
        if kept.exists():
            tell(f"what is done is kept in {kept}: the same command with --resume goes on from there")
        raise


def tell(message: str, *, quiet: bool = False) -> None:
    """Say something to the person at the terminal (stderr), unless `quiet`."""
    if not quiet:
        click.echo(message, err=True)
