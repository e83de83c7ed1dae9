"""Window sets as .npz: what the headers claim is checked before anything is read, and X stays in the file.

A member stored as it is (``numpy.savez``) is read by position. A compressed one (``numpy.savez_compressed``) can only
be read in order; that serves a score, and training asks for another file. Nothing is ever unpickled.
"""

from __future__ import annotations

import io
import threading
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.limits import refuse_bomb, require_small
from rtserve.signals.stored import Identity, StoredArray, blocks

__all__ = ["list_npz", "read_npz", "write_npz"]

HINT = "a window set is an .npz with X (n_windows, n_chans, n_times), y, sfreq and unit; see `rtserve inspect`"
_HEADER = 1 << 16
_MEMBERS = 4096


@dataclass(frozen=True, kw_only=True)
class _Member:
    """An array in an .npz, by its header."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    head: bytes
    info: zipfile.ZipInfo

    @property
    def nbytes(self) -> int:
        return int(np.prod([int(size) for size in self.shape], dtype=object)) * self.dtype.itemsize

    @property
    def stored(self) -> bool:
        return self.info.compress_type == zipfile.ZIP_STORED


def list_npz(path: Path) -> list[dict[str, Any]]:
    """Return key, shape and dtype of each array by its header alone; object arrays are named, never opened."""
    with _Opened(path) as archive:
        return [
            {"key": m.key, "shape": list(m.shape), "dtype": str(m.dtype)} for m in _members(archive, path, strict=False)
        ]


def read_npz(path: Path) -> dict[str, Any]:
    """Return the arrays of an .npz, X as a `StoredArray` where it is three-dimensional and of numbers.

    Raises
    ------
    InputError
        Where the file is none, is damaged, holds Python objects, or claims more than it can hold.
    """
    with _Opened(path) as archive:
        members = _members(archive, path, strict=True)
        rest = [m for m in members if m.key != "X"]
        require_small({m.key: m.nbytes for m in rest}, path)
        arrays: dict[str, Any] = {m.key: _small(archive, m, path) for m in rest}
        for member in members:
            if member.key == "X":
                arrays["X"] = _stored(archive, member, path)
    return arrays


class _Opened:
    """The archive, every fault of which is one line that names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.archive = zipfile.ZipFile(self.path)  # noqa: TID251 -- an .npz, not a submission
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise _damaged(self.path, error) from None
        return self.archive

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.archive.close()
        faults = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError)
        if isinstance(error, faults) and not isinstance(error, InputError):
            raise _damaged(self.path, error) from None


def _damaged(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path} is not a window set ({' '.join(str(error).split()) or 'damaged'})", hint=HINT)


def _members(archive: Any, path: Path, *, strict: bool) -> list[_Member]:
    infos = archive.infolist()
    other = [info.filename for info in infos if not info.filename.endswith(".npy")]
    if other or not infos or len({info.filename for info in infos}) < len(infos) or len(infos) > _MEMBERS:
        what = f"it holds {other[0]!r:.60}" if other else f"it holds {len(infos)} files, not each under its own name"
        raise InputError(f"{path} is a zip, but not an .npz: {what}", hint=HINT)
    return [_member(archive, info, path, strict=strict) for info in infos]


def _member(archive: Any, info: zipfile.ZipInfo, path: Path, *, strict: bool) -> _Member:
    key = info.filename.removesuffix(".npy")
    with archive.open(info) as handle:
        head = handle.read(_HEADER)
    buffer = io.BytesIO(head)
    version = np.lib.format.read_magic(buffer)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{key} in {path} is a .npy array of version {version}", hint=HINT)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(buffer)
    member = _Member(key=key, shape=shape, dtype=dtype, fortran=fortran, head=head[: buffer.tell()], info=info)
    if strict and dtype.hasobject:
        raise InputError(
            f"{key} in {path} holds Python objects (a pickle), which are never opened",
            hint="save arrays of numbers or text: numpy.asarray(names, dtype='U')",
        )
    if strict and len(member.head) + member.nbytes != info.file_size:
        raise InputError(
            f"{key} in {path} claims {member.shape} {dtype}, {member.nbytes:,} bytes, and holds"
            f" {info.file_size - len(member.head):,}",
            hint="the file is damaged or was cut short; save it again",
        )
    refuse_bomb(key, member.shape, member.nbytes, info.compress_size, path)
    return member


def _small(archive: Any, member: _Member, path: Path) -> np.ndarray:
    with archive.open(member.info) as handle:
        array: np.ndarray = np.lib.format.read_array(handle, allow_pickle=False)
        if handle.read(1):  # reads to the end, where the archive checks its sum
            raise InputError(f"{member.key} in {path} is longer than it says", hint=HINT)
    return array


def _stored(archive: Any, member: _Member, path: Path) -> Any:
    numbers = member.dtype.kind in "fiu" and len(member.shape) == 3
    if not numbers or member.fortran:
        require_small({member.key: member.nbytes}, path)
        return _small(archive, member, path)
    rows = _PlainRows(path, member) if member.stored else _PackedRows(path, member)
    return StoredArray(rows)


class _PlainRows:
    """Rows of a member that is stored as it is; its checksum is compared when they were all read in order."""

    random_access = True

    def __init__(self, path: Path, member: _Member) -> None:
        self.shape, self._dtype, self._identity = member.shape, member.dtype, Identity(path)
        with open(path, "rb") as handle:
            handle.seek(member.info.header_offset + 26)
            name, extra = (int.from_bytes(handle.read(2), "little") for _ in range(2))
        self._offset = member.info.header_offset + 30 + name + extra + len(member.head)
        self._row = member.dtype.itemsize * int(np.prod(member.shape[1:]))
        self._sum, self._wanted, self._at = zlib.crc32(member.head), member.info.CRC, 0

    def read_into(self, start: int, out: np.ndarray) -> None:
        direct = self._dtype == out.dtype and out.flags.c_contiguous
        target = out if direct else np.empty(out.shape, self._dtype)
        buffer = target.reshape(-1).view(np.uint8).data
        with open(self._identity.path, "rb", buffering=0) as handle:
            self._identity.require(handle.fileno())
            handle.seek(self._offset + start * self._row)
            done = 0
            while done < len(buffer):
                got = handle.readinto(buffer[done:])
                if not got:
                    raise InputError(f"{self._identity.path} ends before its windows do", hint="save it again")
                done += got
        self._check(start, len(out), buffer)
        if not direct:
            out[...] = target

    def _check(self, start: int, count: int, data: memoryview) -> None:
        if start != self._at:
            return
        self._sum, self._at = zlib.crc32(data, self._sum), start + count
        if self._at == self.shape[0] and self._sum != self._wanted:
            raise InputError(f"X in {self._identity.path} is damaged: its checksum is wrong", hint="save it again")


class _PackedRows:
    """Rows of a compressed member: read in order, from the beginning again where an earlier one is asked for."""

    random_access = False

    def __init__(self, path: Path, member: _Member) -> None:
        self.shape, self._dtype, self._identity = member.shape, member.dtype, Identity(path)
        self._name, self._head = member.info.filename, len(member.head)
        self._row = member.dtype.itemsize * int(np.prod(member.shape[1:]))
        self._prepare()

    def _prepare(self) -> None:
        self._lock, self._handle, self._archive = threading.Lock(), None, None

    def __del__(self) -> None:
        for item in (self._handle, self._archive):
            if item is not None:
                item.close()

    _handle: IO[bytes] | None
    _archive: Any

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_handle", "_archive")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def read_into(self, start: int, out: np.ndarray) -> None:
        target = np.empty(out.shape, self._dtype)
        path = self._identity.path
        with self._lock:
            try:
                if self._handle is None:
                    self._identity.require()
                    self._archive = zipfile.ZipFile(path)  # noqa: TID251 -- an .npz, not a submission
                    self._handle = self._archive.open(self._name)
                self._handle.seek(self._head + start * self._row)
                self._fill(target.reshape(-1).view(np.uint8).data)
                if start + len(out) == self.shape[0]:
                    self._handle.read(1)  # the end, where the archive checks its sum
            except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise _damaged(path, error) from None
        out[...] = target

    def _fill(self, buffer: memoryview) -> None:
        assert self._handle is not None
        done = 0
        while done < len(buffer):
            piece = self._handle.read(min(len(buffer) - done, 1 << 20))
            if not piece:
                raise EOFError("it ends before its windows do")
            buffer[done : done + len(piece)] = piece
            done += len(piece)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays and `StoredArray`s as `numpy.savez` does, block by block; same arrays, same bytes."""
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:  # noqa: TID251 -- an .npz, not a submission
        for key, value in arrays.items():
            info = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(info, "w", force_zip64=True) as handle:
                if key == "X":
                    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(value.shape)}
                    np.lib.format.write_array_header_1_0(handle, header)
                    for block in blocks(value):
                        handle.write(block.astype("<f4", copy=False).reshape(-1).view(np.uint8).data)
                else:
                    np.lib.format.write_array(handle, np.asanyarray(value), allow_pickle=False)
