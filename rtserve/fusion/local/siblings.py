r"""Let branches that do the same side by side do it once.

Where a Split is followed, in every part, by the same elementwise operator and then by a Concat of the parts in the same
order, :math:`[f(a), f(b)] = f([a, b])`: the operator moves in front of the Split, and Split and Concat cancel.
"""

from __future__ import annotations

from typing import Any

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
    progress = True
    while progress:
        progress = False
        for node in list(model.graph):
            if node.op_type != "Split" or node.graph is None:
                continue
            if _cancel(model, node):
                cancelled, progress = cancelled + 1, True
            elif _move(model, node):
                moved, progress = moved + 1, True
    return PassResult(changed=moved + cancelled, did=f"{moved} operators done once, {cancelled} splits cancelled")


def _only_readers(node: ir.Node) -> list[ir.Node] | None:
    """Return the one reader of every output, or None where one has none or several."""
    readers = [reader for out in node.outputs if (reader := only_reader(out)) is not None]
    return readers if len(readers) == len(node.outputs) else None


def _cancel(model: ir.Model, split: ir.Node) -> bool:
    readers = _only_readers(split)
    if readers is None or len(set(readers)) != 1 or readers[0].op_type != "Concat":
        return False
    concat = readers[0]
    axes = [node.attributes.get_int("axis", 0) for node in (split, concat)]
    if list(concat.inputs) != list(split.outputs) or axes[0] != axes[1]:
        return False
    supersede(model, concat.outputs[0], split.inputs[0])  # type: ignore[arg-type]
    return True


def _move(model: ir.Model, split: ir.Node) -> bool:
    readers = _only_readers(split)
    sizes = constant(split.inputs[1]) if len(split.inputs) > 1 else None
    if readers is None or len({_form(reader) for reader in readers}) != 1 or not has(readers[0], Trait.POINTWISE):
        return False
    if len(readers[0].inputs) != 1 or sizes is None:
        return False
    emit = Emitter(model.graph, before=split, prefix="siblings")
    done = emit(readers[0].op_type, split.inputs[0], **attributes_of(readers[0]))
    parts = emit.many("Split", done, sizes, n=len(readers), axis=split.attributes.get_int("axis", 0))
    for part, reader in zip(parts, readers, strict=True):
        supersede(model, reader.outputs[0], part)
    return True


def _form(node: ir.Node) -> tuple[Any, ...]:
    return (node.op_type, *sorted((key, str(a.value)) for key, a in node.attributes.items()))
