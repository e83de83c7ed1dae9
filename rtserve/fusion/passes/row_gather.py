r"""Views put together out of rows by one Gather.

Behind a shared first stage every view that moves samples is a few runs of the stage's outputs and of seam windows. Each
run is cut out and joined, every view is joined to the batch, and the batch is put in blocks for the next convolution:
a handful of small nodes for each view. With time in front of the channels an output is one contiguous row, so

.. math:: v_b[n, :] = R[\,i_b(n), :\,], \qquad R = [\,y_0; y_1; \dots; s\,],

is one Gather for all views, however many, of a table R that holds every phase, every scaled copy of one and every distinct
seam window once. The engine writes its blocks out as rows and reads rows into blocks at no more cost than the other way.
What follows elementwise is done on the table.

The views then lie behind the batch, (batch x views), and are put apart from there (`ViewTable.put_apart`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtserve.fusion.ir.nodes import inner_dims
from rtserve.fusion.ir.refused import Refused
from rtserve.fusion.passes import fast_fir
from rtserve.fusion.passes.outcome import PassResult
from rtserve.fusion.passes.row_table import as_rows, from_rows
from rtserve.fusion.passes.view_table import ViewTable, rewrite_joins, seam_rows, shared_deeper
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "run"]

NAME = "row-gather"
PREFIX = "rows"


def run(model: ir.Model) -> PassResult:
    """Rewrite every batch of views that is put together out of pieces, in place."""
    return rewrite_joins(model, _rewrite)


def _rewrite(model: ir.Model, node: ir.Node, table: ViewTable) -> str:
    """Rewrite one batch of views; return what was done.

    Raises
    ------
    Refused
        Where it is better left as it is.
    """
    if not table.pieced:
        raise Refused("no view is put together out of pieces")
    if fast_fir.wants(model, table.reader) and not shared_deeper(table):
        raise Refused("fast FIR keeps it in phases")
    emit = Emitter(model.graph, before=node, prefix=PREFIX)
    channels = inner_dims(table.last)[0]  # type: ignore[index]
    parts = [
        as_rows(emit, row.value, row.length, channels) if row.windows is None else seam_rows(emit, row)
        for row in table.rows
    ]
    rows = table.stepped(emit, emit("Concat", *parts, axis=1) if len(parts) > 1 else parts[0])
    supersede(model, table.last, from_rows(emit, rows, table.index, channels))
    table.put_apart(model, range(len(table.index)))
    return f"{len(table.index)} views put together at once"
