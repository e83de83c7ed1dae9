"""Finding out what kind of file this is, and printing what its room says about it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import readable_file
from rtserve.tables import aligned

__all__ = ["inspect_file", "inspect_text"]

_SUFFIXES = {
    ".onnx": "graph",
    ".pth": "checkpoint",
    ".pt": "checkpoint",
    ".ckpt": "checkpoint",
    ".bin": "checkpoint",
    ".safetensors": "checkpoint",
    ".json": "checkpoint",
    ".npz": "windows",
    ".h5": "windows",
    ".hdf5": "windows",
    ".zip": "zip",
}


def inspect_file(path: Path) -> dict[str, Any]:
    """Return what a file holds; its content decides what it is, its name only where the content does not.

    Raises
    ------
    InputError
        Where it is none of the files rtserve knows, or is damaged.
    """
    from rtserve.signals.reading import is_recording

    if is_recording(path):
        from rtserve.signals.overview import describe_recording

        size = sum(part.stat().st_size for part in path.rglob("*")) if path.is_dir() else path.stat().st_size
        return {"file": str(path), "bytes": size} | describe_recording(path)
    path = readable_file(path, "file")
    kind = _kind(path)
    if kind == "graph":
        from rtserve.graphs.describe import describe_graph as describe
    elif kind == "checkpoint":
        from rtserve.graphs.describe import describe_checkpoint as describe
    elif kind == "windows":
        from rtserve.signals.describe import describe_windows as describe
    else:
        from rtserve.submission.describe import describe_zip as describe
    return {"file": str(path), "bytes": path.stat().st_size} | describe(path)


def _kind(path: Path) -> str:
    from rtserve.graphs.safetensors import looks_like_safetensors

    with open(path, "rb") as handle:
        head = handle.read(16)
    if head.startswith(b"PK"):
        return _zip_kind(path)
    if head.startswith(b"\x89HDF"):
        return "windows"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "checkpoint"
    if looks_like_safetensors(head, path.stat().st_size):
        return "checkpoint"
    if path.suffix.lower() not in _SUFFIXES or (path.suffix == ".json" and not path.name.endswith(".index.json")):
        raise InputError(
            f"{path} is none of the files rtserve knows",
            hint=f"it inspects {', '.join(_SUFFIXES)}, and recordings (.bdf, .edf, .set, .fif, .vhdr, ...)",
        )
    return _SUFFIXES[path.suffix.lower()]


def _zip_kind(path: Path) -> str:
    """Tell the three zips apart: torch's, numpy's, and any other."""
    try:
        with zipfile.ZipFile(path) as archive:  # noqa: TID251 -- only its table of contents is read
            names = archive.namelist()
    except zipfile.BadZipFile:
        return _SUFFIXES.get(path.suffix.lower(), "zip")
    if any(name.endswith("/data.pkl") and name.count("/") == 1 for name in names):
        return "checkpoint"
    return "windows" if names and all(name.endswith(".npy") for name in names) else "zip"


def inspect_text(report: dict[str, Any], *, width: int | None = None) -> str:
    """Return the report as lines for a person; `width` are a terminal's columns."""
    lines = [f"{report['file']}  {report['kind']}, {report['bytes']:,} bytes"]
    for key, value in report.items():
        if key not in ("file", "kind", "bytes"):
            lines += _entry(key.replace("_", " "), value, indent=2, width=width)
    return "\n".join(lines)


def _entry(key: str, value: Any, *, indent: int, width: int | None) -> list[str]:
    pad = " " * indent
    if value in (None, [], {}, ()):
        return []
    if isinstance(value, list) and value and all(isinstance(row, dict) and "key" in row for row in value):
        return [f"{pad}{key} ({len(value)})", *_table(value, indent + 2, width)]
    if isinstance(value, list) and any(isinstance(row, dict) for row in value):
        rows = [_entry(str(number), row, indent=indent + 2, width=width) for number, row in enumerate(value, start=1)]
        return [f"{pad}{key} ({len(value)})", *(line for row in rows for line in row)]
    if isinstance(value, dict):
        inner = [_entry(str(name), item, indent=indent + 2, width=width) for name, item in value.items()]
        return [f"{pad}{key}", *(line for entry in inner for line in entry)]
    return [f"{pad}{key:<14} {_plain(value)}"]


def _table(rows: list[dict[str, Any]], indent: int, width: int | None) -> list[str]:
    """Return rows under each other with their columns aligned."""
    names = list(dict.fromkeys(["key", *(name for row in rows for name in row)]))
    cells = [[(_shape if name == "shape" else _plain)(row.get(name, "")) for name in names] for row in rows]
    return aligned(["", *names[1:]], cells, width, headed=False, indent=indent)


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        names = [_plain(item) for item in value]
        return ", ".join(names if len(names) <= 12 else [*names[:6], "...", *names[-2:]])
    return str(value)
