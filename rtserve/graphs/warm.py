"""The process of an export: one of its own, or, where several exports are to come, one forked from a warm server.

Within ``with shared_start():`` the exports of this process share what each would load first; an export costs about a
third of the processor time then. See `rtserve.graphs.export_server`. Exports that threads wait for end where what
interrupts the main thread leaves the block: a pool of such threads stands around it, since it waits for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["run_child", "shared_start"]


_SERVER = (sys.executable, "-m", "rtserve.graphs.export_server")


class _Server:
    """One server and its pipes; does one job at a time."""

    def __init__(self, also: tuple[str, ...] = ()) -> None:
        self.stopped = False
        with _deaf():
            self._process = subprocess.Popen(
                [*_SERVER, *also], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )

    def run(self, folder: Path, timeout_s: float) -> tuple[int, bool]:
        """Run the export of `folder`; return how its process ended and whether it was late, and so ended by us.

        Whatever interrupts this ends the process and the server.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"folder": str(folder.resolve()), "cwd": os.getcwd(), "environ": dict(os.environ)}
        pid, late = 0, threading.Event()
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            pid = int(self._process.stdout.readline())
            timer = threading.Timer(timeout_s, _stop, (pid, late))
            timer.start()
            try:
                code = int(self._process.stdout.readline())
            finally:
                timer.cancel()
        except BaseException:
            _kill(pid)
            self.end(kill=True)
            raise
        return code, late.is_set()

    def stop(self) -> None:
        """End what another thread waits for in `run`."""
        self.stopped = True
        self._process.kill()

    def end(self, *, kill: bool = False) -> None:
        """Let the server end, and wait until it has."""
        if kill:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()


@dataclass(kw_only=True)
class _Pool:
    """The servers that are idle or at work; as many are started as are at work at a time."""

    depth: int = 0
    also: tuple[str, ...] = ()
    idle: list[_Server] = field(default_factory=list)
    busy: list[_Server] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, folder: Path, timeout_s: float) -> int:
        """Run an export in the child of an idle server, or of a new one."""
        with self.lock:
            server = self.idle.pop() if self.idle else _Server(self.also)
            self.busy.append(server)
        try:
            code, late = server.run(folder, timeout_s)
        except (ValueError, OSError):
            if server.stopped:
                raise KeyboardInterrupt from None
            raise
        finally:
            with self.lock:
                self.busy.remove(server)
        with self.lock:
            kept = self.depth > 0
            if kept:
                self.idle.append(server)
        if not kept:
            server.end()
        if late:
            raise subprocess.TimeoutExpired("rtserve.graphs.export_child", timeout_s)
        return code

    def end(self, *, stop: bool = False) -> None:
        """End the servers that are idle, and where that is asked for those at work."""
        with self.lock:
            idle, self.idle = self.idle, []
            for server in self.busy if stop else ():
                server.stop()
        for server in idle:
            server.end()


_POOL = _Pool()


@contextlib.contextmanager
def shared_start(*also: str) -> Iterator[None]:
    """Let the exports within share one start of their child processes, where the system can fork a loaded process.

    `also` names what they need loaded besides (``package.module``, or ``package.module:function`` to be called).
    """
    if sys.platform != "linux":
        yield
        return
    with _POOL.lock:
        _POOL.depth += 1
        _POOL.also = tuple(dict.fromkeys((*_POOL.also, *also)))
    whole = False
    try:
        yield
        whole = True
    finally:
        with _POOL.lock:
            _POOL.depth -= 1
            last = not _POOL.depth
            _POOL.also = () if last else _POOL.also
        if last:
            _POOL.end(stop=not whole)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Let the process that this thread starts be deaf to Ctrl-C from its first moment; it unblocks it where it forks."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def run_child(folder: Path, timeout_s: float) -> tuple[int, str]:
    """Run the export that ``job.json`` in `folder` describes, in a process of its own.

    Returns
    -------
    tuple of (int, str)
        How the process ended, as `subprocess` counts, and what it said.

    Raises
    ------
    subprocess.TimeoutExpired
        Where it took longer than `timeout_s`; it is ended.
    """
    if _POOL.depth:
        try:
            code = _POOL.run(folder, timeout_s)
        except (ValueError, OSError):  # the server itself has died: what cannot share a start has its own
            pass
        else:
            said = folder / "said.txt"
            return code, said.read_text("locale", errors="replace") if said.exists() else ""
    command = [sys.executable, "-m", "rtserve.graphs.export_child", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)
    return done.returncode, done.stderr


def _stop(pid: int, late: threading.Event) -> None:
    """End a process because it is late."""
    late.set()
    _kill(pid)


def _kill(pid: int) -> None:
    """End a process that may have ended already."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
