"""What every operator does along time: a table from operator to how its columns follow from those it reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.ir.nodes import auto_padded, axes_of
from rtserve.fusion.ir.traits import Trait, operators
from rtserve.graphs.fold import constant
from rtserve.streaming.columns import NONE
from rtserve.streaming.link import ALIGNED, PICKED, SLID, Link, Reading, Slide, Track, Whole

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Sizes", "link_of"]

Sizes = Mapping["ir.Value", tuple[tuple[int, ...], tuple[int, ...]]]
"""Shape of a value at two batch sizes; what is not known is not in it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """A node, and what is known of what it reads."""

    node: ir.Node
    tracks: Mapping[ir.Value, Track]
    sizes: Sizes

    def track(self, place: int) -> Track | None:
        """Return where time lies in an operand; None where it has none."""
        inputs = self.node.inputs
        value = inputs[place] if place < len(inputs) else None
        return self.tracks.get(value) if value is not None else None

    @property
    def tracked(self) -> dict[int, Track]:
        """The operands that have columns."""
        found = {place: self.track(place) for place in range(len(self.node.inputs))}
        return {place: track for place, track in found.items() if track is not None}

    def constant(self, place: int) -> np.ndarray | None:
        """Return a constant operand."""
        return constant(self.node.inputs[place]) if place < len(self.node.inputs) else None

    def computed_besides(self) -> bool:
        """Whether an operand is computed and has no columns: it is another one in every window."""
        rest = [v for p, v in enumerate(self.node.inputs) if v is not None and p not in self.tracked]
        return any(constant(value) is None for value in rest)

    def rank(self, place: int) -> int:
        """Return how many axes an operand has."""
        value = self.node.inputs[place]
        return len(self.sizes[value][0]) if value in self.sizes else len(value.shape or ())  # type: ignore[index, union-attr]


def link_of(node: ir.Node, tracks: Mapping[ir.Value, Track], sizes: Sizes) -> Link | Whole:
    """Return how the columns of a node's outputs follow from those it reads, or why they do not.

    Parameters
    ----------
    node : Node
        One that reads at least one value with columns.
    tracks : mapping
        Where time lies in the values that have columns.
    sizes : mapping
        Shapes.
    """
    asked = _Asked(node=node, tracks=tracks, sizes=sizes)
    reader = _READERS.get(node.op_type)
    if reader is None:
        return Whole(reason="mixes time")
    if any(out not in sizes for out in node.outputs if out.name):
        return Whole(reason="its shape is not known")
    return reader(asked)


def _aligned(
    asked: _Asked, axis: int, *, rows: bool = False, constants: Mapping[int, int] | None = None
) -> Link | Whole:
    """Return the link of outputs whose column i comes of column i of every operand, where that is so."""
    tracked = asked.tracked
    lengths = {track.length for track in tracked.values()}
    (n,) = lengths if len(lengths) == 1 else (0,)
    for out in asked.node.outputs:
        low, high = asked.sizes.get(out, ((), ()))
        if not rows and (axis >= len(low) or not low[axis] == high[axis] == n):
            return Whole(reason="is of another length")
    index = np.arange(n)[:, None]
    return Link(
        kind=ALIGNED, axis=axis, rows=rows, constants=dict(constants or {}),
        readings=tuple(Reading(place=place, index=index) for place in tracked),
    )  # fmt: skip


def _broadcast(asked: _Asked) -> Link | Whole:
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
    return _aligned(asked, axis, rows=one.rows, constants=along)


def _first_alone(asked: _Asked) -> Link | Whole | None:
    """Return a refusal unless the first operand alone is computed."""
    if set(asked.tracked) != {0} or asked.computed_besides():
        return Whole(reason="its parameters are computed")
    return None


def _normalised(asked: _Asked) -> Link | Whole:
    """BatchNormalization: parameters along the channels."""
    track = asked.track(0)
    if (refused := _first_alone(asked)) is not None or track is None or track.axis == 1 or track.rows:
        return refused or Whole(reason="scales along time")
    return _aligned(asked, track.axis)


def _along_axis(asked: _Asked) -> Link | Whole:
    """Softmax and its like along one axis, LayerNormalization from one on."""
    track, node = asked.track(0), asked.node
    if (refused := _first_alone(asked)) is not None or track is None:
        return refused or Whole(reason="its parameters are computed")
    axis = node.attributes.get_int("axis", -1) % asked.rank(0)
    hit = track.axis >= axis if node.op_type == "LayerNormalization" else track.axis == axis
    if hit or len([out for out in node.outputs if out.name]) > 1:
        return Whole(reason="normalises over time")
    return _aligned(asked, track.axis, rows=track.rows)


def _reduced(asked: _Asked) -> Link | Whole:
    track, node, axes = asked.track(0), asked.node, axes_of(asked.node)
    if track is None or axes is None:
        return Whole(reason="sums over time")
    gone = {axis % asked.rank(0) for axis in axes}
    if track.axis in gone or not gone or track.rows:
        return Whole(reason="sums over time")
    keep = node.attributes.get_int("keepdims", 1)
    return _aligned(asked, track.axis if keep else track.axis - sum(axis < track.axis for axis in gone))


def _transposed(asked: _Asked) -> Link | Whole:
    track = asked.track(0)
    assert track is not None
    perm = asked.node.attributes.get_ints("perm") or tuple(reversed(range(asked.rank(0))))
    if track.rows and perm[0] != 0:
        return Whole(reason="moves rows of (batch x time)")
    return _aligned(asked, list(perm).index(track.axis), rows=track.rows)


def _squeezed(asked: _Asked) -> Link | Whole:
    track, axes, node = asked.track(0), axes_of(asked.node), asked.node
    if track is None or axes is None or track.rows:
        return Whole(reason="its axes are computed")
    if node.op_type == "Unsqueeze":
        rank = asked.rank(0) + len(axes)
        kept = [axis for axis in range(rank) if axis not in {a % rank for a in axes}]
        return _aligned(asked, kept[track.axis])
    gone = {axis % asked.rank(0) for axis in axes}
    if track.axis in gone:
        return Whole(reason="is the one moment that is left of time")
    return _aligned(asked, track.axis - sum(axis < track.axis for axis in gone))


def _reshaped(asked: _Asked) -> Link | Whole:
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
            return _aligned(asked, axis)
    merged = [f * n for f in front] == [dims[0] for dims in after] and front[0] != front[1]
    if merged and [math.prod(dims[1:]) for dims in after] == behind and node.op_type == "Reshape":
        return _aligned(asked, 0, rows=True)
    return Whole(reason="lays time out beside channels")


def _multiplied(asked: _Asked) -> Link | Whole:
    """MatMul with a constant."""
    tracked = asked.tracked
    if len(tracked) != 1 or asked.computed_besides():
        return Whole(reason="weighs moments by what the window holds")
    ((place, track),) = tracked.items()
    rank, other = asked.rank(place), asked.constant(1 - place)
    contracted = rank - 1 if place == 0 else max(rank - 2, 0)
    if other is None or track.axis == contracted or other.ndim != 2 or rank < 2:
        return Whole(reason="weighs every moment by its own weight")
    return _aligned(asked, track.axis, rows=track.rows)


def _dense(asked: _Asked) -> Link | Whole:
    """Gemm on rows of (batch x time)."""
    track, node = asked.track(0), asked.node
    if (refused := _first_alone(asked)) is not None or track is None or not track.rows:
        return refused or Whole(reason="weighs every moment by its own weight")
    added = asked.constant(2)
    if node.attributes.get_int("transA", 0) or (added is not None and added.ndim > 1 and added.shape[0] != 1):
        return Whole(reason="weighs every moment by its own weight")
    return _aligned(asked, 0, rows=True)


def _summed(asked: _Asked) -> Link | Whole:
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
    return _aligned(asked, result.index(time))


def _slid(asked: _Asked) -> Link | Whole:
    """Convolutions and pools, whose kernel slides along time."""
    track, node = asked.track(0), asked.node
    if (refused := _first_alone(asked)) is not None or track is None:
        return refused or Whole(reason="its parameters are computed")
    if track.axis < 2 or auto_padded(node) or len([out for out in node.outputs if out.name]) > 1:
        return Whole(reason="takes moments for channels" if track.axis < 2 else "leaves its padding to the engine")
    weight, spatial, rank = asked.constant(1), track.axis - 2, asked.rank(0) - 2
    kernel = weight.shape[2:] if weight is not None else node.attributes.get_ints("kernel_shape") or ()
    strides, dilations, pads = (
        node.attributes.get_ints(name) or (plain,) * rank * sides
        for name, plain, sides in (("strides", 1, 1), ("dilations", 1, 1), ("pads", 0, 2))
    )
    slide = Slide(taps=kernel[spatial], stride=strides[spatial], dilation=dilations[spatial],
                  left=pads[spatial], spatial=spatial)  # fmt: skip
    room = track.length + pads[spatial] + pads[rank + spatial]
    n_out = (room - slide.dilation * (slide.taps - 1) - 1) // slide.stride + 1
    low, high = asked.sizes[node.outputs[0]]
    index = slide.index(track.length, max(n_out, 0))
    if not low[track.axis] == high[track.axis] == n_out or (index == NONE).all(1).any():
        return Whole(reason="has windows that begin in the padding, or are cut off")
    return Link(kind=SLID, axis=track.axis, readings=(Reading(place=0, index=index),), slide=slide)


def _picked(asked: _Asked, index: np.ndarray, axis: int, outputs: tuple[int, ...] = ()) -> Link:
    """Return the link of an output whose columns are those of the first operand that an index names."""
    return Link(kind=PICKED, axis=axis, readings=(Reading(place=0, index=index[:, None]),), outputs=outputs)


def _sliced(asked: _Asked) -> Link | Whole:
    track = asked.track(0)
    starts, ends, axes, steps = (asked.constant(k) for k in range(1, 5))
    if track is None or track.rows or starts is None or ends is None:
        return Whole(reason="cuts where the window says")
    rank = asked.rank(0)
    along = [int(a) % rank for a in (axes if axes is not None else range(len(starts)))]
    if track.axis not in along:
        return _aligned(asked, track.axis)
    if len(along) > 1:
        return Whole(reason="cuts time and another axis at once")
    step = int(steps[0]) if steps is not None else 1
    cut = slice(int(starts[0]), int(ends[0]), step)
    if step < 0 and int(ends[0]) < -track.length:
        cut = slice(int(starts[0]), None, step)
    return _picked(asked, np.arange(track.length)[cut], track.axis)


def _gathered(asked: _Asked) -> Link | Whole:
    track, index = asked.track(0), asked.constant(1)
    if track is None or index is None or track.rows or asked.track(1) is not None:
        return Whole(reason="picks what the window says")
    axis = (asked.node.attributes.get_int("axis", 0) or 0) % asked.rank(0)
    if axis != track.axis:
        return _aligned(asked, track.axis + (index.ndim - 1 if axis < track.axis else 0))
    if index.ndim == 0:
        return Whole(reason="is the one moment that is left of time", needs={0: int(index) % track.length})
    if index.ndim > 1:
        return Whole(reason="lays time out in a table")
    return _picked(asked, index.astype(np.int64) % track.length, axis)


def _padded(asked: _Asked) -> Link | Whole:
    track, pads, value, axes = asked.track(0), asked.constant(1), asked.constant(2), asked.constant(3)
    if track is None or pads is None or track.rows or asked.computed_besides():
        return Whole(reason="pads by what the window says")
    rank = asked.rank(0)
    along = [int(a) % rank for a in axes] if axes is not None else list(range(rank))
    around = {a: (int(pads[k]), int(pads[len(along) + k])) for k, a in enumerate(along)}
    before, behind = around.pop(track.axis, (0, 0))
    if not before and not behind:
        return _aligned(asked, track.axis)
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


def _joined(asked: _Asked) -> Link | Whole:
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
        return _aligned(asked, one.axis, constants=along)
    if len(tracked) != len(node.inputs):
        return Whole(reason="puts constants behind or in front of time")
    total, readings, first = sum(track.length for track in tracked.values()), [], 0
    for place, track in tracked.items():
        index = np.full(total, NONE)
        index[first : first + track.length] = np.arange(track.length)
        first += track.length
        readings.append(Reading(place=place, index=index[:, None]))
    return Link(kind=PICKED, axis=axis, readings=tuple(readings))


def _split(asked: _Asked) -> Link | Whole:
    track, node = asked.track(0), asked.node
    if track is None or track.rows or asked.computed_besides():
        return Whole(reason="cuts where the window says")
    axis = (node.attributes.get_int("axis", 0) or 0) % asked.rank(0)
    if axis != track.axis:
        return _aligned(asked, track.axis)
    lengths = [asked.sizes[out][0][axis] for out in node.outputs]
    return _picked(asked, np.arange(track.length), axis, outputs=(0, *np.cumsum(lengths).tolist()))


_Reader = Callable[[_Asked], Link | Whole]
_LOGIC = (
    "And",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Mod",
    "Not",
    "Or",
    "Xor",
)
_READERS: dict[str, _Reader] = {
    **dict.fromkeys(operators(Trait.POINTWISE | Trait.BROADCASTS), _broadcast),
    **dict.fromkeys(("Identity", "Neg", "Mul", "Div", "Where", "PRelu", "Cast", *_LOGIC), _broadcast),
    "BatchNormalization": _normalised,
    **dict.fromkeys(("Softmax", "LogSoftmax", "LayerNormalization"), _along_axis),
    **dict.fromkeys(operators(Trait.REDUCES), _reduced),
    "Transpose": _transposed,
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _squeezed),
    **dict.fromkeys(("Reshape", "Flatten"), _reshaped),
    "MatMul": _multiplied,
    "Gemm": _dense,
    "Einsum": _summed,
    **dict.fromkeys(("Conv", "AveragePool", "MaxPool", "LpPool"), _slid),
    "Slice": _sliced,
    "Gather": _gathered,
    "Pad": _padded,
    "Concat": _joined,
    "Split": _split,
}
