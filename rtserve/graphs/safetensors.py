"""safetensors: eight bytes of length, a JSON header, and the numbers; read whole and checked, nothing runs.

The format is https://github.com/huggingface/safetensors (README, "Format"): every entry has a dtype, a shape and its
first and last byte; entries do not overlap and leave no hole. Large models are split over several files beside an
index, ``model.safetensors.index.json``, whose ``weight_map`` says which file holds which key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rtserve.errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["index_files", "is_index", "looks_like_safetensors", "read_index", "read_safetensors", "sharing_index"]

MOST_HEADER = 100_000_000
"""Bytes of the longest header the format allows."""
MOST_INDEX = 100_000_000
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "C64": "complex64", "U16": "uint16", "U32": "uint32",
    "U64": "uint64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
_HINT = "download or save it again; `rtserve inspect` reads what is whole"


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` (9 bytes or more) is one: a length, then a JSON object."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and 2 <= length <= size - 8


def is_index(path: Path) -> bool:
    """Whether a file's name is that of the index of a model in several files."""
    return path.name.endswith(".index.json")


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors of one file by key, and what its ``__metadata__`` says.

    Raises
    ------
    CheckpointError
        Where the header claims what the file does not hold, or is none.
    """
    with open(path, "rb") as handle:
        header, start = _header(handle, path)
        metadata = header.pop("__metadata__", {})
        if not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
            raise CheckpointError(f"{path} has a __metadata__ that is no table of texts", hint=_HINT)
        _require_contiguous(header, path.stat().st_size - start, path)
        tensors = {key: _tensor(handle, start, key, entry, path) for key, entry in header.items()}
    # A tensor that several keys share is stored once; safetensors.torch.save_model says which other keys it has.
    twins = {key: tensors[kept] for key, kept in metadata.items() if key not in tensors and kept in tensors}
    return tensors | twins, metadata


def _header(handle: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    size = path.stat().st_size
    length = int.from_bytes(handle.read(8), "little")
    if size < 10 or length > min(MOST_HEADER, size - 8):
        raise CheckpointError(
            f"{path} is no whole safetensors file: its header claims {length:,} of {size:,} bytes", hint=_HINT
        )
    try:
        header = json.loads(handle.read(length), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a header that is not JSON ({str(error)[:80]})", hint=_HINT) from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a header that is no JSON object", hint=_HINT)
    return header, 8 + length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _span(key: str, entry: Any, path: Path) -> tuple[int, int]:
    """Return the first and last byte of an entry, whose size must be that of its shape."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    shape = entry.get("shape") if isinstance(entry, dict) else None
    kind = entry.get("dtype") if isinstance(entry, dict) else None
    whole = (
        _counts(offsets)
        and _counts(shape)
        and len(offsets) == 2  # type: ignore[arg-type]
        and isinstance(kind, str)
        and kind in _DTYPES
    )
    if not whole:
        raise CheckpointError(f"{path}: {key} is no tensor ({str(entry)[:80]})", hint=_HINT)
    first, last = offsets  # type: ignore[misc]
    wanted = math.prod(shape) * _torch_dtype(str(kind)).itemsize  # type: ignore[arg-type]
    if last - first != wanted:
        raise CheckpointError(
            f"{path}: {key} is {kind} {shape}, {wanted:,} bytes, but has {last - first:,}", hint=_HINT
        )
    return first, last


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _torch_dtype(kind: str) -> torch.dtype:
    import torch

    return getattr(torch, _DTYPES[kind])


def _require_contiguous(header: Mapping[str, Any], size: int, path: Path) -> None:
    spans = sorted(_span(key, entry, path) for key, entry in header.items())
    end = 0
    for first, last in spans:
        if first != end:
            raise CheckpointError(f"{path}: tensors overlap or leave a hole at byte {min(first, end):,}", hint=_HINT)
        end = last
    if end != size:
        raise CheckpointError(f"{path} is cut short: its tensors take {end:,} bytes, it has {size:,}", hint=_HINT)


def _tensor(handle: BinaryIO, start: int, key: str, entry: Mapping[str, Any], path: Path) -> torch.Tensor:
    import torch

    first, last = entry["data_offsets"]
    dtype = _torch_dtype(entry["dtype"])
    buffer = bytearray(last - first)
    handle.seek(start + first)
    if handle.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]
        raise CheckpointError(f"{path}: {key} is cut short", hint=_HINT)
    flat = torch.frombuffer(buffer, dtype=dtype) if buffer else torch.empty(0, dtype=dtype)
    return flat.reshape(entry["shape"])


def index_files(path: Path) -> list[Path]:
    """Return the files that an index names; they lie beside it.

    Raises
    ------
    CheckpointError
        Where it names one elsewhere, or one that is not there.
    """
    files = []
    for name in sorted(set(_weight_map(path).values())):
        if Path(name).name != name or name in ("", ".", ".."):
            raise CheckpointError(f"index {path} names {name!r}, a file elsewhere", hint="its files lie beside it")
        files.append(path.parent / name)
        if not files[-1].is_file():
            raise CheckpointError(f"index {path} names {name}, which is not beside it", hint="download it too")
    return files


def sharing_index(path: Path) -> Path | None:
    """Return the index beside a file that names it and others as one model, or None."""
    for index in sorted(path.parent.glob("*.index.json")):
        try:
            named = set(_weight_map(index).values())
        except CheckpointError:
            continue
        if path.name in named and len(named) > 1:
            return index
    return None


def read_index(path: Path, read: Callable[[Path], Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the tensors of a model in several files.

    Parameters
    ----------
    path : Path
        The index; the files lie beside it.
    read : callable
        Reads one of them.

    Raises
    ------
    CheckpointError
        As `index_files`, and where a file lacks a key that the index says it holds.
    """
    mapping = _weight_map(path)
    parts = {file.name: read(file) for file in index_files(path)}
    lacking = [key for key, name in mapping.items() if key not in parts[name]]
    if lacking:
        raise CheckpointError(
            f"{mapping[lacking[0]]} has no {lacking[0]}, which the index {path} says it holds"
            + (f" ({len(lacking)} such keys)" if len(lacking) > 1 else ""),
            hint="index and files are of different saves",
        )
    return {key: parts[name][key] for key, name in mapping.items()}


def _weight_map(path: Path) -> dict[str, str]:
    if path.stat().st_size > MOST_INDEX:
        raise CheckpointError(f"index {path} has {path.stat().st_size:,} bytes", hint="an index is a small JSON file")
    try:
        mapping = json.loads(path.read_bytes())["weight_map"]
        fine = bool(mapping) and all(isinstance(value, str) for value in mapping.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        fine = False
    if not fine:
        raise CheckpointError(
            f"{path} is no index of a model in several files", hint='it is JSON: {"weight_map": {KEY: FILE, ...}}'
        )
    return dict(mapping)
