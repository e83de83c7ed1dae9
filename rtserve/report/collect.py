"""What a report is made of: results, runs, checkpoints, graphs and zips, read and sorted by kind."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtserve.errors import BundleError, InputError
from rtserve.files import readable_file
from rtserve.measure.results import load_result
from rtserve.measure.side_records import side_records
from rtserve.measure.sides import Side, read_side
from rtserve.measure.trained import require_asked

__all__ = ["Material", "collect", "load_causes"]

Document = tuple[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that was named, by kind; documents with the name of their file.

    Parameters
    ----------
    evaluations, benches, searches, comparisons, fusions, overalls : list of (str, dict)
        Results; the evaluations within an overall result and of trained seeds are among the evaluations.
    sides : list of Side
        Runs, checkpoints, graphs and zips.
    """

    evaluations: list[Document] = field(default_factory=list)
    benches: list[Document] = field(default_factory=list)
    searches: list[Document] = field(default_factory=list)
    comparisons: list[Document] = field(default_factory=list)
    fusions: list[Document] = field(default_factory=list)
    overalls: list[Document] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)

    def require_custody(self) -> None:
        """Raise where a zip is reported beside scores or times that were not taken on what the zips hold.

        Every result must be about a graph in one of the zips, or about a member of such a graph; and no zip may stand
        beside scores (or times) of which none is its own.

        Raises
        ------
        BundleError
            With both digests.
        """
        zips = [side for side in self.sides if side.kind == "zip" and side.graphs]
        known = {digest for side in zips for digest in (*side.graphs, *side.members)}
        for what, documents in (("score", self.evaluations), ("benchmark", self.benches)) if zips else ():
            cited = [(name, document["graph_sha256"]) for name, document in documents if document.get("graph_sha256")]
            for side in zips:
                if cited and not {digest for _, digest in cited} & set(side.graphs):
                    raise BundleError(
                        f"no {what} named here was taken on a graph of {side.name}: the zip holds {_heads(side.graphs)},"
                        f" the results cite {_heads(digest for _, digest in cited)}",
                        hint=f"take the {what} on the graph in the zip, or leave the zip out",
                    )
            for name, digest in cited:
                if digest not in known:
                    held = ", ".join(f"{side.name} {_heads(side.graphs)}" for side in zips)
                    raise BundleError(
                        f"the {what} {name} was taken on graph {digest[:12]}, which no zip named here holds: {held}",
                        hint=f"take the {what} on the graph in the zip, or report it without the zip",
                    )

    def require_asked(self) -> None:
        """Raise `InputError` where a score is of windows that its graph was trained on and does not say so."""
        for name, document in self.evaluations:
            digest = document.get("graph_sha256")
            mine = [side for side in self.sides if digest and digest in (side.digest, *side.graphs)]
            require_asked(document, [r for side in mine for r in side_records(side.path, str(digest))], name=name)


def _heads(digests: Iterable[str]) -> str:
    return ", ".join(digest[:12] for digest in digests)


def collect(paths: Sequence[str | Path]) -> Material:
    """Read everything named.

    Parameters
    ----------
    paths : sequence of path
        Results (.json), run folders, checkpoints, graphs, zips; a folder without a run is searched for results.

    Raises
    ------
    InputError
        Where one cannot be read, there is nothing, or a score is of training windows and does not say so.
    BundleError
        Where a zip is named beside results of other graphs.
    """
    material = Material()
    for path in map(Path, paths):
        for file in _expanded(path):
            _add(material, file)
    found = (material.evaluations, material.benches, material.searches, material.comparisons, material.fusions)
    if not any((*found, material.sides)):
        raise InputError("nothing to report", hint="name results written with -o, run folders, or zips")
    material.require_custody()
    material.require_asked()
    return material


def _expanded(path: Path) -> list[Path]:
    """Return the path itself, or for a folder of runs and results what is directly in it."""
    if not path.is_dir() or any(path.glob("best.pth")) or any(path.glob("seed*/best.pth")):
        return [path]
    inside = [p for p in sorted(path.iterdir()) if _is_result(p) or (p.is_dir() and _is_run(p))]
    if not inside:
        raise InputError(f"folder {path.name} holds no results and no runs", hint="name files written with -o")
    return inside


_PLAIN = {"bench": "benches", "search": "searches", "comparison": "comparisons", "fuse": "fusions"}
"""Kinds of result that go into the material as they are, and where."""
_KINDS = {"evaluation", "training_result", "overall", *_PLAIN}


def _is_run(path: Path) -> bool:
    return any(path.glob("best.pth")) or any(path.glob("seed*/best.pth"))


def _is_result(path: Path) -> bool:
    if path.suffix != ".json":
        return False
    try:
        return _kind(load_result(path)) in _KINDS
    except InputError:
        return False


def _kind(document: dict[str, Any]) -> str:
    return str(document["schema"]).split(".")[1].split("/")[0]


def _add(material: Material, path: Path) -> None:
    if path.suffix != ".json":
        material.sides.append(read_side(path))
        return
    document = load_result(path)
    kind = _kind(document)
    if kind == "evaluation":
        material.evaluations.append((document["name"], document))
    elif kind == "training_result":
        material.evaluations.append((f"{path.parent.name} {document['test']['name']}", document["test"]))
    elif kind == "overall":
        material.overalls.append((path.name, document))
        material.evaluations.extend((f"C{k}: {document[f'c{k}']['name']}", document[f"c{k}"]) for k in (1, 2))
    elif kind in _PLAIN:
        getattr(material, _PLAIN[kind]).append((path.name, document))
    else:
        raise InputError(f"{path.name} is a {kind}, which a report has no place for", hint="leave it out")


def load_causes(path: str | Path) -> dict[str, str]:
    """Read what was found to be the cause of each attempt: JSON name to text, or CSV with name and cause.

    Raises
    ------
    InputError
        Where the file is neither.
    """
    path = readable_file(path, "causes")
    text = path.read_text(encoding="utf-8-sig")
    hint = 'give {"version": "cause", ...} as JSON, or a CSV with the columns name,cause'
    try:
        if path.suffix == ".json":
            return {str(name): str(cause) for name, cause in dict(json.loads(text)).items()}
        return {row["name"]: row["cause"] for row in csv.DictReader(text.splitlines())}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error})", hint=hint) from None
