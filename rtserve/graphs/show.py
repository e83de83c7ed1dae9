"""A graph in one line and in a notebook: what it takes and gives, what it was made of, what was proven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rtserve.display import card, cut
from rtserve.graphs.stage_picture import draw_stages
from rtserve.graphs.stages import stages_of

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph

__all__ = ["graph_card", "graph_line"]

_SIZE = (
    "display:block;width:100%;max-width:34em;height:auto;margin-top:0.6em;--ink:currentColor;"
    "--muted:color-mix(in srgb, currentColor 70%, transparent);--first:rgb(47,129,201);--second:rgb(207,106,50)"
)
"""The picture follows the page's own colour, light or dark; the two others are readable on both."""


def graph_line(graph: Graph) -> str:
    """Return one line; nothing is run, and nothing as long as the model is gone through."""
    return f"<Graph {_made(graph)}: {graph.input_spec} -> {graph.output_spec}; {graph.n_parameters:,} numbers stored>"


def graph_card(graph: Graph) -> str:
    """Return HTML with specs, members, views, merge, what was proven, and a picture of the stages."""
    details = graph.provenance.details
    plan: Mapping[str, Any] = details.get("plan", {})
    views = [str(view.get("name")) for view in plan.get("views", ())]
    rows = [
        ("takes", graph.input_spec),
        ("channels", cut(graph.input_spec.ch_names, 16)),
        ("gives", graph.output_spec),
        ("members", _members(details)),
        ("views", f"{len(views)}: {cut(views)}" if views else ""),
        ("merge", plan.get("merge", {}).get("kind", "")),
        ("passes", cut([str(one) for one in details.get("passes", ())], 12)),
        ("made of", _source(details)),
        ("parity", _proven(graph)),
        ("size", f"{graph.n_parameters:,} numbers stored, {graph.model.graph.num_nodes()} nodes"),
        ("sha256", graph.digest[:12]),
    ]
    notes = [f"its answers depend on the batch: {graph.coupling}"] * bool(graph.coupling)
    return card(f"Graph ({_made(graph)})", rows, notes, picture=draw_stages(stages_of(graph), size=_SIZE))


def _made(graph: Graph) -> str:
    details, kind = graph.provenance.details, graph.provenance.kind
    if kind == "fuse":
        plan = details.get("plan", {})
        return f"fused of {len(details.get('members', ()))} members x {len(plan.get('views', ()))} views"
    if kind == "export":
        return f"exported from {details.get('network', 'a network')}"
    return f"made elsewhere{' by ' + str(details['producer']) if details.get('producer') else ''}"


def _members(details: Mapping[str, Any]) -> str:
    members = details.get("members", ())
    named = [
        f"{member.get('provenance', {}).get('details', {}).get('network', 'graph')} {str(member.get('digest', ''))[:12]}"
        for member in members
    ]
    return f"{len(named)}: {cut(named)}" if named else ""


def _source(details: Mapping[str, Any]) -> str:
    checkpoint = details.get("checkpoint") or {}
    exporter = details.get("exporter")
    parts = [str(checkpoint.get("name", "")), f"through {exporter}" if exporter else ""]
    quirks = [str(quirk.get("name", "")) for quirk in details.get("quirks", ())]
    return " ".join(filter(None, parts)) + (f"; quirks: {cut(quirks)}" if quirks else "")


def _proven(graph: Graph) -> str:
    """Return what making it insisted on, and what it carries for whoever runs it: no claim about an engine not asked."""
    made = {
        "export": "equal to its network in float64 when it was exported",
        "fuse": "equal to its members, views and merge in float64 when it was fused",
    }.get(graph.provenance.kind, "not compared with anything here")
    carried = f"; carries reference answers to {len(graph.answers.values)} windows" if graph.answers else ""
    return made + carried
