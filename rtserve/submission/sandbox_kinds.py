"""The command lines that isolate a run: bubblewrap, unshare by hand, or none.

All show the same view: the system's libraries, the interpreter with its packages, the submission read-only where the
scorer mounts it, private empty folders, no network, and a user without any capability.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Limits", "Plan", "clean_environment", "command_of"]

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


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment variables that a run sees."""
    keep = {
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "USER": "scorer",
        "LOGNAME": "scorer",
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


def command_of(plan: Plan, kind: str, work: Path) -> list[str]:
    """Return the command that runs `plan` in the given kind of isolation; `work` is scratch space outside."""
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
    command += ["--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/tmp"]
    for folder in _visible_cached(plan.python):  # after /tmp: an environment may lie under it
        command += ["--ro-bind", folder, folder]
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
    for device in ("null", "zero", "full", "random", "urandom"):
        steps += ["dev", f"/dev/{device}", f"/dev/{device}"]
    steps += ["tmp", "-", "/tmp"]
    for folder in _visible_cached(plan.python):  # after /tmp: an environment may lie under it
        steps += ["bind", folder, folder]
    for folder in plan.folders:
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
