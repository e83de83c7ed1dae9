"""Where time lies in every value of a graph, which of its columns are a hop old, and where time ends.

Time ends at a frontier: a node that mixes all moments (a norm or mean over time, attention, a dense layer on everything).
What lies behind is computed anew for every window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rtserve.files import sha256_bytes
from rtserve.fusion.affine.value import static_dims
from rtserve.fusion.ir.nodes import attributes_of, inner_dims
from rtserve.graphs.fold import constant
from rtserve.graphs.macs import COUNTED, macs_of, shapes_at
from rtserve.streaming.asked import Sizes
from rtserve.streaming.columns import NONE, Columns, Numbering
from rtserve.streaming.link import PICKED, SLID, Link, Track, Whole
from rtserve.streaming.reading import link_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Analysis", "analyse", "sizes_of"]

BATCHES = (2, 3)
"""What differs between the two is the batch's, what does not is the graph's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """A graph as what its values hold along time.

    Parameters
    ----------
    model : Model
        The graph of a window.
    n_times : int
        Samples of a window.
    sizes : mapping
        Shape of every value at the two batch sizes `BATCHES`.
    links : dict
        How each node's columns follow from what it reads; only nodes that read a value with columns.
    tracks : dict
        Where time lies in the values that have columns, the window first, in the order of the graph.
    macs : dict
        Multiply-adds of each node per window.
    apart : set
        Values whose axis of (batch x n) has the n of one stream side by side, so that it is no (n x batch).
    """

    model: ir.Model
    n_times: int
    sizes: Sizes
    links: dict[ir.Node, Link | Whole]
    tracks: dict[ir.Value, Track]
    macs: dict[ir.Node, int]
    apart: set[ir.Value]

    @property
    def window(self) -> ir.Value:
        """The graph's input."""
        return self.model.graph.inputs[0]

    def link(self, value: ir.Value) -> Link | None:
        """Return the link of the node that computes a value with columns; None for the window."""
        node = value.producer()
        link = self.links.get(node) if node is not None else None
        return link if isinstance(link, Link) else None

    def passing(self, value: ir.Value) -> bool:
        """Whether a value is never kept: it only picks columns, holds (batch x time) in rows, or is one of several."""
        link, node = self.link(value), value.producer()
        return link is not None and node is not None and (link.kind == PICKED or link.rows or len(node.outputs) > 1)

    def batch_axis(self, value: ir.Value) -> tuple[int, int] | None:
        """Return which axis of a value holds (n x batch) and n; None where that is not one axis by itself."""
        low, high = self.sizes[value]
        axes = [axis for axis, (one, other) in enumerate(zip(low, high, strict=True)) if one != other]
        if len(axes) != 1 or axes[0] == self.tracks[value].axis:
            return None
        n, rest = divmod(low[axes[0]], BATCHES[0])
        return (axes[0], n) if not rest and high[axes[0]] == n * BATCHES[1] else None

    def keepable(self, value: ir.Value) -> bool:
        """Whether a value can be a state: float32, the batch in one axis, every stream at one place of it."""
        import onnx_ir as ir

        return value.dtype == ir.DataType.FLOAT and self.batch_axis(value) is not None and value not in self.apart

    def numbers(self, value: ir.Value) -> int:
        """Return how many numbers of a window a column of a value holds."""
        low, high = self.sizes[value]
        track, total = self.tracks[value], 1
        for axis, (one, other) in enumerate(zip(low, high, strict=True)):
            if axis == track.axis:
                continue
            total *= one if one == other else one // BATCHES[0]
        return total


def sizes_of(model: ir.Model) -> Sizes:
    """Return the shapes of all values at both batch sizes; values of unknown shape are left out."""
    low, high = (shapes_at(model, batch) for batch in BATCHES)
    found = {}
    for value in (out for node in model.graph for out in node.outputs):
        name = value.name or ""
        if name in low and name in high and 0 not in (*low[name], *high[name]):
            found[value] = (tuple(low[name]), tuple(high[name]))
    for value in (*model.graph.inputs, *model.graph.outputs):
        rest = inner_dims(value) or []
        found[value] = ((BATCHES[0], *rest), (BATCHES[1], *rest))
    return found


def analyse(model: ir.Model) -> Analysis:
    """Return what the values of a graph hold along time.

    Parameters
    ----------
    model : Model
        One input (batch, n_chans, n_times), shapes inferred, constants as initializers, in topological order.
    """
    window = model.graph.inputs[0]
    _, n_times = static_dims(window)
    numbering, sizes = Numbering(), sizes_of(model)
    tracks = {window: Track(axis=2, columns=Columns.window(n_times))}
    links: dict[ir.Node, Link | Whole] = {}
    for node in model.graph:
        if not any(value in tracks for value in node.inputs if value is not None):
            continue
        link = links[node] = link_of(node, tracks, sizes)
        if isinstance(link, Whole):
            continue
        for k, out in enumerate(node.outputs):
            if out.name:
                shape = tuple(dim for axis, dim in enumerate(sizes[out][0]) if axis != link.axis)
                columns = _columns(node, link, k, tracks, numbering, shape)
                tracks[out] = Track(axis=link.axis, rows=link.rows, columns=columns)
    macs = {node: _macs(node, sizes) for node in model.graph}
    apart: set[ir.Value] = set()
    found = Analysis(model=model, n_times=n_times, sizes=sizes, links=links, tracks=tracks, macs=macs, apart=apart)
    for value in tracks:
        if _stands_apart(found, value):
            apart.add(value)
    return found


def _stands_apart(analysis: Analysis, value: ir.Value) -> bool:
    """Whether a stream's n parts lie side by side in the axis of a value's batch: a Reshape joined them so, once."""
    node, axis = value.producer(), analysis.batch_axis(value)
    if node is None or axis is None or axis[1] == 1:
        return False
    read = [one for one in node.inputs if one is not None and one in analysis.tracks]
    if any(one in analysis.apart for one in read):
        return True
    before = analysis.batch_axis(read[0]) if node.op_type == "Reshape" else None
    return before is not None and before[1] < axis[1] and before[0] == axis[0]


def _columns(
    node: ir.Node, link: Link, output: int, tracks: dict[ir.Value, Track], numbering: Numbering, shape: tuple[int, ...]
) -> Columns:
    """Return the columns of a node's k-th output, each of a shape."""
    read = {reading.place: tracks[node.inputs[reading.place]].columns for reading in link.readings}  # type: ignore[index]
    if link.kind == PICKED:
        return _picked(link, output, read, numbering.zeros(shape, link.length))
    parts, said = [], []
    for place, value in enumerate(node.inputs):
        if place in read:
            index = next(reading.index for reading in link.readings if reading.place == place)
            parts += [read[place].take(index[:, k]) for k in range(index.shape[1])]
            said.append("columns")
        elif place in link.constants:
            array = constant(value)
            assert array is not None
            parts.append(numbering.constants(np.moveaxis(array, link.constants[place], 0)))
            said.append(f"along {array.ndim - link.constants[place]}")
        else:
            said.append(_digest(constant(value)))
    return numbering.computed((node.op_type, output, link.axis, link.rows, tuple(said), _told(node, link)), parts)


def _picked(link: Link, output: int, read: dict[int, Columns], columns: Columns) -> Columns:
    for reading in link.readings:
        index = reading.index[:, 0]
        here, taken = index != NONE, read[reading.place].take(index)
        columns = Columns(kind=np.where(here, taken.kind, columns.kind), at=np.where(here, taken.at, columns.at))
    if link.outputs:
        columns = columns.take(np.arange(link.outputs[output], link.outputs[output + 1]))
    return columns


def _digest(array: np.ndarray | None) -> str:
    if array is None:
        return ""
    return sha256_bytes(repr((array.dtype.str, array.shape)).encode() + array.tobytes())


def _told(node: ir.Node, link: Link) -> str:
    """Return a node's attributes but for what its index says: how far time is padded."""
    attributes = attributes_of(node)
    if link.kind == SLID and link.slide is not None and "pads" in attributes:
        pads = list(attributes["pads"])
        pads[link.slide.spatial] = pads[len(pads) // 2 + link.slide.spatial] = 0
        attributes["pads"] = pads
    return repr(sorted((key, str(value)) for key, value in attributes.items()))


def _macs(node: ir.Node, sizes: Sizes) -> int:
    """Return a node's multiply-adds per window."""
    if node.op_type not in COUNTED:
        return 0
    output, first, second = (_dims(value, sizes) for value in (node.outputs[0], *node.inputs[:2]))
    return macs_of(node.op_type, output, first, second, bool(node.attributes.get_int("transB", 0))) // BATCHES[0]


def _dims(value: ir.Value | None, sizes: Sizes) -> tuple[int, ...]:
    """Return the shape of a value at the first batch size."""
    if value is None or value in sizes:
        return sizes[value][0] if value is not None else ()
    array = constant(value)
    return array.shape if array is not None else ()
