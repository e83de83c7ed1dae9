r"""Views put together out of rows by one Gather.

Behind a shared first stage every view that moves samples is a few runs of the stage's outputs and of seam windows. Each
run is cut out and joined, every view is joined to the batch, and the batch is put in blocks for the next convolution:
a handful of small nodes for each view. With time in front of the channels an output is one contiguous row, so

.. math:: v_b[n, :] = R[\,i_b(n), :\,], \qquad R = [\,y_0; y_1; \dots; s\,],

is one Gather for all views, however many, of a table R that holds every phase, every scaled copy of one and every distinct
seam window once. The engine writes its blocks out as rows and reads rows into blocks at no more cost than the other way.
What follows elementwise is done on the table.

The views then lie behind the batch, (batch x views), and are put apart from there (`rtserve.fusion.passes.apart`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtserve.fusion.passes.affine import Refused
from rtserve.fusion.passes.apart import put_apart
from rtserve.fusion.passes.batchwise import places_apart
from rtserve.fusion.passes.outcome import PassResult
from rtserve.fusion.passes.row_table import as_rows, from_rows
from rtserve.fusion.passes.uses import attributes_of, inner_dims
from rtserve.fusion.passes.view_table import better_in_phases, seam_rows, tabulate
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "run"]

NAME = "row-gather"
PREFIX = "rows"


def run(model: ir.Model) -> PassResult:
    """Rewrite every batch of views that is put together out of pieces, in place."""
    notes: list[str] = []
    changed = 0
    for node in list(model.graph):
        if node.op_type != "Concat" or node.attributes.get_int("axis", 0) != 0:
            continue
        try:
            _rewrite(model, node)
            changed += 1
        except Refused as refusal:
            notes.append(f"{node.outputs[0].name}: {refusal}")
    done = f"{changed} batches of views put together at once"
    return PassResult(changed=changed, notes=(done,) if changed else tuple(notes) or ("no views on the batch",))


def _rewrite(model: ir.Model, node: ir.Node) -> None:
    """Rewrite one batch of views.

    Raises
    ------
    Refused
        Where it is none of the kind, or is better left as it is.
    """
    table = tabulate(node)
    if not table.pieced:
        raise Refused("no view is put together out of pieces")
    if better_in_phases(model, table):
        raise Refused("fast FIR keeps it in phases")
    views = len(table.index)
    ends = places_apart(model, node.outputs[0], views)
    if ends is None:
        raise Refused("what follows looks across windows")
    emit = Emitter(model.graph, before=node, prefix=PREFIX)
    channels = inner_dims(table.last)[0]  # type: ignore[index]
    parts = [
        as_rows(emit, source, inner_dims(source)[2], channels) if seams is None else seam_rows(emit, seams)  # type: ignore[index]
        for source, seams in table.sources
    ]
    rows = emit("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    for step in table.steps:
        rows = emit(step.op_type, rows, *step.inputs[1:], **attributes_of(step))
    supersede(model, table.last, from_rows(emit, rows, table.index, channels))
    for end in ends:
        put_apart(model, end, range(views))
