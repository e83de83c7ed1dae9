"""What a pickle needs to load: the modules that its objects are of, and the versions that wrote them; nothing is loaded.

A joblib is a pickle with the bytes of its arrays between its opcodes, often packed; reading it to its end takes skipping
those. Objects come out inert (`rtserve.graphs.inert`).
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import math
import pickle  # noqa: TID251 -- two opcodes by name; nothing is built
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

from rtserve.graphs.inert import Inert, InertUnpickler

__all__ = ["DISTRIBUTIONS", "Needs", "read_needs"]

DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "PyYAML", "PIL": "pillow"}
"""Names of packages whose modules are called otherwise."""
WRITTEN_BY = {"_sklearn_version": "scikit-learn"}
"""Fields in which objects say the version of the package that wrote them."""
UNPACKED = 64 * 2**20
"""Most bytes that a packed file is unpacked to."""
SECONDS = 2.0
LARGE = 2**20
"""Bytes of one text or array above which they are passed over."""
_HAS_OBJECTS = 1
"""The flag of NumPy's types with references to objects."""
_PACKED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda handle: gzip.GzipFile(fileobj=handle),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"]\x00\x00": lzma.LZMAFile,
}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What was found.

    Parameters
    ----------
    globals : tuple of str
        What it imports, as ``module.name``, in order.
    versions : dict of str to tuple of str
        Distribution to the versions that wrote its objects.
    """

    globals: tuple[str, ...] = ()
    versions: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_needs(path: Path) -> Needs:
    """Read the first pickle of a file as far as it can be read, without building anything of it."""
    with open(path, "rb") as handle:
        start = handle.read(8)
        handle.seek(0)
        reader = None
        with contextlib.suppress(Exception):  # damaged bytes show themselves in every kind of error; the rest counts
            reader = _Reader(_Bounded(_unpacked(handle, start)))
            reader.load()
    if reader is None:
        return Needs()
    versions = {name: tuple(sorted(found)) for name, found in sorted(reader.versions.items())}
    return Needs(globals=tuple(reader.names), versions=versions)


def _unpacked(handle: IO[bytes], start: bytes) -> IO[bytes]:
    """Return a file of plain bytes, as far as `UNPACKED` goes; the file itself where joblib does not pack so."""
    if start[:1] == b"x" and len(start) > 1 and (start[0] * 256 + start[1]) % 31 == 0:  # zlib
        return io.BytesIO(zlib.decompressobj().decompress(handle.read(UNPACKED), UNPACKED))
    for mark, opened in _PACKED.items():
        if start.startswith(mark):
            return io.BytesIO(opened(handle).read(UNPACKED))
    return handle


class _Layout:
    """``numpy.dtype``: bytes of one item, as far as they are told; None where it holds objects."""

    def __init__(self, text: Any = "", *rest: Any) -> None:
        size = text[1:] if isinstance(text, str) and text[:1] in "biufcV" else ""
        self.itemsize = int(size) if size.isdigit() else None

    def __setstate__(self, state: Any) -> None:
        told = state[5] if isinstance(state, tuple) and len(state) > 7 else None
        if isinstance(told, int) and told > 0:
            self.itemsize = None if state[7] & _HAS_OBJECTS else told


class _Bounded(io.RawIOBase):
    """A file whose long stretches are passed over and which ends when the time is up."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._until = source, time.perf_counter() + SECONDS

    def read(self, size: int = -1) -> bytes:
        if time.perf_counter() > self._until:
            return b""
        if size > LARGE:
            self.skip(size)
            return b""
        return self._source.read(size)

    def readline(self, size: int | None = -1) -> bytes:
        return self._source.readline(LARGE)

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def skip(self, size: int) -> None:
        self._source.seek(size, io.SEEK_CUR)


class _Reader(InertUnpickler):
    """Notes what a pickle names and which versions wrote it, and steps over joblib's arrays."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(InertUnpickler.dispatch)

    def __init__(self, file: _Bounded) -> None:
        super().__init__(file)  # type: ignore[arg-type]
        self._file = file
        self.names: dict[str, None] = {}
        self.versions: dict[str, set[str]] = {}

    def persistent_load(self, pid: Any) -> Any:
        return Inert()

    def find_class(self, module: str, name: str) -> Any:
        self.names[f"{module}.{name}"] = None
        return _Layout if (module, name) == ("numpy", "dtype") else super().find_class(module, name)

    def load_build(self) -> None:
        state = self.stack[-1]
        if isinstance(self.stack[-2], _Layout):
            self.stack[-2].__setstate__(self.stack.pop())
            return
        super().load_build()
        if isinstance(state, Mapping):
            for key, package in WRITTEN_BY.items():
                if isinstance(state.get(key), str):
                    self.versions.setdefault(package, set()).add(state[key])
        target = self.stack[-1]
        if isinstance(target, Inert) and target.inert_name.endswith("NumpyArrayWrapper") and isinstance(state, Mapping):
            self._pass_over(state)

    dispatch[pickle.BUILD[0]] = load_build

    def _pass_over(self, state: Mapping[str, Any]) -> None:
        """Step over the array that follows its wrapper: bytes, or a pickle of its own where it holds objects."""
        size = getattr(state.get("dtype"), "itemsize", None)
        if size is None:
            nested = _Reader(self._file)
            nested.names, nested.versions = self.names, self.versions
            nested.load()
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self._file.skip(int.from_bytes(self._file.read(1), "little"))
        self._file.skip(math.prod(int(size) for size in state["shape"]) * size)
