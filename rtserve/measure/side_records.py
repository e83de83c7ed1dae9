"""What a side of a comparison was trained on: the records that its graphs and checkpoints carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtserve.graphs.foreign import is_checkpoint
from rtserve.graphs.graph import Graph
from rtserve.measure.bundled import read_bundled
from rtserve.measure.trained import records_of
from rtserve.signals.membership import find_records
from rtserve.spec import TRAINED_ON

__all__ = ["fitting", "side_records"]


def side_records(path: Path, of: str = "") -> list[dict[str, Any]]:
    """Return the records of a run's checkpoints, of a checkpoint, of a graph, or of the graphs in a zip.

    Parameters
    ----------
    path : Path
        A run folder, checkpoint, graph or zip; of anything else nothing is known.
    of : str
        A target or a graph's digest: of a zip with several graphs those that answer it or have it, where any does.
    """
    if path.is_dir():
        files = sorted(path.glob("best.pth")) or sorted(path.glob("seed*/best.pth"))
        return find_records([{TRAINED_ON: record} for file in files for record in side_records(file)])
    if is_checkpoint(path):
        from rtserve.graphs.checkpoint import load_checkpoint

        return find_records({TRAINED_ON: load_checkpoint(path, first=True).trained_on})
    if path.suffix == ".zip":
        return records_of(*fitting(list(read_bundled(path).graphs.values()), of))
    return records_of(Graph.load(path)) if path.suffix == ".onnx" else []


def fitting(graphs: list[Graph], of: str) -> list[Graph]:
    """Return the graphs that answer a target or have a digest, or all where none does."""
    return [graph for graph in graphs if of and of in (graph.output_spec.target, graph.digest)] or graphs
