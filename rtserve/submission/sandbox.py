"""Running a stranger's code so that nothing it does reaches this machine.

Three kinds, best first: **bubblewrap** (own namespaces, only what Python needs is visible, an unprivileged user, no
network), **unshare** (the same by hand from util-linux), and **plain** (a process with limits and Python-level
refusals, for machines without namespaces; the report then carries a warning). All bound memory, file size, wall time,
output and the number of processes, and end with every process that was started gone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rtserve.submission.sandbox_kinds import Limits, Plan, clean_environment, command_of
from rtserve.threads import require_wanted

__all__ = ["KINDS", "Limits", "Outcome", "Plan", "best_kind", "run"]

KINDS = ("bubblewrap", "unshare", "plain")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    returncode : int
        Negative for a signal.
    stopped : str
        Why it was ended early, or empty.
    events : bytes
        What came over the pipe.
    text : str
        The last of its stdout and stderr.
    seconds, peak_bytes, peak_processes : float, int, int
        What it used.
    left_over : int
        Processes still alive when its first one had ended.
    """

    kind: str
    returncode: int
    stopped: str
    events: bytes
    text: str
    seconds: float
    peak_bytes: int
    peak_processes: int
    left_over: int


def best_kind() -> str:
    """Return the strongest kind that works on this machine."""
    return next((kind for kind in KINDS[:2] if _works(kind)), "plain")


@functools.cache
def _works(kind: str) -> bool:
    """Whether a trivial run succeeds: installed is not enough, a kernel may refuse namespaces."""
    if shutil.which("bwrap" if kind == "bubblewrap" else "unshare") is None:
        return False
    plan = Plan(python=Path(sys.executable), code="print('in')", mounts={}, cwd="/tmp")
    with tempfile.TemporaryDirectory(prefix="rtserve-") as work:
        command, quiet = command_of(plan, kind, Path(work)), subprocess.DEVNULL
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=quiet, env=clean_environment(), start_new_session=True
            )
        except OSError:
            return False
        with process:
            try:
                printed = process.communicate(timeout=20)[0]
            except subprocess.TimeoutExpired:
                return False
            finally:
                _end_group(process.pid)
    return process.returncode == 0 and b"in" in printed


def _end_group(pid: int) -> None:
    """End a process and what it started: bubblewrap's second half waits for ever for a first one that was killed."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def run(
    plan: Plan,
    *,
    stdin: bytes,
    kind: str | None = None,
    env: Mapping[str, str] | None = None,
    seen: Callable[[bytearray], None] | None = None,
) -> Outcome:
    """Run a plan to its end or to its first broken limit.

    Parameters
    ----------
    plan : Plan
        What to run. ``{fd}`` in `stdin` is replaced by the number of the event pipe.
    stdin : bytes
        Given to the process.
    kind : str, optional
        One of `KINDS`; `best_kind` by default.
    env : mapping, optional
        Further environment variables.
    seen : callable, optional
        Called again and again with what has come over the pipe so far.
    """
    kind = kind or best_kind()
    with tempfile.TemporaryDirectory(prefix="rtserve-") as work:
        read_fd, write_fd = os.pipe()
        os.set_inheritable(write_fd, True)
        command = command_of(plan, kind, Path(work))
        extra = dict(env or {}) | (
            {"HOME": plan.cwd, "TMPDIR": str(plan.mounts.get("tmp", work))} if kind == "plain" else {}
        )
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(extra),
            cwd=plan.cwd if kind == "plain" else None,
            pass_fds=(write_fd,),
            start_new_session=True,
        )
        os.close(write_fd)
        told = stdin.replace(b"{fd}", str(write_fd).encode())
        return _Guard(process, plan.limits, kind, seen).watch(read_fd, told)


class _Guard:
    """Feeds and reads one process, and ends it with everything it started when a limit is broken."""

    def __init__(
        self, process: subprocess.Popen[bytes], limits: Limits, kind: str, seen: Callable[[bytearray], None] | None
    ) -> None:
        self.process, self.limits, self.kind, self.tell_seen = process, limits, kind, seen
        self.stopped = ""
        self.printed = 0
        self.events = bytearray()
        self.tail = bytearray()
        self.peak_bytes = self.peak_processes = 0
        self.seen: dict[int, str] = {}

    def watch(self, read_fd: int, stdin: bytes) -> Outcome:
        start = time.perf_counter()
        events = open(read_fd, "rb", buffering=0)  # noqa: SIM115 - closed when its thread has read it out
        assert self.process.stdout is not None
        threads = [
            threading.Thread(target=self._read_events, args=(events,), daemon=True),
            threading.Thread(target=self._read_text, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._feed, args=(stdin,), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            while self.process.poll() is None and not self.stopped:
                require_wanted()
                self._measure(time.perf_counter() - start)
                if self.tell_seen:
                    self.tell_seen(self.events)
                time.sleep(0.02)
        finally:
            left_over = self._end()
            for thread in threads:
                thread.join(timeout=5)
            for source in (events, self.process.stdout, self.process.stdin):
                if source is not None:
                    with contextlib.suppress(OSError):
                        source.close()
        return Outcome(
            kind=self.kind,
            returncode=self.process.returncode if self.process.returncode is not None else -9,
            stopped=self.stopped,
            events=bytes(self.events),
            text=self.tail.decode("utf-8", "replace"),
            seconds=time.perf_counter() - start,
            peak_bytes=self.peak_bytes,
            peak_processes=self.peak_processes,
            left_over=left_over,
        )

    def _feed(self, data: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.close()
        except OSError:  # it ended before it read
            return

    def _read_events(self, source: IO[bytes]) -> None:
        while block := source.read(65536):
            self.events += block
            if len(self.events) > self.limits.output_bytes:
                self.stopped = self.stopped or "it sent more events than the limit"
                return

    def _read_text(self, source: IO[bytes]) -> None:
        while block := source.read1(65536):  # type: ignore[attr-defined]
            self.printed += len(block)
            self.tail = (self.tail + block)[-20000:]
            if self.printed > self.limits.output_bytes:
                self.stopped = self.stopped or f"it printed more than {self.limits.output_bytes // 2**20} MB"

    def _measure(self, seconds: float) -> None:
        tree = descendants(self.process.pid)
        self.seen.update(tree)
        self.peak_processes = max(self.peak_processes, len(tree))
        resident = sum(resident_bytes(pid) for pid in tree)
        self.peak_bytes = max(self.peak_bytes, resident)
        if seconds > self.limits.wall_s:
            self.stopped = self.stopped or f"it ran longer than {self.limits.wall_s:g} s"
        elif len(tree) > self.limits.processes:
            self.stopped = self.stopped or f"it started more than {self.limits.processes} processes"
        elif resident > self.limits.memory_bytes:
            self.stopped = self.stopped or f"it used more than {self.limits.memory_bytes / 2**30:.1f} GB of memory"

    def _end(self) -> int:
        """End all that is left; return how many of the run's own processes had outlived its first one."""
        left = {
            pid: birth
            for pid, birth in self.seen.items()
            if _birth(pid) == birth and pid != self.process.pid and _name(pid) not in ("bwrap", "unshare", "sh")
        }
        ended = self.process.poll() is not None
        for pid in [self.process.pid, *left]:
            for send in (os.killpg, os.kill):
                try:
                    send(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.stopped = self.stopped or "it could not be ended"
        return len(left) if ended else 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""


def _birth(pid: int) -> str:
    """Return what tells a process from a later one with the same number, or an empty text when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def descendants(pid: int) -> dict[int, str]:
    """Return `pid` and all processes below it, with the start time that identifies each (Linux)."""
    found: dict[int, str] = {}
    queue = [pid]
    while queue and len(found) < 5000:
        current = queue.pop()
        birth = _birth(current)
        if not birth or current in found:
            continue
        found[current] = birth
        try:
            threads = os.listdir(f"/proc/{current}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                queue += [
                    int(child) for child in Path(f"/proc/{current}/task/{thread}/children").read_text("utf-8").split()
                ]
            except (OSError, ValueError):
                continue
    return found


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes, 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
