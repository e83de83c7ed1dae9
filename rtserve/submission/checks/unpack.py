"""Opening a stranger's zip: its members, what is wrong with them, and a folder with its files.

Nothing is written outside the folder, no link is ever made, and what unpacks to absurd sizes is left packed.
"""

from __future__ import annotations

import contextlib
import errno
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["NO_ROOM", "Member", "Unpacked", "unpack"]

BOMB_RATIO = 100
BOMB_BYTES = 256 * 2**20
TOTAL_BYTES = 40 * 10**9
MEMBERS = 200_000
NO_ROOM = "this machine has no room to unpack it"
BLOCK = 2**20


@dataclass(frozen=True, kw_only=True)
class Member:
    """One entry of a zip: its name as stored, sizes in bytes, and Unix mode (0 where none is stored)."""

    name: str
    size: int
    packed: int
    mode: int = 0
    encrypted: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.name.endswith("/")

    @property
    def unsafe(self) -> str:
        """Why it may not be unpacked, or empty."""
        parts = PurePosixPath(self.name.replace("\\", "/")).parts
        kind = stat.S_IFMT(self.mode)
        if self.name.startswith(("/", "\\")) or self.name[1:2] == ":":
            return "an absolute path"
        if ".." in parts:
            return "a path that leads out of the folder"
        if kind == stat.S_IFLNK:
            return "a symbolic link"
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            return "neither file nor folder"
        if not self.name.strip("/") or "\0" in self.name:
            return "a name that is no name"
        return ""


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """A zip and its unpacked folder.

    Parameters
    ----------
    members : tuple of Member
        As stored.
    problem : str
        Why it cannot be read as a zip or unpacked, or empty.
    bomb : str
        Why it counts as a zip bomb, or empty.
    folder : Path or None
        Where its files are; None where it was not unpacked.
    size : int
        Bytes of the archive.
    """

    members: tuple[Member, ...] = ()
    problem: str = ""
    bomb: str = ""
    folder: Path | None = None
    size: int = 0
    names: frozenset[str] = field(default_factory=frozenset)

    def files(self) -> list[str]:
        """Return the names of its files, folders left out, as they are on disk."""
        return sorted(self.names)

    def read(self, name: str, limit: int = 4 * 2**20) -> bytes:
        """Return at most `limit` bytes of a file."""
        if self.folder is None:
            return b""
        with open(self.folder / name, "rb") as handle:
            return handle.read(limit)


def unpack(path: Path, folder: Path) -> Unpacked:
    """Open `path` as a zip and unpack it into `folder` where that is safe."""
    if path.is_dir():
        return Unpacked(problem="it is a folder, not a zip")
    size = path.stat().st_size
    if size == 0:
        return Unpacked(problem="the file is empty", size=0)
    try:
        with zipfile.ZipFile(path) as archive:  # noqa: TID251 - reads what others wrote; bundle writes ours
            return _unpack(archive, folder, size)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, zlib.error, UnicodeError) as error:
        return Unpacked(problem=f"{_kind(path)} ({_line(error)})", size=size)
    except Exception as error:  # zipfile meets damaged bytes with many kinds of error
        return Unpacked(problem=f"it is damaged ({type(error).__name__}: {_line(error)})", size=size)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _kind(path: Path) -> str:
    with open(path, "rb") as handle:
        start = handle.read(8)
    for magic, name in (
        (b"\x1f\x8b", "gzip"),
        (b"7z\xbc\xaf", "7z"),
        (b"Rar!", "RAR"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ", "xz"),
    ):
        if start.startswith(magic):
            return f"it is a {name} archive, not a zip"
    return "it is a damaged or cut-off zip" if start.startswith(b"PK") else "it is not a zip"


def _unpack(archive: Any, folder: Path, size: int) -> Unpacked:
    infos = archive.infolist()
    members = tuple(
        Member(
            name=info.filename,
            size=info.file_size,
            packed=info.compress_size,
            mode=info.external_attr >> 16,
            encrypted=bool(info.flag_bits & 1),
        )
        for info in infos
    )
    base = Unpacked(members=members, size=size)
    if not any(not member.is_folder for member in members):
        return Unpacked(members=members, size=size, problem="the zip holds no file")
    bomb = _bomb(members, size)
    if bomb or any(member.unsafe for member in members):
        return Unpacked(members=members, size=size, bomb=bomb)
    locked = next((member.name for member in members if member.encrypted), "")
    if locked:
        return Unpacked(members=members, size=size, problem=f"{locked} is encrypted")
    problem, names = _extract(archive, infos, folder)
    return Unpacked(
        members=base.members, size=size, problem=problem, folder=None if problem else folder, names=frozenset(names)
    )


def _bomb(members: tuple[Member, ...], size: int) -> str:
    total, packed = sum(m.size for m in members), sum(m.packed for m in members)
    if len(members) > MEMBERS:
        return f"it holds {len(members)} members"
    if packed > size:
        return f"its members overlap: {packed} packed bytes in a file of {size}"
    if total > TOTAL_BYTES:
        return f"it unpacks to {total / 1e9:.0f} GB"
    if total > BOMB_BYTES and total > BOMB_RATIO * max(size, 1):
        return f"{size / 1e6:.2g} MB unpack to {total / 1e6:.4g} MB, {total / max(size, 1):.0f} times as much"
    return ""


def _extract(archive: Any, infos: list[Any], folder: Path) -> tuple[str, set[str]]:
    names: set[str] = set()
    for info in infos:
        target = folder / info.filename
        try:
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, open(target, "wb") as sink:
                for block in _blocks(source):
                    sink.write(block)
        except Exception as error:  # a damaged member shows itself in many ways
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                return NO_ROOM, names
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True)
            return f"{info.filename} cannot be unpacked ({type(error).__name__}: {_line(error)})", names
        names.add(info.filename)
    return "", names


def _blocks(source: Any) -> Iterator[bytes]:
    while block := source.read(BLOCK):
        yield block
