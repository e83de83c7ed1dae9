"""The graphs inside a bundle, by its manifest: it says which file answers which challenge of whichever contest."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.graphs.graph import Graph

__all__ = ["Bundled", "read_bundled"]

MANIFEST = "manifest.json"
_UNLISTED = re.compile(r"challenge_\w+\.onnx")
"""What a bundle calls its graphs, where its manifest does not list them."""


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """What a zip holds.

    Parameters
    ----------
    names : tuple of str
        Its files.
    manifest : dict
        Empty where it has none.
    graphs : dict of str to Graph
        By file name; empty of a zip that was not built here.
    """

    names: tuple[str, ...]
    manifest: dict[str, Any] = field(default_factory=dict)
    graphs: dict[str, Graph] = field(default_factory=dict)


def read_bundled(path: Path, *, graphs_too: bool = True) -> Bundled:
    """Read the manifest and, where they are wanted too, the graphs of a zip; nothing is unpacked.

    Raises
    ------
    InputError
        Where it is no zip, or a graph in it is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # noqa: TID251  (named members are read, nothing is unpacked)
            names = archive.namelist()
            manifest = json.loads(archive.read(MANIFEST)) if MANIFEST in names else {}
            manifest = manifest if isinstance(manifest, dict) else {}
            listed = _listed(manifest, names) if graphs_too else []
            graphs = {name: Graph.from_bytes(archive.read(name), name=f"{path.name}:{name}") for name in listed}
    except (zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name} is not a readable zip ({error})", hint="see `rtserve check`") from None
    return Bundled(names=tuple(names), manifest=manifest, graphs=graphs)


def _listed(manifest: dict[str, Any], names: list[str]) -> list[str]:
    challenges = manifest.get("challenges")
    entries = challenges.values() if isinstance(challenges, dict) else ()
    listed = [str(entry["graph"]) for entry in entries if isinstance(entry, dict) and "graph" in entry]
    return sorted(name for name in names if (name in listed if listed else _UNLISTED.fullmatch(name)))
