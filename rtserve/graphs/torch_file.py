"""Files of torch.save, today's zip archive and the format before it, read without torch.load and without running them.

Both hold one pickle, which describes the tensors, and beside it the numbers as storages. The pickle goes through
`rtserve.graphs.inert`; a storage becomes a flat tensor over its bytes, of which the file must really hold as many as it
claims. Nothing outside the file is read.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rtserve.errors import CheckpointError
from rtserve.graphs.foreign import known_as
from rtserve.graphs.inert import RESAVE, InertUnpickler, StorageType

if TYPE_CHECKING:
    import torch

__all__ = ["read_torch_file"]

MAGIC = 0x1950A86A20F9469CFC6C
"""The number that opens the format before torch 1.6."""
_MOST_OPENED = 200
"""A compressed entry may grow this many times; torch writes them stored."""


def read_torch_file(path: Path) -> Any:
    """Return what a file of torch.save holds: containers, numbers and tensors; the rest inert.

    Raises
    ------
    CheckpointError
        Where it is no such file, is damaged, or asks for code to be run.
    """
    with open(path, "rb") as handle:
        try:
            return _read(handle)
        except CheckpointError as error:
            raise CheckpointError(f"checkpoint {path} {error.message}", hint=error.hint) from None
        except (MemoryError, RecursionError) as error:
            raise CheckpointError(
                f"checkpoint {path} claims more than it holds ({type(error).__name__})", hint=RESAVE
            ) from None
        except Exception as error:
            known = known_as(path)
            if known is not None:
                raise CheckpointError(f"{path} {known[0]}", hint=known[1]) from None
            reason = "it is cut short or damaged" if _looks_whole(handle) else _NEITHER
            detail = " ".join(str(error).split())[:120]
            raise CheckpointError(
                f"{path} is not a PyTorch checkpoint ({reason}{f': {detail}' if detail else ''})",
                hint="give a file written by torch.save; see `rtserve inspect`",
            ) from None


_NEITHER = "it is neither torch's archive nor a pickle of tensors"


def _looks_whole(handle: BinaryIO) -> bool:
    """Whether the file begins as torch's do, or has nothing in it: what failed is then its body."""
    handle.seek(0)
    head = handle.read(2)
    return head in (b"PK", b"", b"\x80\x02")


def _read(handle: BinaryIO) -> Any:
    if handle.read(2) == b"PK":
        with zipfile.ZipFile(handle) as archive:  # noqa: TID251 -- torch's own archive, read by name
            return _Archive(archive).content()
    handle.seek(0)
    return _Old(handle).content()


def _nested(data: bytes) -> Any:
    """Return what ``torch.storage._load_from_bytes`` would: a storage that was pickled whole, as a flat tensor."""
    return _read(io.BytesIO(data))


def _flat(buffer: bytearray, dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.frombuffer(buffer, dtype=dtype) if buffer else torch.empty(0, dtype=dtype)


def _wanted(pid: Any) -> tuple[StorageType, str, int]:
    """Return what a persistent id asks for: a kind of number, a key, how many.

    Raises
    ------
    CheckpointError
        Where it is of a kind that has no plain numbers, or is nothing that torch writes.
    """
    if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
        raise CheckpointError("holds the source of a whole pickled network, which is not imported", hint=RESAVE)
    _, kind, key, _, count = pid[:5]
    if not isinstance(kind, StorageType):
        name = getattr(kind, "inert_name", type(kind).__name__)
        raise CheckpointError(f"holds numbers of {name}, which are no plain ones", hint="save it unquantised, on a CPU")
    if not (isinstance(key, str) and isinstance(count, int) and count >= 0):
        raise CheckpointError("names a storage by nonsense", hint=RESAVE)
    return kind, key, count


class _Archive:
    """The zip archive that torch.save writes since 1.6: FOLDER/data.pkl and FOLDER/data/KEY."""

    def __init__(self, archive: zipfile.ZipFile) -> None:  # noqa: TID251
        self._archive = archive
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if any(name.endswith("/constants.pkl") and name.count("/") == 1 for name in names):
            raise CheckpointError(
                "is a TorchScript archive, not a state_dict", hint="give the checkpoint it was made from"
            )
        if len(pickles) != 1:
            raise ValueError(f"it is a zip with {len(pickles)} data.pkl")
        self._folder = pickles[0].removesuffix("data.pkl")
        self._flats: dict[str, torch.Tensor] = {}

    def content(self) -> Any:
        """Return the object that was saved."""
        order = f"{self._folder}byteorder"
        if order in self._archive.namelist() and self._bytes(order).decode("ascii", "replace") != sys.byteorder:
            raise CheckpointError("was written on a machine of the other byte order", hint="re-save it on this one")
        pickled = io.BytesIO(self._bytes(f"{self._folder}data.pkl"))
        return InertUnpickler(pickled, storage=self._storage, nested=_nested).load()

    def _bytes(self, name: str) -> bytes:
        entry = self._archive.getinfo(name)
        if entry.file_size > _MOST_OPENED * entry.compress_size + 4096:
            raise CheckpointError(
                f"has an entry {name} that grows from {entry.compress_size:,} to {entry.file_size:,} bytes", hint=RESAVE
            )
        return self._archive.read(entry)

    def _storage(self, pid: Any) -> torch.Tensor:
        kind, key, count = _wanted(pid)
        if key not in self._flats:
            data = self._bytes(f"{self._folder}data/{key}")
            if len(data) != count * kind.dtype.itemsize:
                raise CheckpointError(
                    f"claims {count:,} numbers in storage {key}, which has {len(data):,} bytes", hint=RESAVE
                )
            self._flats[key] = _flat(bytearray(data), kind.dtype)
        return self._flats[key]


class _Old:
    """The format before it: four pickles, then the storages one after the other, each behind its length."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._left = handle.seek(0, 2)
        handle.seek(0)
        self._buffers: dict[str, tuple[bytearray, StorageType, torch.Tensor]] = {}

    def content(self) -> Any:
        """Return the object that was saved; a plain pickle is one too, where it carries its own storages."""
        data = io.BytesIO(self._handle.read())
        first = self._one(data)
        if first != MAGIC:
            return self._plain(first)
        self._one(data)
        about = self._one(data)
        if isinstance(about, dict) and about.get("little_endian", True) != (sys.byteorder == "little"):
            raise CheckpointError("was written on a machine of the other byte order", hint="re-save it on this one")
        content = self._one(data, self._storage)
        keys = self._one(data)
        for key in keys if isinstance(keys, list) else ():
            self._fill(data, key)
        return content

    def _plain(self, content: Any) -> Any:
        if not isinstance(content, dict):
            raise ValueError("it is a pickle of something else")
        return content

    def _one(self, data: io.BytesIO, storage: Callable[[Any], torch.Tensor] | None = None) -> Any:
        return InertUnpickler(data, storage=storage, nested=_nested).load()

    def _storage(self, pid: Any) -> torch.Tensor:
        kind, key, count = _wanted(pid)
        if key not in self._buffers:
            size = count * kind.dtype.itemsize
            self._left -= size
            if self._left < 0:
                raise CheckpointError(f"claims {count:,} numbers in storage {key}, which it does not hold", hint=RESAVE)
            buffer = bytearray(size)
            self._buffers[key] = buffer, kind, _flat(buffer, kind.dtype)
        flat = self._buffers[key][2]
        view = pid[5] if len(pid) > 5 else None
        return flat if view is None else flat[int(view[1]) : int(view[1]) + int(view[2])]

    def _fill(self, data: io.BytesIO, key: Any) -> None:
        count = int.from_bytes(data.read(8), "little")
        if key not in self._buffers:
            raise CheckpointError(f"has a storage {key} that nothing uses", hint=RESAVE)
        buffer, kind, _ = self._buffers[key]
        raw = data.read(len(buffer))
        if count * kind.dtype.itemsize != len(buffer) or len(raw) != len(buffer):
            raise EOFError(f"storage {key} is cut short")
        memoryview(buffer)[:] = raw
