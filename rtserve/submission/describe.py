"""What a zip holds, as JSON values: its members with their digests, and its manifest where rtserve wrote one."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import sha256_file

__all__ = ["describe_zip"]

_LARGEST = 16 << 30
"""Bytes a zip may claim to unpack to before its members are listed without digests: it may be a bomb."""


def describe_zip(path: Path) -> dict[str, Any]:
    """Return the members of a zip and its manifest; nothing is written to disk, nothing is run.

    Raises
    ------
    InputError
        Where the file is no zip, or a member cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # noqa: TID251 -- only listed and hashed, never unpacked
            total = sum(info.file_size for info in archive.infolist())
            files = [_member(archive, info, digest=total <= _LARGEST) for info in archive.infolist()]
            manifest = _manifest(archive)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, NotImplementedError) as error:
        raise InputError(f"{path} is not a zip that can be read ({error})", hint="`rtserve check` says more") from None
    return {
        "kind": "submission" if any(entry["key"] == "submission.py" for entry in files) else "zip",
        "sha256": sha256_file(path),
        "unpacked_bytes": total,
        "files": files,
        "manifest": manifest,
    }


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, digest: bool) -> dict[str, Any]:  # noqa: TID251
    entry: dict[str, Any] = {"key": info.filename, "bytes": info.file_size}
    if digest and not info.is_dir():
        with archive.open(info) as handle:
            entry["sha256"] = hashlib.file_digest(handle, "sha256").hexdigest()  # type: ignore[arg-type]
    return entry


def _manifest(archive: zipfile.ZipFile) -> Any:  # noqa: TID251
    if "manifest.json" not in archive.namelist() or archive.getinfo("manifest.json").file_size > 1 << 24:
        return None
    try:
        return json.loads(archive.read("manifest.json"))
    except ValueError:
        return "not JSON"
