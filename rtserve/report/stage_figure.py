"""The stages of fused graphs as figures of a report: from what `fuse --json` says, and from the graphs' own files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rtserve.graphs.graph import Graph
from rtserve.graphs.stage_picture import draw_stages, millions, plain, stages_alt
from rtserve.graphs.stages import Stages, stages_of
from rtserve.measure.sides import Side
from rtserve.report.collect import Document
from rtserve.report.figures import Figure

__all__ = ["MOST", "named_stages", "stage_figure"]

MOST = 6
"""Graphs that are drawn."""


def stage_figure(name: str, stages: Stages) -> Figure:
    """Draw the stages of a graph from its input to its answer."""
    rows = [
        (
            plain(one.what),
            plain(one.network),
            one.sharing if stages.recorded else None,
            millions(one.loop) if one.loop is not None else None,
            millions(one.macs) if one.counted else f"{millions(one.macs)} and what is not counted",
            one.nodes,
        )
        for one in stages.stages
    ]
    told = "marked: what views share" if any(one.shared for one in stages.stages) else ""
    return Figure(
        title=f"What {plain(name)} computes, stage by stage",
        svg=draw_stages(stages),
        alt=stages_alt(stages),
        columns=("stage", "network", "branches", "multiply-adds one by one", "in this graph", "nodes"),
        rows=tuple(rows),
        caption=f"From the input down to the answer{'; ' * bool(told)}{told}.",
    )


def named_stages(fusions: Sequence[Document], sides: Sequence[Side]) -> Iterator[tuple[str, Stages]]:
    """Yield name and stages of every graph that was fused, once, and of those made elsewhere.

    A graph that was exported here is one network as it is: there is nothing to show of it.
    """
    files = {side.digest: side for side in sides if side.kind == "graph"}
    seen = set()
    for _, document in fusions:
        told = Stages.from_dict(document.get("stages"))
        digest = document.get("sha256")
        if told is not None and digest not in seen:
            seen.add(digest)
            yield files[digest].name if digest in files else Path(str(document.get("output"))).name, told
    for digest, side in files.items():
        if digest not in seen:
            graph = Graph.load(side.path)
            if graph.provenance.kind != "export":
                yield side.name, stages_of(graph)
