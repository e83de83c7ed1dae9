"""A lock file held while timing, so that two runs on one machine do not disturb each other's numbers."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held(path: str | None) -> Iterator[None]:
    """Hold an exclusive lock on the file at `path` (made where it is missing); nothing where `path` is None."""
    if path is None:
        yield
        return
    with open(path, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)
