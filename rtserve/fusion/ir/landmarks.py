"""Which layer of which member a value is: landmarks that ride on values, as what assembly knows of views does.

A member's values are marked when it is prepared, with its number and the node's. What takes a value's place takes its marks
(`rtserve.graphs.fold.replace_value`), so a value of the fused graph that has the mark of layer k is what the members have
behind layer k, and the nodes between two landmarks are the work of the layers between them, however they were rewritten. A
pass that writes a stretch of layers anew carries their marks over itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["SEAMS", "Landmark", "carry", "landmarks", "mark_layers", "rework", "share_out"]

LAYER, SEAMS = "layer ", "seams of views"
"""Marks; a member's number and a node's stand behind the first."""
Place = tuple[int, int]
"""The number of a member among those of the plan, and of one of its nodes."""


@dataclass(frozen=True, kw_only=True)
class Landmark:
    """What is known of a member's value in the fused graph.

    Parameters
    ----------
    views : int
        For how many views it is there.
    work : float or None
        For how many views' worth of work it was computed; None where nobody found out.
    """

    views: int = 1
    work: float | None = None


def mark_layers(model: ir.Model, member: int, *, views: int = 1) -> ir.Model:
    """Mark every value of a member that is prepared, in place; one that has landmarks keeps them. Return the model."""
    values = [(number, value) for number, node in enumerate(model.graph) for value in node.outputs]
    marked = any(landmarks(value) for _, value in values)
    for number, value in values:
        if marked:
            carry(value, [value], views=views)
        else:
            _set(value, {(member, number): Landmark(views=views)})
    return model


def landmarks(value: ir.Value) -> dict[Place, Landmark]:
    """Return what a value is, by member and node."""
    found = {}
    for key, mark in value.meta.items():
        if key.startswith(LAYER):
            member, _, node = key.removeprefix(LAYER).partition(".")
            found[int(member), int(node)] = mark
    return found


def _set(value: ir.Value, marks: Mapping[Place, Landmark]) -> None:
    value.meta.update({f"{LAYER}{member}.{node}": mark for (member, node), mark in marks.items()})


def carry(new: ir.Value | Iterable[ir.Value], olds: Sequence[ir.Value], *, views: int = 0) -> None:
    """Give a value, or the parts of one, the marks of others; `views` says for how many views it is there."""
    marks = {place: mark for old in olds for place, mark in landmarks(old).items()}
    marks = {place: replace(mark, views=views or mark.views) for place, mark in marks.items()}
    seams = [old.meta[SEAMS] for old in olds if SEAMS in old.meta]
    for value in new if isinstance(new, Iterable) else [new]:
        _set(value, marks)
        if seams:
            value.meta[SEAMS] = seams[0]


def share_out(value: ir.Value, places: Mapping[Place, float | None]) -> None:
    """Note for how many views' worth of work a value was computed, by member and node."""
    found = landmarks(value)
    _set(value, {place: replace(found[place], work=work) for place, work in places.items() if place in found})


def rework(value: ir.Value, share: float) -> None:
    """Note that what gives a value computes this share of what all its views would take one by one."""
    _set(value, {place: replace(mark, work=share * mark.views) for place, mark in landmarks(value).items()})
