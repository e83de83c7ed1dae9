"""What a report is made of: results, runs, checkpoints, graphs and zips, read and sorted by kind."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtserve.errors import BundleError, InputError, RtserveError
from rtserve.files import readable_file
from rtserve.measure.results import load_result
from rtserve.measure.side_records import side_records
from rtserve.measure.sides import Side, read_side
from rtserve.measure.trained import require_asked
from rtserve.report.intake import is_run, kind_of, things_in
from rtserve.stages import Stages, Tell

__all__ = ["Material", "collect", "load_causes"]

Document = tuple[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that was named, by kind; documents with the name of their file.

    Parameters
    ----------
    evaluations, benches, searches, comparisons, fusions, streams, overalls : list of (str, dict)
        Results; the evaluations within an overall result and of trained seeds are among the evaluations.
    sides : list of Side
        Runs, checkpoints, graphs and zips.
    notes : list of str
        What was found in a folder and is not in the report, or does not belong together, and why.
    """

    evaluations: list[Document] = field(default_factory=list)
    benches: list[Document] = field(default_factory=list)
    searches: list[Document] = field(default_factory=list)
    comparisons: list[Document] = field(default_factory=list)
    fusions: list[Document] = field(default_factory=list)
    streams: list[Document] = field(default_factory=list)
    overalls: list[Document] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def custody_problems(self) -> list[tuple[Side, BundleError]]:
        """Return where a zip stands beside scores or times that were not taken on what the zips hold, by zip.

        Every result must be about a graph in one of the zips, about a member of such a graph, or about a graph whose
        file is here too; and no zip may stand beside scores (or times) of which none is its own.
        """
        zips = [side for side in self.sides if side.kind == "zip" and side.graphs]
        known = {digest for side in zips for digest in (*side.graphs, *side.members)}
        known |= {side.digest for side in self.sides if side.kind == "graph"}
        held = ", ".join(f"{side.name} {_heads(side.graphs)}" for side in zips)
        problems = []
        for what, documents in (("score", self.evaluations), ("benchmark", self.benches)):
            cited = [(name, document["graph_sha256"]) for name, document in documents if document.get("graph_sha256")]
            for side in zips:
                if cited and not {digest for _, digest in cited} & set(side.graphs):
                    error = BundleError(
                        f"no {what} named here was taken on a graph of {side.name}: the zip holds {_heads(side.graphs)},"
                        f" the results cite {_heads(digest for _, digest in cited)}",
                        hint=f"take the {what} on the graph in the zip, or leave the zip out",
                    )
                    problems.append((side, error))
            for name, digest in cited:
                if digest not in known:
                    error = BundleError(
                        f"the {what} {name} was taken on graph {digest[:12]}, which no zip named here holds: {held}",
                        hint=f"take the {what} on the graph in the zip, or report it without the zip",
                    )
                    problems += [(side, error) for side in zips]
        return problems

    def require_asked(self) -> None:
        """Raise `InputError` where a score is of windows that its graph was trained on and does not say so."""
        for name, document in self.evaluations:
            digest = document.get("graph_sha256")
            mine = [side for side in self.sides if digest and digest in (side.digest, *side.graphs)]
            require_asked(document, [r for side in mine for r in side_records(side.path, str(digest))], name=name)


def _heads(digests: Iterable[str]) -> str:
    return ", ".join(digest[:12] for digest in digests)


def collect(paths: Sequence[str | Path], *, progress: Tell | None = None) -> Material:
    """Read everything named.

    What is found in a folder and cannot be read, or does not belong to the results beside it, is a note of the report;
    what is named itself is refused.

    Parameters
    ----------
    paths : sequence of path
        Results (.json), run folders, checkpoints, graphs, zips, or folders of them.
    progress : callable, optional
        Called with (files done, files in all, which is being read).

    Raises
    ------
    InputError
        Where one cannot be read, there is nothing, or a score is of training windows and does not say so.
    BundleError
        Where a zip is named beside results of other graphs.
    """
    material = Material()
    left: dict[Path, RtserveError] = {}
    given = [Path(path) for path in paths]
    files = _files(given)
    stages = Stages(progress)
    stages.expect(len(files))
    for file, required in files.values():
        stages.begin(file.name)
        error = _take(material, file, required=required)
        left |= {file: error} if error else {}
    if not any((material.evaluations, material.sides, *(getattr(material, each) for each in _PLAIN.values()))):
        raise InputError("nothing to report", hint="name results written with -o, run folders, or zips")
    _drop_steps(material, left)
    for side, problem in material.custody_problems():
        if side.path in given:
            raise problem
        material.notes.append(f"{side.name}: {problem.message}")
    material.require_asked()
    return material


def _files(given: Sequence[Path]) -> dict[Path, tuple[Path, bool]]:
    """Return what is read, each once, and whether it was named itself."""
    found: dict[Path, tuple[Path, bool]] = {}
    for path in given:
        folder = path.is_dir() and not is_run(path)
        for file in things_in(path, _KINDS) if path.is_dir() else [path]:
            found.setdefault(file.resolve(), (file, not folder and file == path))
    return found


def _take(material: Material, path: Path, *, required: bool) -> RtserveError | None:
    """Add a file or run; return why not where one that was not named itself cannot be read."""
    try:
        _add(material, path)
    except RtserveError as error:
        if required:
            raise
        return error
    return None


def _drop_steps(material: Material, left: Mapping[Path, RtserveError]) -> None:
    """Note what was left out, but the step graphs whose own report is here: they are in it by that."""
    steps = {document.get("sha256") for _, document in material.streams}
    for path, error in left.items():
        if not (steps and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() in steps):
            why = error.message.replace(str(path), path.name)
            material.notes.append(f"{path.name} was found and is left out: {why}")


_PLAIN = {"bench": "benches", "search": "searches", "comparison": "comparisons", "fuse": "fusions", "stream": "streams"}
"""Kinds of result that go into the material as they are, and where."""
_KINDS = {"evaluation", "training_result", "overall", *_PLAIN}


def _add(material: Material, path: Path) -> None:
    if path.suffix != ".json":
        material.sides.append(read_side(path))
        return
    document = load_result(path)
    kind = kind_of(document)
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
