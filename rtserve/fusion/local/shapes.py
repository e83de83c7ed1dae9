r"""Changes of shape that are known, and chains of them that are one.

- A target computed from the shape of another value, of which only the batch is open, is a constant with one -1 in it; what
  computed it is no longer read.
- Merging axes, permuting, and splitting them again in the new order is one permutation of the split axes:
  :math:`(b h, t, d) \to (b h, d, t)` between two reshapes is :math:`(b, h, t, d) \to (b, h, d, t)`.
- Two permutations in a row are one, :math:`y = x_{p \circ q}`; of two reshapes in a row only the second counts.
- Values put side by side on an axis of their own and summed (averaged) over it are a sum (mean) of values.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.nodes import axes_of, private_producer, producer
from rtserve.fusion.ir.passes import PassResult
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]

Dims = list[int | None]
"""Lengths of axes; None where one is not known."""


def run(model: ir.Model) -> PassResult:
    """Settle targets and shorten chains, in place."""
    settled = sum(_settle(model, node) for node in list(model.graph))
    added = sum(_added(model, node) for node in list(model.graph))
    shortened = 0
    while found := sum(_shorten(model, node) for node in list(model.graph) if node.graph is not None):
        shortened += found
    note = f"{settled} targets known, {shortened} changes of shape in a row made one, {added} sums over a stack"
    return PassResult(changed=settled + shortened + added, did=note)


def _dims(value: ir.Value | None) -> Dims | None:
    shape = value.shape if value is not None else None
    return None if shape is None else [d if isinstance(d, int) else None for d in shape]


def _settle(model: ir.Model, node: ir.Node) -> int:
    """Give a Reshape whose target is computed a constant one, where all axes but one are known."""
    if node.op_type != "Reshape" or constant(node.inputs[1]) is not None:
        return 0
    dims = _dims(node.outputs[0])
    if dims is None or dims.count(None) != 1 or 0 in dims:
        return 0
    target = np.array([-1 if d is None else d for d in dims], np.int64)
    node.replace_input_with(1, Emitter(model.graph, before=node, prefix="shapes").constant(target))
    return 1


def _added(model: ir.Model, node: ir.Node) -> int:
    """Replace a sum or mean over an axis on which single values were stacked."""
    kind = {"ReduceSum": "Sum", "ReduceMean": "Mean"}.get(node.op_type, "")
    stack = private_producer(node.inputs[0]) if kind else None
    if stack is None or stack.op_type != "Concat" or node.attributes.get_int("keepdims", 1) != 0:
        return 0
    axis, parts = stack.attributes.get_int("axis", 0), [producer(v) for v in stack.inputs]
    if axes_of(node) != (axis,) or axis < 0:
        return 0
    if any(part is None or part.op_type != "Unsqueeze" or axes_of(part) != (axis,) for part in parts):
        return 0
    emit = Emitter(model.graph, before=node, prefix="shapes")
    return _put(model, node, emit(kind, *[part.inputs[0] for part in parts if part is not None]), stack)


def _put(model: ir.Model, node: ir.Node, y: ir.Value, *chain: ir.Node) -> int:
    """Let `y` take the place of the node that ends a chain, and remove the chain, nearest first."""
    supersede(model, node.outputs[0], y)
    model.graph.remove(chain, safe=True)
    return 1


def _shorten(model: ir.Model, node: ir.Node) -> int:
    """Let a node that ends a chain of changes of shape read the chain's start."""
    before = private_producer(node.inputs[0]) if node.inputs else None
    shorter = _SHORTER.get((before.op_type, node.op_type)) if before is not None else None
    return shorter(model, node, before) if shorter is not None and before is not None else 0


def _one_permutation(model: ir.Model, node: ir.Node, before: ir.Node) -> int:
    first, second = before.attributes.get_ints("perm"), node.attributes.get_ints("perm")
    if first is None or second is None:
        return 0
    emit = Emitter(model.graph, before=node, prefix="shapes")
    return _put(model, node, emit("Transpose", before.inputs[0], perm=[first[axis] for axis in second]), before)


def _one_reshape(_: ir.Model, node: ir.Node, before: ir.Node) -> int:
    target = constant(node.inputs[1])
    if target is None or 0 in target:
        return 0
    node.replace_input_with(0, before.inputs[0])
    return 1


def _split_again(model: ir.Model, node: ir.Node, permute: ir.Node) -> int:
    """Replace merge, permute, split by one permutation of the axes before the merge, if that is what they are."""
    merge, perm, end = private_producer(permute.inputs[0]), permute.attributes.get_ints("perm"), _dims(node.outputs[0])
    if merge is None or merge.op_type != "Reshape" or perm is None:
        return 0
    start, groups = _dims(merge.inputs[0]), _groups(_dims(merge.inputs[0]), _dims(merge.outputs[0]))
    order = [axis for group in perm for axis in groups[group]] if groups is not None else []
    if start is None or [start[axis] for axis in order] != end or order == sorted(order):
        return 0
    emit = Emitter(model.graph, before=node, prefix="shapes")
    return _put(model, node, emit("Transpose", merge.inputs[0], perm=order), permute, merge)


_SHORTER = {
    ("Transpose", "Transpose"): _one_permutation,
    ("Reshape", "Reshape"): _one_reshape,
    ("Transpose", "Reshape"): _split_again,
}
"""What is done with two in a row."""


def _groups(start: Dims | None, merged: Dims | None) -> list[list[int]] | None:
    """Return which axes of `start` make each axis of `merged`; None where a reshape does more than merge neighbours.

    At most one axis of each is of unknown length, and both stand first.
    """
    if start is None or merged is None or None in start[1:] + merged[1:] or (start[0] is None) != (merged[0] is None):
        return None
    mine, wanted = (np.cumprod([1, *dims[:0:-1]]) for dims in (start, merged))
    if not np.isin(wanted, mine).all():
        return None
    borders = len(start) - np.searchsorted(mine, wanted[:0:-1])
    return [group.tolist() for group in np.split(np.arange(len(start)), borders)]
