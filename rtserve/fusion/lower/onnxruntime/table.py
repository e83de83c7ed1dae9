"""Views joined on the batch as a table: every sample of every view is one row, every distinct seam window is there once.

Assembly has handed over of which samples of which sources a view is put together (`rtserve.fusion.ir.joint`); here they
are counted through, in front of the convolution that reads the views. With time in front of the channels a sample is one
contiguous row, (batch, rows, channels).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK
from rtserve.fusion.ir.joint import Apart, Joint, sources
from rtserve.fusion.ir.nodes import chain_of, inner_dims, only_reader, stepped
from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.lower.apart import apart_behind
from rtserve.graphs.emit import Emitter

__all__ = ["FROM_ROWS", "TO_ROWS", "Row", "ViewTable", "as_rows", "from_rows", "tabulate"]

FROM_ROWS = (0, 3, 1, 2)
"""The turn from (batch, 1, time, channels) to (batch, channels, 1, time)."""
TO_ROWS = (0, 2, 3, 1)
"""The turn back."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A source of the table.

    Parameters
    ----------
    value : Value
        (batch, channels, 1, time), or (batch x time, channels) where it is `flat`.
    base : Value
        Of what it is a copy; itself where it is none.
    factor : float
        Times what.
    flat : bool
        How `value` lies.
    start, length : int
        Its first row, and how many it has.
    """

    value: ir.Value
    base: ir.Value
    factor: float
    flat: bool
    start: int
    length: int

    def written(self, emit: Emitter, value: ir.Value, channels: int) -> ir.Value:
        """Return the rows, (batch, length, channels), of a value of this form."""
        if self.flat:
            return emit("Reshape", value, [-1, self.length, channels])
        return as_rows(emit, value, self.length, channels)


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewTable:
    """What the views on the batch are put together of.

    Parameters
    ----------
    rows : list of Row
        The sources, in the order of the table.
    index, number : ndarray, (views, samples)
        Which row of the table every sample of every view is, and of which source.
    offset : ndarray, (channels,)
        What every sample holds beside what is linear in the window.
    steps : list of Node
        What is done elementwise with the joined views.
    reader : Node
        The convolution that alone reads what they give.
    ends : list of (Node, Apart)
        Where the views are put apart again.
    """

    rows: list[Row]
    index: np.ndarray
    number: np.ndarray
    offset: np.ndarray
    steps: list[ir.Node]
    reader: ir.Node
    ends: list[tuple[ir.Node, Apart]]

    @property
    def last(self) -> ir.Value:
        """What the next layer reads."""
        return self.reader.inputs[0]  # type: ignore[return-value]

    def written(self, emit: Emitter) -> ir.Value:
        """Return the table, (batch, rows, channels), after what is done elementwise."""
        parts = [row.written(emit, row.value, len(self.offset)) for row in self.rows]
        return stepped(emit, self.steps, emit("Concat", *parts, axis=1) if len(parts) > 1 else parts[0])

    def whole(self, row: Row) -> np.ndarray:
        """Return which views are all of one source, sample by sample."""
        if row.flat or row.length != self.index.shape[1]:
            return np.zeros(len(self.index), dtype=bool)
        return np.asarray((self.index == row.start + np.arange(row.length)).all(axis=1))


def tabulate(model: ir.Model, node: ir.Node, joint: Joint) -> ViewTable:
    """Return the table of the views that a node joins.

    Raises
    ------
    Refused
        Where they do not stand in front of one convolution on whole blocks.
    """
    chain, dims = chain_of(node), inner_dims(node.outputs[0])
    reader = only_reader(chain[-1].outputs[0], "Conv")
    if dims is None or len(dims) != 3 or dims[1] != 1:
        raise Refused("not (batch, channels, 1, time)")
    if reader is None or dims[0] % BLOCK:
        raise Refused("not in front of one convolution on whole blocks")
    ends = apart_behind(model, joint)
    rows, index, number = _rows(model, joint)
    return ViewTable(
        rows=rows, index=index, number=number, offset=joint.offset, steps=chain[1:], reader=reader, ends=ends
    )


def _rows(model: ir.Model, joint: Joint) -> tuple[list[Row], np.ndarray, np.ndarray]:
    """Return the sources of views as they are now, and for every sample of every view which row it is, and of which."""
    rows: dict[ir.Value, Row] = {}
    now, length, ahead, number = sources(model), 0, [], []
    for source, first in joint.sources.items():
        if source.name not in now:
            raise Refused(f"its source {source.name} is computed otherwise now")
        value, at = now[source.name]
        if value not in rows:
            dims = inner_dims(value)
            if not source.flat and (dims is None or len(dims) != 3):
                raise Refused("not (batch, channels, 1, time)")
            base, begins = now.get(source.base, (value, 0))
            base, factor = (base, source.factor) if not begins and inner_dims(base) == dims else (value, 1.0)
            n = source.samples if source.flat else dims[2]  # type: ignore[index]
            rows[value] = Row(value=value, base=base, factor=factor, flat=source.flat, start=length, length=n)
            length += n
        ahead.append(rows[value].start + at - first)
        number.append(list(rows).index(value))
    return list(rows.values()), joint.index + np.array(ahead)[joint.number], np.array(number)[joint.number]


def as_rows(emit: Emitter, value: ir.Value, n: int, channels: int) -> ir.Value:
    """Return (batch, n, channels) of (batch, channels, 1, time), n samples of each window; entries of one are joined.

    The Reshape keeps onnxruntime from moving the Transpose behind what follows, out of the reach of its blocked layout.
    """
    return emit("Reshape", emit("Transpose", value, perm=list(TO_ROWS)), [-1, n, channels])


def from_rows(emit: Emitter, table: ir.Value, signals: np.ndarray, channels: int) -> ir.Value:
    """Return signals, (number, time), put together from the rows of a table: (batch x number, channels, 1, time)."""
    rows = emit("Reshape", emit("Gather", table, signals, axis=1), [-1, 1, signals.shape[1], channels])
    return emit("Transpose", rows, perm=list(FROM_ROWS))
