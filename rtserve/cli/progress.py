"""Progress with a forecast: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rtserve.cli.output import is_quiet, moves, tell

__all__ = ["progress"]

_EVERY_S = 10.0


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Give a callback ``(done, total)`` that shows how far `label` is and when it will be done, on stderr.

    Parameters
    ----------
    label : str
        What is going on.
    quiet : bool
        Show nothing.
    """
    if quiet or is_quiet():
        yield lambda done, total: None
    elif moves(sys.stderr):
        with _bar(label) as callback:
            yield callback
    else:
        yield _plain(label)


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain(label: str) -> Callable[[int, int], None]:
    start = last = time.perf_counter()

    def say(done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if done and now - last >= _EVERY_S and done < total:
            last = now
            tell(f"{label}: {done} of {total}, about {(now - start) * (total - done) / done:.0f} s left")

    return say
