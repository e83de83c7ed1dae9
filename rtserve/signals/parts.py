"""The folder of parts beside an output: whose it is, what may be used again, what of it is removed.

A part is used again only where the settings, this version and every file it was made from are the same, and it is whole;
one run at a time has the folder; and nothing is removed from it but what was written here.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rtserve
from rtserve.errors import InputError, RtserveError
from rtserve.files import write_bytes
from rtserve.signals.sidecars import find_sidecars

__all__ = ["claimed", "clear", "facts_of", "settle", "sources_of"]

RECORD, LOCK, FAILED = "settings.json", ".rtserve-lock", ".rtserve-failed"


@contextlib.contextmanager
def claimed(folder: Path, settings: Any, *, resume: bool, force: bool) -> Iterator[None]:
    """Have the folder of parts: empty, or that of the same settings where the caller wants to resume.

    Raises
    ------
    InputError
        Where something else has its name, another run has it, or it holds parts of a run that is not to be gone on with;
        those of a run with other settings that ended with an error of its own are replaced.
    """
    text = json.dumps({"rtserve": rtserve.__version__, "settings": settings}, sort_keys=True)
    if folder.is_symlink() or folder.exists():
        _require_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "wb") as lock:
        _require_alone(lock.fileno(), folder)
        _begin(folder, text, resume=resume, force=force)
        try:
            yield
        except RtserveError:  # said what is wrong: the command comes again, and perhaps another one
            if folder.is_dir():
                (folder / FAILED).touch()
            raise


def _require_alone(handle: int, folder: Path) -> None:
    """Raise `InputError` where another process has the folder; the system lets go of a lock when a process ends."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"another run is writing {folder.name.removesuffix('.parts')}: it has {folder}",
            hint="wait for it, or choose another output",
        ) from None
    except OSError:  # a file system without locks
        return


def _begin(folder: Path, text: str, *, resume: bool, force: bool) -> None:
    record = folder / RECORD
    if any(path != record for path in folder.glob("*.json")):
        same = record.read_text("utf-8") == text
        failed = (folder / FAILED).exists()
        if resume and same:
            (folder / FAILED).unlink(missing_ok=True)
            return
        if resume or not (force or (failed and not same)):
            run = "a run that failed" if failed else "an interrupted run"
            raise InputError(
                f"{folder} holds the parts of {run}" + ("" if same else " with other settings"),
                hint="pass --resume to go on with them"
                if same and not resume
                else "remove that folder, or pass --force",
            )
    clear(folder)
    write_bytes(record, text.encode(), force=True)


def facts_of(about: Path, part: Path) -> dict[str, Any] | None:
    """Return what is said of a part, None where it is not whole: a power cut leaves half a file under its name."""
    try:
        facts: dict[str, Any] = json.loads(about.read_text("utf-8"))
        return facts if facts["bytes"] == part.stat().st_size else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def settle(handle: Any) -> None:
    """Have what was written to a file on the disk before anything says that it is there."""
    handle.flush()
    os.fsync(handle.fileno())


def _require_ours(folder: Path) -> None:
    """Raise `InputError` where a file, a link or a folder of the user's has the name of the folder of parts."""
    theirs = folder.is_symlink() or not folder.is_dir()
    if not theirs:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".rtserve-")]
        theirs = bool(names) and RECORD not in names
    if theirs:
        raise InputError(
            f"{folder} is in the way: parts of the output are kept under that name until it is whole",
            hint="rename it, or choose another output",
        )


def clear(folder: Path) -> None:
    """Remove what was written into the folder of parts, and the folder where nothing else is in it."""
    for path in folder.glob("*") if folder.is_dir() else ():
        if path.suffix in (".npz", ".json") or path.name.startswith(".rtserve-"):
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def sources_of(path: Path) -> dict[str, list[int]]:
    """Return size and time of change in ns of every file that a recording is read from, by name."""
    beside = find_sidecars(path)
    files = {file for file in (beside.events, beside.channels) if file is not None}
    files |= set(path.rglob("*")) if path.is_dir() else set(_of_one_name(path))
    return {str(file): _stamp(file) for file in sorted(files) if file.is_file()}


def _of_one_name(path: Path) -> Iterator[Path]:
    """Yield a recording and the files that go with it: .vhdr with .eeg and .vmrk, .set with .fdt, a .fif's later parts."""
    stem = path.name.partition(".")[0]
    for file in path.parent.iterdir():
        own = file.name.partition(".")[0]
        if own == stem or (own.startswith(stem) and file.name.lower().endswith((".fif", ".fif.gz"))):
            yield file
    yield path


def _stamp(file: Path) -> list[int]:
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]
