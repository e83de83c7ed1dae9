"""Zips: written so that the same files give the same bytes, and read without trusting a name in them."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from repro_zipfile import ReproducibleZipFile

from rtserve.errors import InputError
from rtserve.files import readable_file

__all__ = ["read_members", "read_zip", "unpack", "zip_bytes"]

DATE = (1980, 1, 1, 0, 0, 0)
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)
MAX_BYTES = 8 << 30
"""Unpacked size above which a zip is not read."""


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of `files`: names sorted, one date, nothing compressed (weights do not shrink, zlibs differ)."""
    buffer = io.BytesIO()
    with ReproducibleZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=DATE)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def read_zip(path: str | Path) -> dict[str, bytes]:
    """Return the files of a zip by name.

    Raises
    ------
    InputError
        Where it is no zip, is damaged, or holds a name that leads out of its folder, a link, or twice the same name.
    """
    files, damaged = read_members(path)
    for name, reason in damaged.items():
        raise InputError(f"{name} in {path} is damaged: {reason}", hint="build it again with `rtserve build`")
    return files


def read_members(path: str | Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the files of a zip by name, and of those that cannot be read the reason. Raises as `read_zip`."""
    path = readable_file(path, "zip")
    files: dict[str, bytes] = {}
    damaged: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:  # noqa: TID251
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _require_safe(entries, path)
            for entry in entries:
                try:
                    files[entry.filename] = archive.read(entry)
                except _UNREADABLE as error:
                    damaged[entry.filename] = str(error)
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(
            f"{path} is no zip or is damaged: {error}", hint="build it again with `rtserve build`"
        ) from None
    return files, damaged


def _require_safe(entries: list[zipfile.ZipInfo], path: Path) -> None:
    hint = "do not unpack it"
    seen: set[str] = set()
    for entry in entries:
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
            raise InputError(f"{path} holds {entry.filename!r}, which leads out of its folder", hint=hint)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InputError(f"{path} holds the link {entry.filename!r}", hint=hint)
        if entry.filename in seen:
            raise InputError(f"{path} holds {entry.filename!r} twice", hint=hint)
        seen.add(entry.filename)
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise InputError(f"{path} unpacks to more than {MAX_BYTES >> 30} GiB", hint=hint)


def unpack(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of a zip into a folder."""
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
