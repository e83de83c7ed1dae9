"""Operators that compute each moment from the same moment of what they read: pointwise, norms, products, sums."""

from __future__ import annotations

from rtserve.fusion.ir.nodes import axes_of
from rtserve.streaming.asked import Asked, aligned, first_alone
from rtserve.streaming.link import Link, Whole

__all__ = ["along_axis", "broadcast", "dense", "multiplied", "normalised", "reduced", "summed"]


def broadcast(asked: Asked) -> Link | Whole:
    """Pointwise, operands broadcast from the right."""
    tracked = asked.tracked
    if asked.computed_besides():
        return Whole(reason="takes in what all of the window was computed to")
    places = {asked.rank(place) - track.axis for place, track in tracked.items()}
    if len(places) != 1 or len({track.rows for track in tracked.values()}) != 1:
        return Whole(reason="puts time beside itself")
    (back,) = places
    one = next(iter(tracked.values()))
    along = {}
    for place in range(len(asked.node.inputs)):
        array = asked.constant(place)
        if place in tracked or array is None or array.ndim < back:
            continue
        if array.shape[array.ndim - back] != 1:
            if array.shape[array.ndim - back] != one.length or one.rows:
                return Whole(reason="is stretched along time")
            along[place] = array.ndim - back
    axis = len(asked.sizes[asked.node.outputs[0]][0]) - back
    if one.rows and axis != 0:
        return Whole(reason="moves rows of (batch x time)")
    return aligned(asked, axis, rows=one.rows, constants=along)


def normalised(asked: Asked) -> Link | Whole:
    """BatchNormalization: parameters along the channels."""
    track = asked.track(0)
    if (refused := first_alone(asked)) is not None or track is None or track.axis == 1 or track.rows:
        return refused or Whole(reason="scales along time")
    return aligned(asked, track.axis)


def along_axis(asked: Asked) -> Link | Whole:
    """Softmax and its like along one axis, LayerNormalization from one on."""
    track, node = asked.track(0), asked.node
    if (refused := first_alone(asked)) is not None or track is None:
        return refused or Whole(reason="its parameters are computed")
    axis = node.attributes.get_int("axis", -1) % asked.rank(0)
    hit = track.axis >= axis if node.op_type == "LayerNormalization" else track.axis == axis
    if hit or len([out for out in node.outputs if out.name]) > 1:
        return Whole(reason="normalises over time")
    return aligned(asked, track.axis, rows=track.rows)


def reduced(asked: Asked) -> Link | Whole:
    """Sums, means and their like over other axes than time."""
    track, node, axes = asked.track(0), asked.node, axes_of(asked.node)
    if track is None or axes is None:
        return Whole(reason="sums over time")
    gone = {axis % asked.rank(0) for axis in axes}
    if track.axis in gone or not gone or track.rows:
        return Whole(reason="sums over time")
    keep = node.attributes.get_int("keepdims", 1)
    return aligned(asked, track.axis if keep else track.axis - sum(axis < track.axis for axis in gone))


def multiplied(asked: Asked) -> Link | Whole:
    """MatMul with a constant."""
    tracked = asked.tracked
    if len(tracked) != 1 or asked.computed_besides():
        return Whole(reason="weighs moments by what the window holds")
    ((place, track),) = tracked.items()
    rank, other = asked.rank(place), asked.constant(1 - place)
    contracted = rank - 1 if place == 0 else max(rank - 2, 0)
    if other is None or track.axis == contracted or other.ndim != 2 or rank < 2:
        return Whole(reason="weighs every moment by its own weight")
    return aligned(asked, track.axis, rows=track.rows)


def dense(asked: Asked) -> Link | Whole:
    """Gemm on rows of (batch x time)."""
    track, node = asked.track(0), asked.node
    if (refused := first_alone(asked)) is not None or track is None or not track.rows:
        return refused or Whole(reason="weighs every moment by its own weight")
    added = asked.constant(2)
    if node.attributes.get_int("transA", 0) or (added is not None and added.ndim > 1 and added.shape[0] != 1):
        return Whole(reason="weighs every moment by its own weight")
    return aligned(asked, 0, rows=True)


def summed(asked: Asked) -> Link | Whole:
    """Einsum of one operand with columns and constants."""
    tracked, equation = asked.tracked, asked.node.attributes.get_string("equation", "") or ""
    operands, _, result = equation.replace(" ", "").partition("->")
    letters = operands.split(",")
    if len(tracked) != 1 or asked.computed_besides() or not result or "." in equation:
        return Whole(reason="weighs moments by what the window holds")
    ((place, track),) = tracked.items()
    time = letters[place][track.axis]
    others = "".join(part for k, part in enumerate(letters) if k != place)
    if track.rows or time not in result or time in others or letters[place].count(time) != 1:
        return Whole(reason="weighs every moment by its own weight")
    return aligned(asked, result.index(time))
