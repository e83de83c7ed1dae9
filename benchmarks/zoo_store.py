"""The zoo's results on disk: one JSON file of rows, replaced whole after every row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo_catalogue import ROOT, Entry
from zoo_table import table

from rtserve.errors import InputError
from rtserve.files import write_bytes
from rtserve.measure.results import environment, load_result, save_result

CODE = ("rtserve/graphs", "rtserve/fusion", "rtserve/native", "rtserve/runtime", "exporters")
"""Where the code lives that can change a row."""


def code_digest() -> str:
    """Return a digest of the code that rows are made by."""
    return digest_of(CODE)


def digest_of(folders: Sequence[str]) -> str:
    """Return a digest of the Python of some folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def blank_row(entry: Entry) -> dict[str, Any]:
    """Return a row with every field of a finished one, unknown."""
    return {
        "model": entry.model,
        "family": entry.family,
        "shape": str(entry.shape),
        "settings": {k: v for k, v in entry.settings.items() if k not in ("ch_names", "n_chans", "n_times", "sfreq")},
        "export": None,
        "max_err": {"onnxruntime": None, "torch_plan": None, "torchscript": None},
        "ratio": None,
        "macs": None,
        "passes": [],
        "prefix": None,
        "fused": None,
    }


class Store:
    """The rows of ``FOLDER/zoo.json``, in the order model then shape.

    Raises
    ------
    InputError
        Where the file is there and is no zoo.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "zoo.json"
        self.rows: dict[str, dict[str, Any]] = {}
        self.excluded: dict[str, dict[str, Any]] = {}
        self._read()

    def _read(self) -> None:
        """Read what is on disk: another run may have written its rows there since."""
        if self.path.exists():
            document = load_result(self.path, "zoo")
            if not isinstance(document.get("rows"), list):
                raise InputError(f"{self.path} has no rows", hint="remove it; `make zoo` writes it anew")
            self.rows = {f"{row['model']} {row['shape']}": row for row in document["rows"]}
            self.excluded = {f"{row['model']} {row['shape']}": row for row in document.get("excluded", [])}

    def current(self, entry: Entry, digest: str) -> bool:
        """Return whether the row of `entry` was made by the code with this digest."""
        kept = self.rows.get(entry.key()) or self.excluded.get(entry.key())
        return kept is not None and kept.get("code") == digest

    def put(self, entry: Entry, row: dict[str, Any]) -> None:
        """Put a row in place of an older one and write the file; rows of other runs stay."""
        self._read()
        self.rows.pop(entry.key(), None)
        self.excluded.pop(entry.key(), None)
        if "excluded" in row:
            kept = {key: row[key] for key in ("model", "shape", "code")} | {"reason": row["excluded"]}
            self.excluded[entry.key()] = kept
        else:
            self.rows[entry.key()] = row
        self.write()

    def write(self) -> None:
        """Write zoo.json."""
        rows = [self.rows[key] for key in sorted(self.rows, key=lambda k: (self.rows[k]["shape"], k.lower()))]
        excluded = [self.excluded[key] for key in sorted(self.excluded, key=str.lower)]
        payload = {"environment": environment(threads=1), "rows": rows, "excluded": excluded}
        save_result(self.path, "zoo", json.loads(json.dumps(payload)), force=True)

    def write_table(self) -> None:
        """Write zoo.md from the rows."""
        self._read()
        text = table(list(self.rows.values()), list(self.excluded.values()), environment(threads=1))
        write_bytes(self.path.with_suffix(".md"), text.encode(), force=True)
