"""Results on disk: raw values and the environment they were taken in; summaries are computed when they are read.

Nothing here names a machine, a user or a folder: only what changes a number.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import read_json, replacing

__all__ = ["environment", "load_result", "save_result"]

_PACKAGES = ("rtserve", "numpy", "scipy", "onnx", "onnxruntime", "torch", "openvino")
_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd")


def environment(*, threads: int | None = None) -> dict[str, Any]:
    """Return what a number depends on besides the graph and the data.

    Parameters
    ----------
    threads : int, optional
        Threads the measured code was given.

    Returns
    -------
    dict
        CPU model and features, cores available, operating system, Python and package versions, threads.
    """
    model, flags = _cpu()
    result: dict[str, Any] = {
        "cpu": model,
        "cpu_features": [name for name in _FEATURES if name in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }
    return result if threads is None else result | {"threads": threads}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> tuple[str, set[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine(), set()
    found = {key: re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE) for key in ("model name", "flags", "Features")}
    model, flags = found["model name"], found["flags"] or found["Features"]
    return (model[1].strip() if model else platform.machine()), set(flags[1].split()) if flags else set()


def save_result(path: str | Path, kind: str, payload: dict[str, Any], *, version: int = 1, force: bool = False) -> Path:
    """Write a result as JSON with its schema, whole or not at all."""
    document = {"schema": f"rtserve.{kind}/{version}"} | payload
    with replacing(path, force=force) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as handle:
        json.dump(document, handle, indent=1, ensure_ascii=False, allow_nan=False)
        handle.write("\n")
    return Path(path)


def load_result(path: str | Path, kind: str | None = None) -> dict[str, Any]:
    """Read a result written by `save_result`.

    Parameters
    ----------
    path : path
        A JSON file.
    kind : str, optional
        Which kind it must be, e.g. ``"evaluation"``.

    Raises
    ------
    InputError
        Where the file is no result, or of another kind or a newer version.
    """
    document = read_json(path, "result", hint="give a file written with -o")
    schema = document.get("schema", "") if isinstance(document, dict) else ""
    match = re.fullmatch(r"rtserve\.([a-z_]+)/(\d+)", str(schema))
    if match is None or (kind is not None and match[1] != kind):
        what = f"a {schema}" if schema else "no rtserve result"
        raise InputError(
            f"{path} is {what}" + (f", not a result of kind {kind}" if kind else ""),
            hint="write one with `rtserve evaluate`, `rtserve bench` or `rtserve compare` and -o",
        )
    if int(match[2]) != 1:
        raise InputError(f"{path} has schema {schema}, this version reads /1", hint="use the rtserve that wrote it")
    return dict(document)
