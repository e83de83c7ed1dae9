"""Stages of a graph from its input to its answer: what each is, what it costs, and what its branches share of it.

A fused graph carries the record of its own fusion (`rtserve.fusion.run.stages` makes it). Of a graph that carries none the
stages are its layers, and what is shared in them is not known.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

from rtserve.files import canonical_json
from rtserve.graphs.layers import layers_of
from rtserve.graphs.macs import Cost, node_costs, renew_shapes

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph

__all__ = ["Stage", "Stages", "stages_of"]

SCHEMA = 1
LONGEST = 240
"""Characters of a text that are kept."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a graph.

    Parameters
    ----------
    what : str
        In words.
    network : str
        Of which network it is; empty where it is of none.
    members, views : int
        For how many of them it is computed; 0 where it is of none.
    work : float or None
        How many views' worth of work that takes; `views` where nothing is shared, None where it is not known.
    macs : int
        Multiply-adds per window in this graph.
    loop : int or None
        The same where every branch is run by itself as it was exported; None where it is not known.
    nodes : int
        How many nodes of this graph it is.
    counted : bool
        Whether all its multiply-adds are counted.
    """

    what: str
    network: str = ""
    members: int = 0
    views: int = 0
    work: float | None = None
    macs: int = 0
    loop: int | None = None
    nodes: int = 0
    counted: bool = True

    @property
    def branches(self) -> int:
        """Members x views."""
        return self.members * self.views

    @property
    def shared(self) -> bool:
        """Whether several views need less work than each of them by itself."""
        return self.views > 1 and self.work is not None and self.work < self.views - 0.005

    @property
    def sharing(self) -> str:
        """What is shared, in words; empty where there is nothing to say."""
        if not self.branches:
            return ""
        of = f"{self.members} member{'s' * (self.members > 1)} x {self.views} view{'s' * (self.views > 1)}"
        if self.branches == 1:
            return "one branch"
        if self.views == 1:
            return f"{of}: each member by itself"
        if self.work is None:
            return f"{of}: sharing not known"
        if not self.shared:
            return f"{of}: each view by itself"
        if self.work <= 1.0:
            return f"{of}: one computation for all views"
        return f"{of}: the work of {self.work:.1f} views serves all {self.views}"


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The stages of a graph in order.

    Parameters
    ----------
    stages : tuple of Stage
        Together they are all nodes of the graph.
    recorded : bool
        Whether what is shared is known: it was recorded when the graph was fused, or the graph is one network as exported.
    """

    stages: tuple[Stage, ...]
    recorded: bool = True

    @property
    def macs(self) -> int:
        """Multiply-adds per window."""
        return sum(stage.macs for stage in self.stages)

    @property
    def loop(self) -> int | None:
        """The same of every branch run by itself; None where it is not known."""
        known = [stage.loop for stage in self.stages if stage.loop is not None]
        return sum(known) if known and self.recorded else None

    @property
    def nodes(self) -> int:
        """Nodes of the graph."""
        return sum(stage.nodes for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Return the stages as JSON values; `from_dict` reads them back."""
        rows = [list(astuple(stage)) for stage in self.stages]
        return {"schema": SCHEMA, "columns": [field.name for field in fields(Stage)], "rows": rows}

    def to_json(self) -> str:
        """Return the stages as canonical JSON; `from_json` reads it back."""
        return canonical_json(self.to_dict())

    @classmethod
    def from_dict(cls, told: Any) -> Stages | None:
        """Read what `to_dict` wrote; None where it is something else, or a later version's."""
        try:
            if told["schema"] != SCHEMA or told["columns"] != [field.name for field in fields(Stage)]:
                return None
            return cls(stages=tuple(map(_read, told["rows"])))
        except (TypeError, ValueError, KeyError, OverflowError):
            return None

    @classmethod
    def from_json(cls, text: str) -> Stages | None:
        """Read what `to_json` wrote; None where it cannot be read: a picture is no reason to refuse a graph."""
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError):
            return None


def _read(row: Any) -> Stage:
    what, network, members, views, work, macs, loop, nodes, counted = row
    if any(
        type(value) is not int or value < 0 for value in (members, views, macs, nodes, *([loop] * (loop is not None)))
    ):
        raise ValueError("counts are whole numbers")
    if work is not None and not 0 <= float(work) < float("inf"):
        raise ValueError("work is a number")
    return Stage(
        what=str(what)[:LONGEST],
        network=str(network)[:LONGEST],
        members=members,
        views=views,
        work=None if work is None else float(work),
        macs=macs,
        loop=loop,
        nodes=nodes,
        counted=bool(counted),
    )


def stages_of(graph: Graph) -> Stages:
    """Return the stages that a graph carries, or its layers where it carries none, or another graph's."""
    nodes, costs, told = graph.model.graph.num_nodes(), node_costs(graph.model), graph.stages
    if told is not None and told.nodes == nodes and told.macs == sum(cost.macs for cost in costs):
        return told
    try:
        stages = _layers(graph.clone_model(), costs)
    except (TypeError, ValueError, IndexError, KeyError):  # attributes that no operator has
        stages = (Stage(what=f"{nodes} nodes", macs=sum(cost.macs for cost in costs), nodes=nodes),)
    return Stages(stages=stages, recorded=graph.provenance.kind == "export")


def _layers(model: ir.Model, costs: list[Cost]) -> tuple[Stage, ...]:
    renew_shapes(model)
    return tuple(
        Stage(
            what=layer.what,
            macs=sum(cost.macs for cost in costs[layer.first : layer.last + 1]),
            nodes=layer.last + 1 - layer.first,
            counted=layer.counted and all(cost.counted for cost in costs[layer.first : layer.last + 1]),
        )
        for layer in layers_of(model)
    )
