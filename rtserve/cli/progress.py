"""Progress with a forecast: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rtserve.cli.output import is_quiet, moves, printable, tell, width_of

__all__ = ["Bar", "progress"]

_EVERY_S = 10.0
WIDEST_BAR, NUMBERS, LEAST = 40, 22, 60
"""Columns of a bar, and of what stands beside it whatever is cut: how many of how many, and the time that is left; with
fewer columns than the last there is no bar, and a stage goes by its own name alone."""


class Bar(Protocol):
    """What is called as work goes on: with what is done, of how many, and, where that has a name, what goes on now."""

    def __call__(self, done: int, total: int, what: str = "", /) -> None:
        """Show it."""


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Bar]:
    """Give a callback ``(done, total[, what])`` that shows how far `label` is and when it will be done, on stderr.

    Parameters
    ----------
    label : str
        What is going on.
    quiet : bool
        Show nothing.
    """
    if quiet or is_quiet():
        yield lambda done, total, what="", /: None
    elif moves(sys.stderr):
        with _bar(label) as callback:
            yield callback
    else:
        yield _plain(label)


def _said(label: str, what: str) -> str:
    return printable(": ".join(filter(None, (label, what))))


@contextmanager
def _bar(label: str) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = width_of(sys.stderr) or 80
    narrow = columns < LEAST
    room = 0 if narrow else min(WIDEST_BAR, (columns - NUMBERS) // 5)
    words = Column(no_wrap=True, overflow="ellipsis", max_width=max(1, columns - NUMBERS - room))
    shown = (
        TextColumn("{task.description}", markup=False, table_column=words),
        *(() if narrow else (BarColumn(bar_width=room),)),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*shown, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(_said(label, ""), total=None)
        yield lambda done, total, what="", /: bar.update(
            task, completed=done, total=total, description=_said("" if narrow and what else label, what)
        )


def _plain(label: str) -> Bar:
    start = last = time.perf_counter()
    before = 0

    def say(done: int, total: int, what: str = "", /) -> None:
        nonlocal start, last, before
        now = time.perf_counter()
        if done < before:  # another kind of step is counted from here on
            start = now
        before = done
        if done and now - last >= _EVERY_S and done < total:
            last = now
            left = (now - start) * (total - done) / done
            tell(f"{_said(label, what)}: {done} of {total}, about {left:.0f} s left")

    return say
