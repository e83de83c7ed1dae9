"""Work side by side in threads that end with who waits for them: Ctrl-C and SIGTERM reach the main thread alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Unwanted", "require_wanted", "side_by_side"]

Result = TypeVar("Result")
_HERE = threading.local()


class Unwanted(BaseException):
    """Whoever waited for this thread has gone."""


def side_by_side(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Make every call in a thread of its own and return what they return, in order.

    Where one fails, or the caller is interrupted, the others are told to end: see `require_wanted`.
    """
    unwanted = threading.Event()

    def made(call: Callable[[], Result]) -> Result:
        _HERE.unwanted = unwanted
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        try:
            jobs = [pool.submit(made, call) for call in calls]
            return [job.result() for job in jobs]
        except BaseException:
            unwanted.set()
            raise


def require_wanted() -> None:
    """Raise `Unwanted` in a thread whose result nobody waits for any more: for long work, and for who waits for a child."""
    unwanted = getattr(_HERE, "unwanted", None)
    if unwanted is not None and unwanted.is_set():
        raise Unwanted
