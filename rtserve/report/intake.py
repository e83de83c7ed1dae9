"""What of a folder a report takes in: results, runs, checkpoints, graphs and zips, also in the folders inside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from rtserve.errors import InputError
from rtserve.measure.results import load_result

__all__ = ["is_run", "kind_of", "things_in"]

DEPTH = 4
"""Folders inside each other that are looked into: a demo's runs are three deep, a home folder is not walked through."""
_GRAPHS = (".onnx", ".zip")
_RUN_FILES = ("result.json", "run.json")
"""Of a run itself, which is read as a whole."""


def things_in(folder: Path, kinds: Collection[str]) -> list[Path]:
    """Return what a report can be made of in a folder and in those inside it, in the order of their paths.

    Parameters
    ----------
    folder : Path
        A folder that `rtserve train` wrote is itself one of the things; its weights are not named again.
    kinds : collection of str
        Kinds of result that are taken.

    Raises
    ------
    InputError
        Where there is nothing.
    """
    found = list(_walk(folder, kinds, DEPTH))
    if not found:
        raise InputError(f"folder {folder.name} holds no results and no runs", hint="name files written with -o")
    return found


def is_run(path: Path) -> bool:
    """Whether a folder is one that `rtserve train` wrote: one seed's, or that of all seeds."""
    return any(path.glob("best.pth")) or any(path.glob("seed*/best.pth"))


def kind_of(document: dict[str, object]) -> str:
    """Return the kind of a result, e.g. ``"evaluation"``."""
    return str(document["schema"]).split(".")[1].split("/")[0]


def _walk(folder: Path, kinds: Collection[str], depth: int) -> Iterator[Path]:
    from rtserve.graphs.foreign import is_checkpoint

    run = is_run(folder)
    if run:
        yield folder
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            mine = run and is_run(path)
            if depth > 1 and not mine and not path.is_symlink():
                yield from _walk(path, kinds, depth - 1)
        elif path.suffix == ".json":
            if not (run and path.name in _RUN_FILES) and _is_result(path, kinds):
                yield path
        elif path.suffix in _GRAPHS or (not run and is_checkpoint(path)):
            yield path


def _is_result(path: Path, kinds: Collection[str]) -> bool:
    try:
        return kind_of(load_result(path)) in kinds
    except InputError:
        return False
