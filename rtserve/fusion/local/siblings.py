r"""Let branches that do the same side by side do it once.

Where a Split is followed, in every part, by the same elementwise operator and then by a Concat of the parts in the same
order, :math:`[f(a), f(b)] = f([a, b])`: the operator moves in front of the Split, and Split and Concat cancel.
"""

from __future__ import annotations

import onnx_ir as ir

from rtserve.fusion.ir.nodes import attributes_of, only_reader
from rtserve.fusion.ir.passes import PassResult
from rtserve.fusion.ir.traits import Trait, has
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Move operators in front of their Split and cancel Split with Concat, in place."""
    moved = cancelled = 0
    while found := [done for node in list(model.graph) if (done := _rewritten(model, node))]:
        moved, cancelled = moved + found.count("moved"), cancelled + found.count("cancelled")
    return PassResult(changed=moved + cancelled, did=f"{moved} operators done once, {cancelled} splits cancelled")


def _rewritten(model: ir.Model, split: ir.Node) -> str:
    """Return what was done with a Split whose every part has one reader; nothing for another node."""
    if split.op_type != "Split" or split.graph is None:
        return ""
    readers = [reader for out in split.outputs if (reader := only_reader(out)) is not None]
    if len(readers) < len(split.outputs):
        return ""
    first, axis = readers[0], split.attributes.get_int("axis", 0)
    rejoined = first.op_type == "Concat" and first.attributes.get_int("axis", 0) == axis
    if rejoined and list(first.inputs) == list(split.outputs):
        supersede(model, first.outputs[0], split.inputs[0])  # type: ignore[arg-type]
        return "cancelled"
    sizes = constant(split.inputs[1]) if len(split.inputs) > 1 else None
    alike = all((reader.op_type, attributes_of(reader)) == (first.op_type, attributes_of(first)) for reader in readers)
    if not alike or not has(first, Trait.POINTWISE) or len(first.inputs) != 1 or sizes is None:
        return ""
    emit = Emitter(model.graph, before=split, prefix="siblings")
    done = emit(first.op_type, split.inputs[0], **attributes_of(first))
    parts = emit.many("Split", done, sizes, n=len(readers), axis=axis)
    for part, reader in zip(parts, readers, strict=True):
        supersede(model, reader.outputs[0], part)
    return "moved"
