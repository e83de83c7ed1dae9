"""Window sets as .h5: the format of large sets, chunked by window, read where it stands and nowhere else.

An HDF5 file can point outside itself: at raw bytes of another file (external storage), at other files' data sets
(external links, virtual data sets). Following such a pointer would read any file of this machine into a window set, so
each is refused by name. X stays in the file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.limits import SMALL_BYTES, refuse_bomb, require_small
from rtserve.signals.stored import BLOCK_BYTES, Identity, StoredArray, blocks

__all__ = ["Opened", "list_hdf5", "read_dataset", "read_hdf5", "require_inside", "rows_of", "write_hdf5"]

_CHUNK = 64 << 10
"""Least bytes of a chunk; a larger window is a chunk of its own."""
_LARGEST_CHUNK = 256 << 20
_INDEX_BYTES = 64 << 10
"""Of a file's index of chunks that are kept: HDF5's own 2 MiB take 20 MiB of memory for 60,000 windows."""
_OUTSIDE = "copy the data into the file itself: h5repack, or read and save it with h5py"


class Opened:
    """An HDF5 file for reading, every fault of which is one line that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.archive = _opened(self.path)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._damaged(error) from None
        return self.archive

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.archive.close()
        if isinstance(error, OSError | RuntimeError | ValueError | TypeError | KeyError) and not isinstance(
            error, InputError
        ):
            raise self._damaged(error) from None

    def _damaged(self, error: BaseException) -> InputError:
        return InputError(
            f"{self.path} is not an HDF5 file, or a damaged one ({' '.join(str(error).split())})",
            hint="see `rtserve inspect`",
        )


def _opened(path: Path) -> Any:
    """Return the file open for reading, with little of its index of chunks in memory."""
    import h5py

    archive = h5py.File(path, "r")
    kept = archive.id.get_mdc_config()
    kept.set_initial_size = True
    kept.initial_size = kept.min_size = kept.max_size = _INDEX_BYTES
    archive.id.set_mdc_config(kept)
    return archive


def read_hdf5(path: Path) -> dict[str, Any]:
    """Return the arrays and attributes of an .h5, X as a `StoredArray` where it is three-dimensional and of numbers.

    Raises
    ------
    InputError
        Where the file is none, points outside itself, or claims more than it can hold.
    """
    with Opened(path) as archive:
        found = dict(_datasets(archive, path))
        X = found.pop("X", None)
        require_small({name: _claimed(dataset) for name, dataset in found.items()} | _attribute_sizes(archive), path)
        arrays: dict[str, Any] = {name: read_dataset(dataset, path) for name, dataset in found.items()}
        arrays |= {name: _decoded(archive.attrs[name]) for name in archive.attrs if name not in found and name != "X"}
        if X is not None:
            numbers = X.ndim == 3 and X.dtype.kind in "fiu"
            arrays["X"] = rows_of(X, path) if numbers else np.empty(X.shape if X.size == 0 else (0,), "S1")
    return arrays


def list_hdf5(path: Path) -> list[dict[str, Any]]:
    """Return name, shape and dtype of every data set in the file.

    Raises
    ------
    InputError
        As `read_hdf5`.
    """
    found: list[dict[str, Any]] = []

    def walk(group: Any, prefix: str) -> None:
        import h5py

        for name in group:
            require_inside(group, name, path)
            item = group[name]
            if isinstance(item, h5py.Group) and prefix.count("/") < 8:
                walk(item, f"{prefix}{name}/")
            elif isinstance(item, h5py.Dataset):
                _require_possible(item, path)
                found.append({"key": prefix + name, "shape": list(item.shape or ()), "dtype": str(item.dtype)})

    with Opened(path) as archive:
        walk(archive, "")
    return found


def _datasets(archive: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the data sets at the root; one that is not in the file itself is refused."""
    import h5py

    for name in archive:
        require_inside(archive, name, path)
        if archive.get(name, getclass=True) is h5py.Dataset:
            yield name, archive[name]


def _require_possible(dataset: Any, path: Path) -> None:
    held = dataset.id.get_storage_size()
    refuse_bomb(dataset.name.lstrip("/"), dataset.shape or (), _claimed(dataset), held, path)


def require_inside(archive: Any, name: str, path: Path) -> None:
    """Raise `InputError` where `name` at the file's root is stored in, or linked to, another place than this file."""
    import h5py

    link = archive.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise InputError(
            f"{name} in {path} is an external link to {link.filename}:{link.path}; files outside are not read",
            hint=_OUTSIDE,
        )
    if isinstance(link, h5py.SoftLink):
        raise InputError(f"{name} in {path} is a soft link to {link.path}; links are not followed", hint=_OUTSIDE)
    if archive.get(name, getclass=True) is not h5py.Dataset:
        return
    dataset = archive[name]
    if dataset.external:
        files = ", ".join(str(entry[0]) for entry in dataset.external[:3])
        raise InputError(f"{name} in {path} has external storage in {files}; files outside are not read", hint=_OUTSIDE)
    if dataset.is_virtual:
        files = ", ".join(dict.fromkeys(str(source.file_name) for source in dataset.virtual_sources()[:3]))
        raise InputError(f"{name} in {path} is a virtual data set over {files}; it is not read", hint=_OUTSIDE)


def _claimed(dataset: Any) -> int:
    return _size(dataset.shape or ()) * max(1, int(dataset.dtype.itemsize))


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod([int(n) for n in shape], dtype=object))


def _attribute_sizes(archive: Any) -> dict[str, int]:
    ids = {name: archive.attrs.get_id(name) for name in archive.attrs}
    return {name: _size(item.shape) * max(1, item.dtype.itemsize) for name, item in ids.items()}


def read_dataset(dataset: Any, path: Path) -> np.ndarray:
    """Return a small data set (names, targets, a column) whole, its text decoded.

    Raises
    ------
    InputError
        Where it claims more than it holds, or its text is larger than what is read whole.
    """
    import h5py

    key = dataset.name.lstrip("/")
    if dataset.shape is None:
        raise InputError(f"{key} in {path} is empty (a null data set)", hint="save it with a shape")
    require_small({key: _claimed(dataset)}, path)
    _require_possible(dataset, path)
    kind = h5py.check_string_dtype(dataset.dtype)
    if kind is not None and kind.length is None and dataset.shape:
        return _decoded(_long_texts(dataset, key, path))
    if dataset.dtype.hasobject and kind is None:
        raise InputError(f"{key} in {path} holds {dataset.dtype}, no numbers or text", hint="save numbers or text")
    return _decoded(dataset[()])


def _long_texts(dataset: Any, key: str, path: Path) -> np.ndarray:
    """Read texts of any length piece by piece: many entries may point at one long text."""
    out: list[Any] = []
    total, step = 0, 1
    while len(out) < len(dataset):
        piece = dataset[len(out) : len(out) + step]
        total += sum(len(text) for text in piece.ravel())
        if total > SMALL_BYTES:
            raise InputError(
                f"the texts of {key} in {path} take more than {SMALL_BYTES:,} bytes", hint="save short names"
            )
        out += list(piece)
        step = min(4096, 2 * step) if total < (1 << 20) else max(1, len(out) * (1 << 20) // total)
    return np.array(out, object)


def _decoded(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind == "S" and array.size:
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind in "OS":
        texts = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in array.ravel()]
        return np.array(texts, "U").reshape(array.shape)
    return array


def rows_of(dataset: Any, path: Path) -> StoredArray:
    """Return a three-dimensional data set of numbers as windows that stay in the file.

    Raises
    ------
    InputError
        Where it claims more than it holds, or its chunks are too large to read windows one at a time.
    """
    key = dataset.name.lstrip("/")
    _require_possible(dataset, path)
    chunk = _size(dataset.chunks or (1,)) * dataset.dtype.itemsize
    if chunk > _LARGEST_CHUNK:
        raise InputError(
            f"{key} in {path} is in chunks of {' x '.join(map(str, dataset.chunks))} ({chunk:,} bytes): every window"
            " would cost one of them",
            hint=f"h5repack -l {key}:CHUNK=1x{dataset.shape[1]}x{dataset.shape[2]} {path.name} OUT.h5",
        )
    return StoredArray(_Rows(dataset, path))


class _Rows:
    """Rows of a data set; the file is opened when the first is asked for, in each process anew."""

    random_access = True

    def __init__(self, dataset: Any, path: Path) -> None:
        self.shape, self._dtype, self._name = tuple(dataset.shape), dataset.dtype, dataset.name
        self._identity = Identity(path)
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.Lock()
        self._open: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def _dataset(self) -> Any:
        import os

        if self._open is None or self._open[0] != os.getpid():  # a handle does not survive a fork
            self._identity.require()
            self._open = (os.getpid(), _opened(self._identity.path)[self._name])
        return self._open[1]

    def read_into(self, start: int, out: np.ndarray) -> None:
        direct = self._dtype == out.dtype and out.flags.c_contiguous
        target = out if direct else np.empty(out.shape, self._dtype)
        with self._lock:
            try:
                self._dataset().read_direct(target, np.s_[start : start + len(out)])
            except (OSError, RuntimeError) as error:
                raise InputError(
                    f"{self._name.lstrip('/')} in {self._identity.path} cannot be read at window {start}"
                    f" ({' '.join(str(error).split())})",
                    hint="the file is damaged; make it again",
                ) from None
        if not direct:
            out[...] = target


def write_hdf5(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays, X chunked by window with a checksum per chunk, block by block."""
    import h5py

    with open(path, "w+b", buffering=0) as handle:
        disk = _Disk(handle)
        with h5py.File(disk, "w") as archive:
            for name, value in arrays.items():
                if name == "X":
                    _write_rows(archive, value, disk)
                    continue
                array = np.asanyarray(value)
                archive.create_dataset(name, data=np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array)
        if disk.refused is not None:
            raise disk.refused


class _Disk:
    """A file for HDF5 that keeps what the system refuses to write to itself until HDF5 has closed.

    HDF5 tries to write again when it closes and when the process ends, and crashes where that fails too.
    """

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self.refused: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.refused is None and done < len(view):
                done += self._handle.write(view[done:])
        except OSError as error:
            self.refused = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._handle.truncate(size)
        except OSError as error:
            self.refused = self.refused or error
            return size or 0

    def readinto(self, buffer: Any) -> int:
        return int(self._handle.readinto(buffer))  # type: ignore[attr-defined]

    def read(self, size: int = -1) -> bytes:
        return self._handle.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._handle.seek(offset, whence)

    def tell(self) -> int:
        return self._handle.tell()

    def flush(self) -> None:
        """Nothing: the file is not buffered."""


def _write_rows(archive: Any, X: Any, disk: _Disk) -> None:
    n, n_chans, n_times = (int(size) for size in X.shape)
    per_chunk = min(max(1, n), max(1, _CHUNK // max(1, 4 * n_chans * n_times)))
    shape = {"chunks": (per_chunk, n_chans, n_times), "fletcher32": True} if n and n_chans and n_times else {}
    target = archive.create_dataset("X", (n, n_chans, n_times), dtype="<f4", **shape)
    place = 0
    step = max(1, BLOCK_BYTES // max(1, 4 * n_chans * n_times) // per_chunk) * per_chunk
    for block in blocks(X, step):
        if disk.refused is not None:
            return
        target[place : place + len(block)] = block
        place += len(block)
