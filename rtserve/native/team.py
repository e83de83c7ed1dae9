"""Threads that compute one window together, for one caller at a time."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from rtserve.errors import InputError

__all__ = ["Team", "require_shared"]


def require_shared(library: Any) -> None:
    """Raise `InputError` where a library has no code for several threads."""
    if not hasattr(library, "rtserve_pool_open"):
        raise InputError("the code was built for one thread", hint="rtserve compile F.onnx -o F.so --threaded --force")


class Team:
    """Helpers of this process, ended with this object.

    Parameters
    ----------
    library : ctypes.CDLL
        The code.
    level, threads : int
        The instruction set; how many threads, the caller's own among them.
    packed : ndarray
        Weights, as the level wants them.
    room : callable
        Gives so many floats that begin at a cache line.
    """

    def __init__(
        self, library: Any, level: int, threads: int, packed: np.ndarray, room: Callable[[int], np.ndarray]
    ) -> None:
        self._memory = room(-(-library.rtserve_pool_bytes(level, threads) // 4))
        self._handle = library.rtserve_pool_open(level, threads, packed.ctypes.data, self._memory.ctypes.data)
        self._run, self._turn, self._process = library.rtserve_pool_run, threading.Lock(), os.getpid()
        weakref.finalize(self, _end, library, self._handle, self._process, (self._memory, packed))

    @property
    def here(self) -> bool:
        """Whether its threads are this process's: they do not come along into a fork."""
        return self._process == os.getpid()

    def run(self, x: np.ndarray, y: np.ndarray) -> bool:
        """Compute answers into `y`; False, with nothing done, where another caller is at it."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            self._run(self._handle, x.ctypes.data, y.ctypes.data, len(x))
        finally:
            self._turn.release()
        return True


def _end(library: Any, handle: int, process: int, held: tuple[np.ndarray, ...]) -> None:
    """End the threads of a team; what they read is `held` until then."""
    if process == os.getpid():
        library.rtserve_pool_close(handle)
