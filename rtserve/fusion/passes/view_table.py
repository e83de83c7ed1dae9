"""Of which samples of which values the views on the batch are put together.

Behind a shared first stage a view is runs of the stage's outputs, copies of them times a factor, and products of gathered
windows (seams). Read back from where the views are joined on the batch, each of its samples is one row of a table of these
sources, every distinct seam window once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.engines.onnxruntime import BLOCK
from rtserve.fusion.ir.conv import conv_of
from rtserve.fusion.ir.nodes import attributes_of, followers, inner_dims, only_reader, producer
from rtserve.fusion.ir.refused import Refused
from rtserve.fusion.passes import deep_sharing
from rtserve.fusion.passes.batchwise import places_apart
from rtserve.fusion.passes.outcome import PassResult
from rtserve.fusion.passes.phases import sliced
from rtserve.fusion.passes.row_table import FROM_ROWS
from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.emit import Emitter

__all__ = ["Seams", "ViewTable", "ends_of", "rewrite_joins", "seam_rows", "shared_deeper"]

Place = tuple[Any, int]
"""A value (batch, channels, 1, time) and which of its samples."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Seams:
    """A product of gathered windows, and how each of them is had once.

    Parameters
    ----------
    gather, flat, product : onnx_ir.Node
        The Gather, the Reshape to one window a row, the Gemm.
    order : ndarray, (distinct windows, taps)
        What is gathered.
    which : ndarray
        Which of the distinct windows every sample is.
    """

    gather: ir.Node
    flat: ir.Node
    product: ir.Node
    order: np.ndarray
    which: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewTable:
    """What the views on the batch are put together of.

    Parameters
    ----------
    sources : list of (onnx_ir.Value, Seams or None)
        Values (batch, channels, 1, time) in the order of the table.
    starts : list of int
        The first row of each.
    index : ndarray, (views, samples)
        Which row of the table every sample of every view is.
    steps : list of onnx_ir.Node
        What is done elementwise with the joined views.
    last : onnx_ir.Value
        What the next layer reads.
    reader : onnx_ir.Node
        The convolution that alone reads it.
    """

    sources: list[tuple[Any, Seams | None]]
    starts: list[int]
    index: np.ndarray
    steps: list[ir.Node]
    last: ir.Value
    reader: ir.Node

    def stepped(self, emit: Emitter, value: ir.Value) -> ir.Value:
        """Return another value after the same elementwise steps."""
        for step in self.steps:
            value = emit(step.op_type, value, *step.inputs[1:], **attributes_of(step))
        return value

    @property
    def pieced(self) -> bool:
        """Whether a view is put together out of samples of several sources."""
        source = np.searchsorted(self.starts, self.index, side="right")
        return bool((source != source[:, :1]).any())

    def whole(self, number: int) -> np.ndarray:
        """Return which views are all of one source, sample by sample."""
        source, seams = self.sources[number]
        n = inner_dims(source)[2]  # type: ignore[index]
        if seams is not None or n != self.index.shape[1]:
            return np.zeros(len(self.index), dtype=bool)
        return np.asarray((self.index == self.starts[number] + np.arange(n)).all(axis=1))


def _tabulate(node: ir.Node) -> ViewTable:
    """Return the table of the views that a Concat joins on the batch.

    Parameters
    ----------
    node : onnx_ir.Node
        A Concat along the first axis.

    Raises
    ------
    Refused
        Where the views are not put together of samples in front of one convolution on whole blocks.
    """
    steps = followers(node.outputs[0])
    last = (node, *steps)[-1].outputs[0]
    reader = only_reader(last, "Conv")
    views = _views(node)
    if reader is None:
        raise Refused("not in front of one convolution on whole blocks")
    sources, starts, at, length = [], [], {}, 0
    for source in dict.fromkeys(source for view in views for source, _ in view):
        seams = _seams(source)
        which = np.arange(inner_dims(source)[2]) if seams is None else seams.which  # type: ignore[index]
        sources.append((source, seams))
        starts.append(length)
        at[source] = length + which
        length += int(which.max()) + 1
    index = np.array([[at[source][t] for source, t in view] for view in views], dtype=np.int64)
    return ViewTable(sources=sources, starts=starts, index=index, steps=steps, last=last, reader=reader)


def _views(node: ir.Node) -> list[list[Place]]:
    """Return of which samples every view on the batch is put together."""
    dims = [inner_dims(value) for value in node.inputs]
    if any(d is None or len(d) != 3 or d[1] != 1 or d != dims[0] for d in dims):
        raise Refused("not (batch, channels, 1, time)")
    if dims[0][0] % BLOCK:  # type: ignore[index]
        raise Refused("not in front of one convolution on whole blocks")
    return [_places(value) for value in node.inputs]


def _places(value: ir.Value | None) -> list[Place]:
    """Return of which samples of which values a value is put together along time."""
    node = producer(value)
    dims = inner_dims(value)
    if value is None or dims is None or len(dims) != 3:
        return []
    if node is not None and node.op_type == "Concat" and node.attributes.get_int("axis", 0) == 3:
        return [place for part in node.inputs for place in _places(part)]
    if node is not None and node.op_type == "Slice" and (kept := sliced(node)) is not None:
        places = _places(node.inputs[0])
        return [places[t] for t in kept]
    if node is not None and node.op_type == "Split" and node.attributes.get_int("axis", 0) == 3:
        sizes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if sizes is not None:
            at = node.outputs.index(value)
            return _places(node.inputs[0])[int(sizes[:at].sum()) : int(sizes[: at + 1].sum())]
    return [(value, t) for t in range(dims[2])]


def _seams(source: ir.Value) -> Seams | None:
    """Return what a value is if it is a product of gathered windows, turned; None for another."""
    chain: list[ir.Node] = []
    value: ir.Value | None = source
    for kind in ("Transpose", "Reshape", "Gemm", "Reshape", "Gather"):
        node = producer(value)
        if node is None or node.op_type != kind:
            return None
        chain.append(node)
        value = node.inputs[0]
    turn, _, product, flat, gather = chain
    order, dims = constant(gather.inputs[1]), inner_dims(source)
    if (
        order is None
        or dims is None
        or order.ndim != 1
        or order.size % dims[2]
        or gather.attributes.get_int("axis", 0) != 1
    ):
        return None
    if tuple(turn.attributes.get_ints("perm") or ()) != FROM_ROWS:
        return None
    distinct, which = np.unique(order.reshape(dims[2], -1), axis=0, return_inverse=True)
    return Seams(gather=gather, flat=flat, product=product, order=distinct, which=which.reshape(-1))


def rewrite_joins(model: ir.Model, rewrite: Callable[[ir.Model, ir.Node, ViewTable], str]) -> PassResult:
    """Rewrite every Concat that joins views on the batch.

    Parameters
    ----------
    model : onnx_ir.Model
        Changed in place.
    rewrite : callable
        Rewrites the views of one Concat and says what was done, or raises `Refused`.
    """
    result = PassResult()
    for node in list(model.graph):
        if node.op_type == "Concat" and node.attributes.get_int("axis", 0) == 0:
            with result.at(node):
                result.done(rewrite(model, node, _tabulate(node)))
    return result


def ends_of(model: ir.Model, joint: ir.Node) -> list[ir.Node]:
    """Return where the views that a Concat joins on the batch are put apart again.

    Raises
    ------
    Refused
        Where what is in between does not treat every window for itself.
    """
    ends = places_apart(model, joint.outputs[0], len(joint.inputs))
    if ends is None:
        raise Refused("what follows looks across windows")
    return ends


def shared_deeper(table: ViewTable) -> bool:
    """Whether the layer behind the views is worth sharing between them."""
    conv = conv_of(table.reader)
    return conv is not None and deep_sharing.pays(conv, table.index, deep_sharing.pack(table.index, conv))


def seam_rows(emit: Emitter, seams: Seams, *, offset: bool = True) -> ir.Value:
    """Return the product of every distinct window, (batch, windows, channels), with or without its offset."""
    product = seams.product
    picked = emit("Gather", seams.gather.inputs[0], seams.order.reshape(-1), axis=1)
    flat = emit("Reshape", picked, *seams.flat.inputs[1:])
    y = emit("Gemm", flat, *product.inputs[1 : 3 if offset else 2], **attributes_of(product))
    return emit("Reshape", y, [-1, len(seams.order), int(product.outputs[0].shape[1])])  # type: ignore[index,arg-type]
