"""Writing files so that a failure never costs data, and naming them by digest.

Everything is written under a temporary name in the target folder and renamed when whole: an interrupted run leaves
the old file or none, never half of a new one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.nearest import file_meant

__all__ = [
    "canonical_json",
    "check_writable",
    "file_names",
    "is_full",
    "read_json",
    "readable_file",
    "replacing",
    "sha256_bytes",
    "sha256_file",
    "write_bytes",
]

LARGEST_JSON = 128 << 20
"""Bytes of a JSON file that is read; raw predictions of a million windows are 50 MB."""


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits, read in blocks."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def file_names(paths: Sequence[str | Path]) -> list[str]:
    """Return what each file is called among the others: its name, with as many folders as tell it from one alike.

    A file that is given twice has one name.
    """
    parts = [Path(path).parts for path in paths]
    full = [Path(os.path.abspath(path)).parts for path in paths]
    names = []
    for mine, own in zip(full, parts, strict=True):
        others = {other for other in full if other != mine and other[-1:] == mine[-1:]}
        depth = next((d for d in range(1, len(mine) + 1) if all(o[-d:] != mine[-d:] for o in others)), len(mine))
        names.append("/".join(own[-depth:]) if depth <= len(own) else str(Path(*mine)))
    return names


def as_path(value: Any, what: str) -> Path:
    """Return a path; raise `InputError` where something else is given for that of a `what`."""
    try:
        return Path(value)
    except TypeError:
        raise InputError(f"a {type(value).__name__} is no path of a {what}", hint="name the file") from None


def readable_file(path: str | Path, what: str) -> Path:
    """Return `path` if it is a file that can be read.

    Raises
    ------
    InputError
        Where it is missing, a folder, or not readable.
    """
    path = as_path(path, what)
    if not path.exists():
        raise InputError(
            f"{what} {path} does not exist",
            hint=file_meant(path, "check the path; it is relative to the current folder"),
        )
    if path.is_dir():
        raise InputError(f"{what} {path} is a folder, not a file", hint="name the file itself")
    if not path.is_file():
        raise InputError(f"{what} {path} is a pipe or a device, not a file", hint="name the file itself")
    if not os.access(path, os.R_OK):
        raise InputError(f"{what} {path} cannot be read", hint="check its permissions")
    return path


def read_json(path: str | Path, what: str, *, hint: str) -> Any:
    """Return what a JSON file holds, in UTF-8 with or without a mark.

    Raises
    ------
    InputError
        Where it cannot be read, is larger than `LARGEST_JSON`, or is no JSON.
    """
    path = readable_file(path, what)
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise InputError(f"{what} {path} has {size:,} bytes, at most {LARGEST_JSON:,} are read", hint=hint)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({' '.join(str(error).split())})", hint=hint) from None


def check_writable(path: str | Path, *, force: bool = False) -> Path:
    """Return `path` if a file may be written there; the cheap test before the long work.

    Raises
    ------
    InputError
        Where it exists and `force` is not set, is a folder or a device, or where nothing can be written there.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"output {path} is a folder", hint="name a file")
        if path.exists() and not path.is_file():
            raise InputError(f"output {path} is a device, not a file", hint="name a file")
        if path.exists() and not force:
            raise InputError(f"output {path} exists already", hint="choose another name, or pass --force to replace it")
        # A missing folder is made when there is something to put in it, so that a failure leaves no empty one.
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(
            f"output {path} cannot be written: {error.strerror}", hint="choose a folder you may write to"
        ) from None
    return path


@contextlib.contextmanager
def replacing(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it onto `path` when the block ends well, remove it otherwise.

    Raises
    ------
    InputError
        As `check_writable`.
    """
    path = check_writable(path, force=force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".rtserve-", suffix=path.suffix)
    except OSError as error:
        raise InputError(
            f"output {path} cannot be written: {error.strerror}", hint="choose a folder you may write to"
        ) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        if not is_full(error):
            raise
        raise InputError(
            f"{path} could not be written: no space is left, or the file would be larger than is allowed",
            hint="free some space or write elsewhere; what was there before is as it was",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """Whether the system refused to write more; HDF5 says so in its text alone."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return error.errno in codes or any(f"errno = {code}," in str(error) for code in codes)


def write_bytes(path: str | Path, data: bytes, *, force: bool = False) -> Path:
    """Write `data` to `path` whole or not at all; see `replacing`."""
    with replacing(path, force=force) as temporary:
        temporary.write_bytes(data)
    return Path(path)
