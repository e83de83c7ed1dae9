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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

__all__ = ["KINDS", "Limits", "Outcome", "Plan", "best_kind", "run"]

KINDS = ("bubblewrap", "unshare", "plain")
_HIDDEN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
    "/etc/alternatives", "/etc/localtime", "/etc/ssl/openssl.cnf",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run may use.

    Parameters
    ----------
    wall_s : float
        Seconds until it is ended.
    memory_bytes, file_bytes, output_bytes : int
        Address space and resident memory, the largest file, and text on stdout and stderr together.
    processes : int
        Processes alive at one time.
    """

    wall_s: float = 300.0
    memory_bytes: int = 16 * 2**30
    file_bytes: int = 2 * 2**30
    output_bytes: int = 64 * 2**20
    processes: int = 128


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run: which Python, what it executes, what it can see.

    Parameters
    ----------
    python : Path
        Interpreter of the environment.
    code : str
        Passed to ``python -I -B -c``.
    mounts : mapping
        Path inside to folder outside; all read-only.
    folders : sequence of str
        Empty writable folders inside.
    cwd : str
        Current folder inside.
    limits : Limits
        See there.
    """

    python: Path
    code: str
    mounts: Mapping[str, Path]
    cwd: str
    folders: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)


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
        command = _command(plan, kind, Path(work))
        try:
            done = subprocess.run(command, capture_output=True, timeout=20, env=_environment(), check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0 and b"in" in done.stdout


def _environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    keep = {
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "CUDA_VISIBLE_DEVICES": "",
        "MNE_DONTWRITE_HOME": "true",
    }
    keep |= {key: os.environ[key] for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if key in os.environ}
    return keep | dict(extra or {})


def _visible(python: Path) -> list[str]:
    """Return the folders that hold an interpreter and its packages, shortest first, none inside another."""
    own = "sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable))"
    probe = f"import os, sys; print(*{{{own}}}, sep='\\n')"
    found = subprocess.run([str(python), "-I", "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    folders = {*found.stdout.split("\n"), str(python.parent.parent)} - {""}
    folders |= {os.path.realpath(folder) for folder in folders}
    kept: list[str] = []
    for folder in sorted(folders, key=len):
        if not any(folder == k or folder.startswith(k + "/") for k in (*kept, "/usr")):
            kept.append(folder)
    return kept


@functools.cache
def _visible_cached(python: Path) -> tuple[str, ...]:
    return tuple(_visible(python))


def _command(plan: Plan, kind: str, work: Path) -> list[str]:
    launch = [str(plan.python), "-I", "-B", "-c", plan.code]
    if kind == "bubblewrap":
        return [*_bubblewrap(plan), *launch]
    if kind == "unshare":
        return [*_unshare(plan, work), *launch]
    return launch


def _bubblewrap(plan: Plan) -> list[str]:
    size = str(plan.limits.file_bytes)
    command = ["bwrap", "--unshare-all", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL", "--die-with-parent"]
    command += ["--new-session", "--hostname", "scorer"]
    for path in _SYSTEM:
        if os.path.islink(path) and not path.startswith("/etc"):
            command += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            command += ["--ro-bind", path, path]
    for folder in _visible_cached(plan.python):
        command += ["--ro-bind", folder, folder]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/tmp"]
    # Run by root, the user inside is root's own number: what the kernel guards by number alone is made read-only.
    for part in ("sys", "irq", "bus", "fs"):
        command += ["--ro-bind-try", f"/proc/{part}", f"/proc/{part}"]
    if os.path.exists("/proc/sysrq-trigger"):
        command += ["--ro-bind", "/dev/null", "/proc/sysrq-trigger"]
    for folder in plan.folders:
        command += ["--size", str(min(plan.limits.file_bytes, 2**28)), "--tmpfs", folder]
    for inside, outside in plan.mounts.items():
        command += ["--ro-bind", str(outside), inside]
    return [*command, "--remount-ro", "/", "--chdir", plan.cwd, "--"]


_SETUP = r"""
set -e
root=$1; cwd=$2; size=$3; shift 3
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=16m tmpfs "$root"
while [ "$1" != "--" ]; do
  kind=$1; from=$2; to=$3; shift 3
  if [ "$kind" = link ]; then mkdir -p "$root$(dirname "$to")"; ln -s "$from" "$root$to"
  elif [ "$kind" = tmp ]; then
    mkdir -p "$root$to"; mount -t tmpfs -o "mode=1777,nosuid,nodev,size=$size" tmpfs "$root$to"
  else
    if [ -d "$from" ]; then mkdir -p "$root$to"; else mkdir -p "$root$(dirname "$to")"; : > "$root$to"; fi
    mount --bind "$from" "$root$to"
    [ "$kind" = dev ] || mount -o remount,bind,ro,nosuid,nodev "$root$to"
  fi
done
shift
mkdir -p "$root/proc" "$root/dev/shm"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
for part in sys irq bus fs; do
  mount --bind "$root/proc/$part" "$root/proc/$part" && mount -o remount,bind,ro "$root/proc/$part" || true
done
mount --bind /dev/null "$root/proc/sysrq-trigger" 2>/dev/null || true
mount -t tmpfs -o "mode=1777,nosuid,nodev,size=$size" tmpfs "$root/dev/shm"
mount -o remount,ro "$root"
set +e
"$ENTER" -I -c "$CODE" "$root" "$cwd" "$@"
exit $?
"""


def _unshare(plan: Plan, work: Path) -> list[str]:
    """The same view by hand. The last step enters the new root and gives up every capability, in that order."""
    root = work / "root"
    root.mkdir(exist_ok=True)
    enter = (
        "import os,sys,ctypes\n"
        "root,cwd=sys.argv[1:3]\n"
        "os.chroot(root); os.chdir(cwd)\n"
        "libc=ctypes.CDLL(None,use_errno=True)\n"
        "for cap in range(64):\n libc.prctl(24,cap,0,0,0)\n"
        "libc.prctl(38,1,0,0,0)\n"
        "os.execv(sys.argv[3],sys.argv[3:])\n"
    )
    steps: list[str] = []
    for path in _SYSTEM:
        if os.path.islink(path) and not path.startswith("/etc"):
            steps += ["link", os.readlink(path), path]
        elif os.path.exists(path):
            steps += ["bind", path, path]
    for folder in _visible_cached(plan.python):
        steps += ["bind", folder, folder]
    for device in ("null", "zero", "full", "random", "urandom"):
        steps += ["dev", f"/dev/{device}", f"/dev/{device}"]
    for folder in ("/tmp", *plan.folders):
        steps += ["tmp", "-", folder]
    for inside, outside in plan.mounts.items():
        steps += ["bind", str(outside), inside]
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--net",
        "--ipc",
        "--uts",
        "--pid",
        "--fork",
        "--kill-child",
    ]
    command += ["env", f"ENTER={plan.python}", f"CODE={enter}", "sh", "-c", _SETUP, "setup", str(root), plan.cwd]
    return [*command, str(plan.limits.file_bytes), *steps, "--"]


def run(plan: Plan, *, stdin: bytes, kind: str | None = None, env: Mapping[str, str] | None = None) -> Outcome:
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
    """
    kind = kind or best_kind()
    with tempfile.TemporaryDirectory(prefix="rtserve-") as work:
        read_fd, write_fd = os.pipe()
        os.set_inheritable(write_fd, True)
        command = _command(plan, kind, Path(work))
        extra = dict(env or {}) | (
            {"HOME": plan.cwd, "TMPDIR": str(plan.mounts.get("tmp", work))} if kind == "plain" else {}
        )
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(extra),
            cwd=plan.cwd if kind == "plain" else None,
            pass_fds=(write_fd,),
            start_new_session=True,
        )
        os.close(write_fd)
        return _Guard(process, plan.limits, kind).watch(read_fd, stdin.replace(b"{fd}", str(write_fd).encode()))


class _Guard:
    """Feeds and reads one process, and ends it with everything it started when a limit is broken."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits, kind: str) -> None:
        self.process, self.limits, self.kind = process, limits, kind
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
                self._measure(time.perf_counter() - start)
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
        left = {pid: birth for pid, birth in self.seen.items() if _birth(pid) == birth and pid != self.process.pid}
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


def _birth(pid: int) -> str:
    """Return what tells a process from a later one with the same number, or an empty text when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
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
                queue += [int(child) for child in Path(f"/proc/{current}/task/{thread}/children").read_text().split()]
            except (OSError, ValueError):
                continue
    return found


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes, 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def sandbox_warning(kind: str) -> dict[str, Any] | None:
    """Return what the report must say about a run that was not isolated by the kernel."""
    if kind != "plain":
        return None
    return {
        "message": "neither bubblewrap nor unshare works here: the submission ran with limits only",
        "hint": "apt-get install bubblewrap, or run the check where user namespaces are allowed",
    }
