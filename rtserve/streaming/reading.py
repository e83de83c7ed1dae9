"""What every operator does along time: a table from operator to how its columns follow from those it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rtserve.fusion.ir.nodes import auto_padded
from rtserve.fusion.ir.traits import Trait, operators
from rtserve.streaming.asked import Asked, Sizes, first_alone
from rtserve.streaming.columns import NONE
from rtserve.streaming.link import SLID, Link, Reading, Slide, Track, Whole
from rtserve.streaming.moving import gathered, joined, padded, reshaped, sliced, split, squeezed, transposed
from rtserve.streaming.within import along_axis, broadcast, dense, multiplied, normalised, reduced, summed

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["link_of"]


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
    asked = Asked(node=node, tracks=tracks, sizes=sizes)
    reader = _READERS.get(node.op_type)
    if reader is None:
        return Whole(reason="mixes time")
    if any(out not in sizes for out in node.outputs if out.name):
        return Whole(reason="its shape is not known")
    return reader(asked)


def _slid(asked: Asked) -> Link | Whole:
    """Convolutions and pools, whose kernel slides along time."""
    track, node = asked.track(0), asked.node
    if (refused := first_alone(asked)) is not None or track is None:
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


_Reader = Callable[[Asked], Link | Whole]
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
    **dict.fromkeys(operators(Trait.POINTWISE | Trait.BROADCASTS), broadcast),
    **dict.fromkeys(("Identity", "Neg", "Mul", "Div", "Where", "PRelu", "Cast", *_LOGIC), broadcast),
    "BatchNormalization": normalised,
    **dict.fromkeys(("Softmax", "LogSoftmax", "LayerNormalization"), along_axis),
    **dict.fromkeys(operators(Trait.REDUCES), reduced),
    "Transpose": transposed,
    **dict.fromkeys(("Squeeze", "Unsqueeze"), squeezed),
    **dict.fromkeys(("Reshape", "Flatten"), reshaped),
    "MatMul": multiplied,
    "Gemm": dense,
    "Einsum": summed,
    **dict.fromkeys(("Conv", "AveragePool", "MaxPool", "LpPool"), _slid),
    "Slice": sliced,
    "Gather": gathered,
    "Pad": padded,
    "Concat": joined,
    "Split": split,
}
