"""Views joined on the batch as a table: every sample of every view is one row, every distinct seam window is there once.

Assembly has handed over of which samples of which sources a view is put together (`rtserve.fusion.ir.joint`); here they
are counted through, in front of the convolution that reads the views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.engines.onnxruntime import BLOCK
from rtserve.fusion.ir.conv import conv_of
from rtserve.fusion.ir.joint import Apart, Joint, ends_of, joints, sources
from rtserve.fusion.ir.nodes import attributes_of, followers, inner_dims, only_reader, producer
from rtserve.fusion.ir.refused import Refused
from rtserve.fusion.passes import deep_sharing
from rtserve.fusion.passes.outcome import PassResult

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.emit import Emitter

__all__ = ["Row", "ViewTable", "rewrite_joins", "seam_rows", "shared_deeper"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A source of the table.

    Parameters
    ----------
    value : onnx_ir.Value
        (batch, channels, 1, time); of gathered windows their product.
    windows : ndarray or None, (distinct windows, taps)
        What is gathered.
    factor : float
        Times what it is a copy of what its node reads.
    start : int
        Its first row.
    length : int
        Its rows.
    """

    value: ir.Value
    windows: np.ndarray | None
    factor: float
    start: int
    length: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewTable:
    """What the views on the batch are put together of.

    Parameters
    ----------
    rows : list of Row
        The sources, in the order of the table.
    index : ndarray, (views, samples)
        Which row of the table every sample of every view is.
    offset : ndarray, (channels,)
        What every sample holds beside what is linear in the window.
    steps : list of onnx_ir.Node
        What is done elementwise with the joined views.
    last : onnx_ir.Value
        What the next layer reads.
    reader : onnx_ir.Node
        The convolution that alone reads it.
    ends : list of (onnx_ir.Node, Apart)
        Where the views are put apart again.
    """

    rows: list[Row]
    index: np.ndarray
    offset: np.ndarray
    steps: list[ir.Node]
    last: ir.Value
    reader: ir.Node
    ends: list[tuple[ir.Node, Apart]]

    def stepped(self, emit: Emitter, value: ir.Value) -> ir.Value:
        """Return another value after the same elementwise steps."""
        for step in self.steps:
            value = emit(step.op_type, value, *step.inputs[1:], **attributes_of(step))
        return value

    def numbers(self, index: np.ndarray) -> np.ndarray:
        """Return of which of the sources rows are."""
        return np.searchsorted([row.start for row in self.rows], index, side="right") - 1

    @property
    def pieced(self) -> bool:
        """Whether a view is put together out of samples of several sources."""
        number = self.numbers(self.index)
        return bool((number != number[:, :1]).any())

    def whole(self, row: Row) -> np.ndarray:
        """Return which views are all of one source, sample by sample."""
        if row.windows is not None or row.length != self.index.shape[1]:
            return np.zeros(len(self.index), dtype=bool)
        return np.asarray((self.index == row.start + np.arange(row.length)).all(axis=1))


def _tabulate(model: ir.Model, node: ir.Node, joint: Joint) -> ViewTable:
    """Return the table of the views that a node joins.

    Raises
    ------
    Refused
        Where they do not stand in front of one convolution on whole blocks.
    """
    steps = followers(node.outputs[0])
    last = (node, *steps)[-1].outputs[0]
    reader, dims = only_reader(last, "Conv"), inner_dims(node.outputs[0])
    if dims is None or len(dims) != 3 or dims[1] != 1:
        raise Refused("not (batch, channels, 1, time)")
    if reader is None or dims[0] % BLOCK:
        raise Refused("not in front of one convolution on whole blocks")
    if joint.group is None or not (ends := ends_of(model, joint.group)):
        raise Refused("they are put apart again on the way")
    rows, first = _rows(model, joint)
    index = np.array([[first[name] + t for name, t in places] for places in joint.places], dtype=np.int64)
    return ViewTable(rows=rows, index=index, offset=joint.offset, steps=steps, last=last, reader=reader, ends=ends)


def _rows(model: ir.Model, joint: Joint) -> tuple[list[Row], dict[str, int]]:
    """Return the sources of views in the order of their use, and in which row each of them begins."""
    rows: dict[ir.Value, Row] = {}
    first, length, now = {}, 0, sources(model)
    for name in dict.fromkeys(name for places in joint.places for name, _ in places):
        if name not in now:
            raise Refused(f"its source {name} is computed otherwise now")
        value, at = now[name]
        if value not in rows:
            windows, dims = joint.windows.get(name), inner_dims(value)
            if windows is None and (dims is None or len(dims) != 3):
                raise Refused("not (batch, channels, 1, time)")
            n = len(windows) if windows is not None else dims[2]  # type: ignore[index]
            factor = joint.factors.get(name, 1.0)
            rows[value] = Row(value=value, windows=windows, factor=factor, start=length, length=n)
            length += n
        first[name] = rows[value].start + at
    return list(rows.values()), first


def rewrite_joins(model: ir.Model, rewrite: Callable[[ir.Model, ir.Node, ViewTable], str]) -> PassResult:
    """Rewrite all views that are joined on the batch.

    Parameters
    ----------
    model : onnx_ir.Model
        Changed in place.
    rewrite : callable
        Rewrites the views that a node joins and says what was done, or raises `Refused`.
    """
    result = PassResult()
    for node, joint in joints(model):
        with result.at(node):
            result.done(rewrite(model, node, _tabulate(model, node, joint)))
    return result


def shared_deeper(table: ViewTable) -> bool:
    """Whether the layer behind the views is worth sharing between them."""
    conv = conv_of(table.reader)
    return conv is not None and deep_sharing.pays(conv, table.index, deep_sharing.pack(table.index, conv))


def seam_rows(emit: Emitter, row: Row, windows: np.ndarray, *, offset: bool = True) -> ir.Value:
    """Return the product of every distinct window, (batch, windows, channels), with or without its offset."""
    product = row.value.producer()
    flat = producer(product.inputs[0])  # type: ignore[union-attr]
    picked = emit("Gather", flat.inputs[0].producer().inputs[0], windows.reshape(-1), axis=1)  # type: ignore[union-attr]
    y = emit("Gemm", emit("Reshape", picked, *flat.inputs[1:]), *product.inputs[1 : 3 if offset else 2])  # type: ignore[union-attr]
    return emit("Reshape", y, [-1, len(windows), inner_dims(row.value)[0]])  # type: ignore[index]
