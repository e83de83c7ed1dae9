"""The record of a fusion by stages: what every layer of the members became, what it costs now, and what it cost in a loop.

Landmarks (`rtserve.fusion.ir.landmarks`) say which values of the fused graph are which of the members'. A node belongs to
the first landmark that it leads to. A layer that has no landmark any more was written into the one behind it, and both are
one stage; what leads to no landmark is the merge.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from rtserve.fusion.ir.landmarks import SEAMS, Landmark, landmarks, share_out
from rtserve.fusion.program.stack import signature
from rtserve.fusion.run.running import DEFECTS, failed
from rtserve.graphs.layers import Layer, layers_of
from rtserve.graphs.macs import Cost, node_costs, renew_shapes
from rtserve.graphs.stages import LONGEST, Stage, Stages

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.fusion.plan import FusionPlan
    from rtserve.graphs.graph import Graph

__all__ = ["Networks", "networks_of", "note_work", "recorded"]

UNNAMED = {"fuse": "a fused graph", "foreign": "a graph made elsewhere"}
NAMED = 4
"""Layers that are named in one stage."""


@contextmanager
def _spared() -> Iterator[None]:
    """Let a function give None where it fails: a picture is no reason to refuse a fusion."""
    try:
        yield
    except DEFECTS as error:
        failed(error)


class Key(NamedTuple):
    """Which stage: of which network, its last layer, and whether it is the seams of views in front of that."""

    network: int
    layer: int
    seams: bool = False


@dataclass(kw_only=True)
class _Found:
    """What belongs to a stage: its nodes' operators and costs, of which members they are, and what is known of the last."""

    costs: list[tuple[str, Cost]] = field(default_factory=list)
    members: set[int] = field(default_factory=set)
    mark: Landmark = field(default_factory=Landmark)

    @property
    def macs(self) -> int:
        """Multiply-adds of the nodes."""
        return sum(cost.macs for _, cost in self.costs)

    def numbers(self, operators: set[str]) -> int:
        """Return how many numbers the nodes of some operators give."""
        return sum(cost.numbers for operator, cost in self.costs if operator in operators)


@dataclass(frozen=True, kw_only=True, eq=False)
class Networks:
    """The plain members: alike ones are one network, whose layers have names and costs.

    Parameters
    ----------
    plan : FusionPlan
        What is fused of them.
    of : dict
        Which network a member is, by its number in the plan.
    names, layers : list
        What every network is called, and its layers.
    macs : dict
        The multiply-adds of a member's layers, by its number.
    """

    plan: FusionPlan
    of: dict[int, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    layers: list[list[Layer]] = field(default_factory=list)
    macs: dict[int, list[int]] = field(default_factory=dict)

    def place(self, member: int, node: int) -> Key:
        """Return the stage that ends with the layer of a member's node."""
        network = self.of[member]
        return Key(network, bisect_right([layer.first for layer in self.layers[network]], node) - 1)

    def loop(self, network: int, layers: range) -> int:
        """Return the multiply-adds of some layers where every branch of the plan is run by itself."""
        mine = [m for m in map(self.plan.distinct.__getitem__, self.plan.members) if self.of[m] == network]
        return len(self.plan.views) * sum(self.macs[member][layer] for member in mine for layer in layers)

    def words(self, network: int, layers: range) -> str:
        """Return what some layers are, together."""
        these = [self.layers[network][layer] for layer in layers]
        named = list(dict.fromkeys(one.what for one in [one for one in these if one.mains] or these))
        more = len(named) - NAMED
        return (" + ".join(named[:NAMED]) + (f" and {more} more" if more > 0 else ""))[:LONGEST]


@_spared()
def networks_of(members: Mapping[str, ir.Model], graphs: Sequence[Graph], plan: FusionPlan) -> Networks | None:
    """Return what the members of a plan are, prepared and by digest, before anything is rewritten."""
    networks = Networks(plan=plan)
    alike: dict[str, int] = {}
    for digest, number in plan.distinct.items():
        renew_shapes(model := members[digest].clone())
        network = networks.of[number] = alike.setdefault(signature(model), len(alike))
        if network == len(networks.layers):
            told, kind = graphs[number].provenance.details.get("network"), graphs[number].provenance.kind
            networks.names.append(str(told or UNNAMED.get(kind, "a network"))[:LONGEST])
            networks.layers.append(layers_of(model))
        costs = [cost.macs for cost in node_costs(model)]
        networks.macs[number] = [sum(costs[one.first : one.last + 1]) for one in networks.layers[network]]
    return networks


def _stages(model: ir.Model, networks: Networks) -> dict[Key | None, _Found]:
    """Return what belongs to every stage of a model; None stands for the merge."""
    found: dict[Key | None, _Found] = {}
    key_of: dict[ir.Node, Key | None] = {}
    for node, cost in zip(reversed(model.graph), reversed(node_costs(model)), strict=True):
        marks = {place: mark for value in node.outputs for place, mark in landmarks(value).items()}
        behind = [key for out in node.outputs for reader in out.consumers() if (key := key_of.get(reader)) is not None]
        key = max(networks.place(*place) for place in marks) if marks else min(behind, default=None)
        if key is not None and not marks and any(SEAMS in value.meta for value in node.outputs):
            key = key._replace(seams=True)
        key_of[node] = key
        here = found.setdefault(key, _Found())
        here.costs.append((node.op_type, cost))
        here.members |= {member for member, _ in marks}
        if marks and here.mark == Landmark():
            here.mark = marks[max(marks)]
    return found


def _covered(found: Mapping[Key | None, _Found], networks: Networks) -> dict[Key, range]:
    """Return which layers every stage is, seams aside: those in front that have no stage of their own, and itself."""
    spans: dict[Key, range] = {}
    for network, layers in enumerate(networks.layers):
        mine = sorted(key for key in found if key is not None and key.network == network and not key.seams)
        for low, key in zip([-1, *(key.layer for key in mine)], mine, strict=False):
            last = key.layer if key is not mine[-1] else len(layers) - 1
            spans[key] = range(low + 1, last + 1)
    return spans


@_spared()
def note_work(model: ir.Model, members: Mapping[str, ir.Model], networks: Networks | None) -> None:
    """Note on the landmarks of an assembled model for how many views' worth of work each stage is computed, in place.

    That is what it costs against what it costs once for every member by itself, rewritten as it is: in multiply-adds, or
    in numbers given where there are none.

    Parameters
    ----------
    model : onnx_ir.Model
        Before an engine's own rewrites, which change what a computation costs and not how often it is done.
    members : mapping of str to Model
        The members, as they were assembled, by digest.
    networks : Networks or None
        What they were; nothing is noted where that is not known.
    """
    if networks is None:
        return
    alone = {networks.plan.distinct[digest]: _stages(one, networks) for digest, one in members.items()}
    found = _stages(model, networks)
    works: dict[Key, float | None] = {}
    for key, layers in _covered(found, networks).items():
        once = [
            one
            for member, stages in alone.items()
            if member in found[key].members
            for own, one in stages.items()
            if own is not None and own.layer in layers and networks.of[member] == key.network
        ]
        works[key] = _work(found[key], once, networks.layers[key.network], layers)
    for value in (value for node in model.graph for value in node.outputs):
        marks = {place: networks.place(*place) for place in landmarks(value)}
        share_out(value, {place: works.get(key) for place, key in marks.items()})


def _work(found: _Found, once: Sequence[_Found], layers: Sequence[Layer], covered: range) -> float | None:
    macs = sum(one.macs for one in once)
    if macs:
        return found.macs / macs
    mains = {main for layer in covered for main in layers[layer].mains}
    numbers, given = sum(one.numbers(mains) for one in once), found.numbers(mains)
    return given / numbers if given and numbers else None


@_spared()
def recorded(model: ir.Model, networks: Networks | None) -> Stages | None:
    """Return the stages of a fused model, in the order in which they are computed; they add up to its nodes.

    Parameters
    ----------
    model : onnx_ir.Model
        With its landmarks.
    networks : Networks or None
        The members as they were; there is no record where that is not known.
    """
    if networks is None:
        return None
    found = _stages(model, networks)
    spans = _covered(found, networks)
    stages = [_stage(found[key], key, spans, networks) for key in sorted(k for k in found if k is not None)]
    gone = [
        Stage(what="left out: its branches weigh nothing", network=networks.names[n],
              loop=networks.loop(n, range(len(layers))))
        for n, layers in enumerate(networks.layers) if all(key.network != n for key in spans)
    ]  # fmt: skip
    merge = _merge_words(networks.plan)
    if None in found:
        stages.append(Stage(what=merge or "answer", macs=found[None].macs, nodes=len(found[None].costs)))
    elif merge and stages:  # it was written into the last layer
        stages[-1] = replace(stages[-1], what=f"{stages[-1].what} + {merge}"[:LONGEST])
    return Stages(stages=(*stages, *gone))


def _stage(found: _Found, key: Key, spans: Mapping[Key, range], networks: Networks) -> Stage:
    name, layers = networks.names[key.network], spans.get(key, range(0))
    if key.seams:
        return Stage(what="view seams: windows across the joints of moved views", network=name,
                     macs=found.macs, nodes=len(found.costs))  # fmt: skip
    work = found.mark.work
    return Stage(
        what=networks.words(key.network, layers),
        network=name,
        members=len(found.members),
        views=found.mark.views,
        work=None if work is None else round(work, 4),
        macs=found.macs,
        loop=networks.loop(key.network, layers),
        nodes=len(found.costs),
        counted=all(cost.counted for _, cost in found.costs)
        and all(networks.layers[key.network][layer].counted for layer in layers),
    )


def _merge_words(plan: FusionPlan) -> str:
    kind = f"{plan.merge.kind} mean" if plan.merge.kind in ("weighted", "trimmed") else plan.merge.kind
    of = f" of {plan.merge.average}" if plan.merge.average else ""
    steps = [f"{kind}{of} of {plan.n_branches} branches"] if plan.n_branches > 1 else []
    return ", ".join([*steps, *(["calibration"] if plan.calibration else [])])
