"""Operators that lay moments elsewhere and compute nothing: other axes, other shapes, pieces cut out and put together."""

from __future__ import annotations

import math

import numpy as np

from rtserve.fusion.ir.nodes import axes_of
from rtserve.streaming.asked import Asked, aligned
from rtserve.streaming.columns import NONE
from rtserve.streaming.link import PICKED, Link, Reading, Whole

__all__ = ["gathered", "joined", "padded", "reshaped", "sliced", "split", "squeezed", "transposed"]


def transposed(asked: Asked) -> Link | Whole:
    """Transpose."""
    track = asked.track(0)
    assert track is not None
    perm = asked.node.attributes.get_ints("perm") or tuple(reversed(range(asked.rank(0))))
    if track.rows and perm[0] != 0:
        return Whole(reason="moves rows of (batch x time)")
    return aligned(asked, list(perm).index(track.axis), rows=track.rows)


def squeezed(asked: Asked) -> Link | Whole:
    """Squeeze and Unsqueeze."""
    track, axes, node = asked.track(0), axes_of(asked.node), asked.node
    if track is None or axes is None or track.rows:
        return Whole(reason="its axes are computed")
    if node.op_type == "Unsqueeze":
        rank = asked.rank(0) + len(axes)
        kept = [axis for axis in range(rank) if axis not in {a % rank for a in axes}]
        return aligned(asked, kept[track.axis])
    gone = {axis % asked.rank(0) for axis in axes}
    if track.axis in gone:
        return Whole(reason="is the one moment that is left of time")
    return aligned(asked, track.axis - sum(axis < track.axis for axis in gone))


def reshaped(asked: Asked) -> Link | Whole:
    """Reshape and Flatten that leave time an axis of its own, or put it behind the batch in one."""
    track, node = asked.track(0), asked.node
    if track is None or (node.op_type == "Reshape" and asked.constant(1) is None):
        return Whole(reason="its shape is computed")
    before, after = asked.sizes.get(node.inputs[0]), asked.sizes[node.outputs[0]]  # type: ignore[arg-type]
    if before is None or 0 in (*before[0], *after[0]):
        return Whole(reason="its shape is not known")
    n, rows = track.length, track.rows
    front = [math.prod(dims[: track.axis]) if not rows else dims[0] // n for dims in before]
    behind = [math.prod(dims[track.axis + 1 :]) for dims in before]
    for axis in range(len(after[0])):
        ahead = [math.prod(dims[:axis]) for dims in after]
        if ahead == front and all(dims[axis] == n for dims in after) and (node.op_type == "Reshape"):
            return aligned(asked, axis)
    merged = [f * n for f in front] == [dims[0] for dims in after] and front[0] != front[1]
    if merged and [math.prod(dims[1:]) for dims in after] == behind and node.op_type == "Reshape":
        return aligned(asked, 0, rows=True)
    return Whole(reason="lays time out beside channels")


def _picked(asked: Asked, index: np.ndarray, axis: int, outputs: tuple[int, ...] = ()) -> Link:
    """Return the link of an output whose columns are those of the first operand that an index names."""
    return Link(kind=PICKED, axis=axis, readings=(Reading(place=0, index=index[:, None]),), outputs=outputs)


def sliced(asked: Asked) -> Link | Whole:
    """Slice along time or along other axes."""
    track = asked.track(0)
    starts, ends, axes, steps = (asked.constant(k) for k in range(1, 5))
    if track is None or track.rows or starts is None or ends is None:
        return Whole(reason="cuts where the window says")
    rank = asked.rank(0)
    along = [int(a) % rank for a in (axes if axes is not None else range(len(starts)))]
    if track.axis not in along:
        return aligned(asked, track.axis)
    if len(along) > 1:
        return Whole(reason="cuts time and another axis at once")
    step = int(steps[0]) if steps is not None else 1
    cut = slice(int(starts[0]), int(ends[0]), step)
    if step < 0 and int(ends[0]) < -track.length:
        cut = slice(int(starts[0]), None, step)
    return _picked(asked, np.arange(track.length)[cut], track.axis)


def gathered(asked: Asked) -> Link | Whole:
    """Gather with a constant index."""
    track, index = asked.track(0), asked.constant(1)
    if track is None or index is None or track.rows or asked.track(1) is not None:
        return Whole(reason="picks what the window says")
    axis = (asked.node.attributes.get_int("axis", 0) or 0) % asked.rank(0)
    if axis != track.axis:
        return aligned(asked, track.axis + (index.ndim - 1 if axis < track.axis else 0))
    if index.ndim == 0:
        return Whole(reason="is the one moment that is left of time", needs={0: int(index) % track.length})
    if index.ndim > 1:
        return Whole(reason="lays time out in a table")
    return _picked(asked, index.astype(np.int64) % track.length, axis)


def padded(asked: Asked) -> Link | Whole:
    """Pad, of time alone or of other axes alone."""
    track, pads, value, axes = asked.track(0), asked.constant(1), asked.constant(2), asked.constant(3)
    if track is None or pads is None or track.rows or asked.computed_besides():
        return Whole(reason="pads by what the window says")
    rank = asked.rank(0)
    along = [int(a) % rank for a in axes] if axes is not None else list(range(rank))
    around = {a: (int(pads[k]), int(pads[len(along) + k])) for k, a in enumerate(along)}
    before, behind = around.pop(track.axis, (0, 0))
    if not before and not behind:
        return aligned(asked, track.axis)
    if any(pair != (0, 0) for pair in around.values()):
        return Whole(reason="pads time and another axis at once")
    mode = asked.node.attributes.get_string("mode", "constant")
    if mode == "constant" and value is not None and float(np.ravel(value)[0]) != 0.0:
        return Whole(reason="pads with another number than zero")
    index = np.arange(track.length)[max(-before, 0) : track.length - max(-behind, 0)]
    around_it = (max(before, 0), max(behind, 0))
    if mode == "constant":
        return _picked(asked, np.pad(index, around_it, constant_values=NONE), track.axis)
    return _picked(asked, np.pad(index, around_it, mode=mode), track.axis)  # type: ignore[call-overload]


def joined(asked: Asked) -> Link | Whole:
    """Concat along another axis, or of pieces of time."""
    tracked, node = asked.tracked, asked.node
    if asked.computed_besides() or any(track.rows for track in tracked.values()):
        return Whole(reason="puts beside it what all of the window was computed to")
    if len({track.axis for track in tracked.values()}) != 1:
        return Whole(reason="puts time beside itself")
    one = next(iter(tracked.values()))
    axis = (node.attributes.get_int("axis", 0) or 0) % asked.rank(next(iter(tracked)))
    if axis != one.axis:
        along = {}
        for place in range(len(node.inputs)):
            if place not in tracked and (array := asked.constant(place)) is not None:
                if array.shape[one.axis] != one.length:
                    return Whole(reason="is stretched along time")
                along[place] = one.axis
        return aligned(asked, one.axis, constants=along)
    if len(tracked) != len(node.inputs):
        return Whole(reason="puts constants behind or in front of time")
    total, readings, first = sum(track.length for track in tracked.values()), [], 0
    for place, track in tracked.items():
        index = np.full(total, NONE)
        index[first : first + track.length] = np.arange(track.length)
        first += track.length
        readings.append(Reading(place=place, index=index[:, None]))
    return Link(kind=PICKED, axis=axis, readings=tuple(readings))


def split(asked: Asked) -> Link | Whole:
    """Split along time or along another axis."""
    track, node = asked.track(0), asked.node
    if track is None or track.rows or asked.computed_besides():
        return Whole(reason="cuts where the window says")
    axis = (node.attributes.get_int("axis", 0) or 0) % asked.rank(0)
    if axis != track.axis:
        return aligned(asked, track.axis)
    lengths = [asked.sizes[out][0][axis] for out in node.outputs]
    return _picked(asked, np.arange(track.length), axis, outputs=(0, *np.cumsum(lengths).tolist()))
