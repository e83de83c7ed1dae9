"""What stands between a submission and this process: limits, the scorer's packages, a record of what was tried.

`limit_resources` works everywhere. `block_absent` hides packages that this machine has and the scorer has not.
`watch` records network calls, child processes and files. `fence` is for machines without namespaces: it refuses in
Python what a sandbox would refuse in the kernel, and shows the scorer's paths.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Watch", "block_absent", "fence", "limit_resources", "map_paths"]


def limit_resources(limits: dict[str, int]) -> None:
    """Bound address space, file size and core dumps of this process and all it starts."""
    import resource

    for name, key in (("RLIMIT_AS", "memory_bytes"), ("RLIMIT_FSIZE", "file_bytes")):
        if limits.get(key):
            which = getattr(resource, name)
            _, hard = resource.getrlimit(which)
            value = limits[key] if hard == resource.RLIM_INFINITY else min(limits[key], hard)
            resource.setrlimit(which, (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _importer(folder: str) -> str:
    """Return the file that asks for an import, where it is one of the submission's, else an empty text."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not (name.startswith("<frozen importlib") or name == __file__ or name.endswith("importlib/__init__.py")):
            return name if name.startswith(os.path.join(folder, "")) else ""
        frame = frame.f_back
    return ""


class _Absent:
    """A finder that knows nothing of a module the submission asks for and the scorer does not have."""

    def __init__(self, folder: str, allowed: frozenset[str], blocked: Callable[[str], None]) -> None:
        self._folder, self._allowed, self._blocked = folder, allowed, blocked
        self._before = frozenset(sys.path)  # this interpreter's own, wherever it lies

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        top = name.partition(".")[0]
        if path is not None or top in self._allowed or not _importer(self._folder) or self._in_zip(top):
            return None
        self._blocked(top)
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def _in_zip(self, top: str) -> bool:
        folders = [entry for entry in sys.path if os.path.abspath(entry).startswith(self._folder)]
        unpacked = [entry for entry in sys.path if entry not in self._before]
        folders += [entry for entry in unpacked if entry.startswith(("/tmp", os.environ.get("TMPDIR", "/tmp")))]
        return any(
            os.path.exists(os.path.join(entry, top + ending))
            for entry in folders
            for ending in ("", ".py", ".so", ".zip")
        ) or any(entry.endswith((".zip", ".whl", ".egg")) for entry in folders)


def block_absent(folder: str, allowed: Sequence[str], blocked: Callable[[str], None]) -> None:
    """Hide from the submission every package but the standard library's, `allowed`, and its own.

    Parameters
    ----------
    folder : str
        The submission's folder; only imports made by its files are judged.
    allowed : sequence of str
        Top-level modules the scorer has.
    blocked : callable
        Told of each top-level module that was hidden.
    """
    names = frozenset(sys.stdlib_module_names) | frozenset(allowed) | frozenset(sys.builtin_module_names)
    sys.meta_path.insert(0, _Absent(folder, names, blocked))


class Watch:
    """Records what a submission tries: network calls, processes, files opened and not found.

    Parameters
    ----------
    folder : str
        The submission's folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._library = (sys.prefix, sys.base_prefix, "/usr", "/proc", "/sys", "/dev", "/etc")
        self.network: list[str] = []
        self.processes: list[str] = []
        self.opened: list[dict[str, Any]] = []
        self.active = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.active:
            return
        try:
            self._record(event, args)
        except (TypeError, ValueError, OSError):  # arguments of an odd kind are no business of ours
            return

    def _record(self, event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname") and len(self.network) < 20:
            self.network.append(f"{event} {args[1] if event == 'socket.connect' else args[0]}")
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn") and len(self.processes) < 20:
            if self._by_library():
                return
            self.processes.append(f"{event} {args[:2]}"[:300])
        elif event == "open" and isinstance(args[0], (str, bytes)) and len(self.opened) < 400:
            self._record_file(os.fsdecode(args[0]), args[1])

    def _by_library(self) -> bool:
        """Whether an installed package, not the submission, started it (many ask for the processor's name)."""
        frame: Any = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(os.path.join(self._folder, "")) or "site-packages" in name:
                return "site-packages" in name
            frame = frame.f_back
        return False

    def _record_file(self, name: str, mode: Any) -> None:
        path = os.path.abspath(name)
        if name.endswith((".py", ".pyc", ".so", ".pth")) and not path.startswith(self._folder):
            return
        if path.startswith(self._library) and not path.startswith(self._folder):
            return
        self.opened.append({"path": name[:500], "exists": os.path.exists(path), "mode": str(mode)})


def fence(root: str, report: Callable[[str], None]) -> None:
    """Refuse network, signals to others and writes outside `root`, as far as Python can (no namespaces here)."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
            report(event)
            raise PermissionError(f"no network here ({event})")
        if event in ("os.kill", "os.killpg") and args and args[0] not in (os.getpid(), 0):
            report(event)
            raise PermissionError("signals to other processes are refused here")
        if event == "open" and isinstance(args[0], (str, bytes)) and _writes(args[1], args[2]):
            path = os.path.realpath(os.fsdecode(args[0]))
            if not path.startswith((os.path.join(root, ""), "/dev/", "/proc/self/")):
                report(f"write {path}")
                raise PermissionError(f"no writing outside the sandbox: {path}")
        if event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.symlink", "os.truncate"):
            path = os.path.realpath(os.fsdecode(args[0])) if isinstance(args[0], (str, bytes)) else root
            if not path.startswith(os.path.join(root, "")) and path != root:
                report(f"{event} {path}")
                raise PermissionError(f"no writing outside the sandbox: {path}")

    sys.addaudithook(hook)


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def map_paths(mounts: dict[str, str]) -> None:
    """Show `mounts` (scorer's path to real path) to Python's file functions, where nothing can be mounted."""
    ordered = sorted(mounts.items(), key=lambda pair: -len(pair[0]))

    def mapped(path: Any) -> Any:
        if not isinstance(path, (str, os.PathLike)):
            return path
        text = os.fspath(path)
        if isinstance(text, str):
            for virtual, real in ordered:
                if text == virtual or text.startswith(virtual + "/"):
                    return real + text[len(virtual) :]
        return path

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            return function(mapped(path), *args, **kwargs)

        return inner

    for name in ("stat", "lstat", "listdir", "scandir", "open", "access", "readlink"):
        setattr(os, name, wrap(getattr(os, name)))
    builtins.open = io.open = wrap(builtins.open)
    import torch

    torch.jit.load = wrap(torch.jit.load)
