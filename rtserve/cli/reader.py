"""What reads our output may go away before its end (`| head -1`): that is told from every other broken pipe."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["GONE", "BrokenPipe", "pipes_apart", "reader_went"]

GONE = 141
"""How a command ends whose reader went away: as a shell names SIGPIPE, and as no verdict is named."""


class BrokenPipe(Exception):  # noqa: N818 -- click takes the system's own for a failed check
    """A `BrokenPipeError` on its way through click."""


@contextmanager
def pipes_apart() -> Iterator[None]:
    """Carry a broken pipe past click, which would end with 1."""
    try:
        yield
    except BrokenPipeError as error:
        raise BrokenPipe(str(error)) from error


def reader_went() -> bool:
    """Whether nobody reads stdout or stderr any more; what is left for it goes nowhere then."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if _is_gone(stream)]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        for stream in gone:  # Python would try once more when it ends
            os.dup2(nowhere.fileno(), stream.fileno())
    return bool(gone)


def _is_gone(stream: TextIO) -> bool:
    try:
        waiting = select.poll()
        waiting.register(stream.fileno(), 0)
    except (OSError, ValueError):  # no file behind it
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in waiting.poll(0))
