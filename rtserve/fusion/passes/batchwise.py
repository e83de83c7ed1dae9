"""Following the views on the batch axis to where they are put apart again.

Behind a shared first stage the batch is (views x batch). Between the place where they are joined and the Reshape that
puts them apart, a network treats every window for itself, so there the order of the windows is free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtserve.fusion.ir.nodes import axes_of
from rtserve.fusion.ir.traits import Trait, has, operators
from rtserve.graphs.fold import constant
from rtserve.graphs.macs import shapes_at

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir

__all__ = ["places_apart", "spares_first_axis"]

SIZE = 7
"""A batch size that no other axis is likely to have."""


def places_apart(model: ir.Model, value: ir.Value, views: int) -> list[ir.Node] | None:
    """Return every Reshape to (views, batch, ...) that ends what is computed from `value`, (views x batch, ...).

    None where something in between looks across windows, or is not known to leave them apart, or where a result of it
    leaves in another way.
    """
    shapes = shapes_at(model, SIZE)
    inside: set[Any] = {value}
    ends = []
    for node in model.graph:
        if not any(v in inside for v in node.inputs):
            continue
        if _parts(node, views):
            ends.append(node)
        elif _keeps(node, inside) and all(_on_batch(out, shapes, views) for out in node.outputs):
            inside.update(node.outputs)
        else:
            return None
    return ends


def _on_batch(value: ir.Value, shapes: dict[str, list[int]], views: int) -> bool:
    return not value.is_graph_output() and shapes.get(value.name or "", [0])[:1] == [views * SIZE]


def _parts(node: ir.Node, views: int) -> bool:
    """Whether a node puts the views apart."""
    target = constant(node.inputs[1]) if node.op_type == "Reshape" else None
    return target is not None and target.size > 1 and target[:2].tolist() == [views, -1]


def _keeps(node: ir.Node, inside: set[Any]) -> bool:
    """Whether a node computes every window's result from that window; shapes are looked at elsewhere."""
    if has(node, Trait.BY_WINDOW):
        return all(v not in inside for v in node.inputs[1:])
    if has(node, Trait.POINTWISE | Trait.BROADCASTS):
        return all(v is None or v in inside or _broadcast(v, node) for v in node.inputs)
    rule = _RULES.get(node.op_type)
    return rule is not None and node.inputs[0] in inside and rule(node, inside)


def _broadcast(value: ir.Value, node: ir.Node) -> bool:
    """Whether a constant operand is the same for all windows."""
    array, shape = constant(value), node.outputs[0].shape
    return array is not None and shape is not None and (array.ndim < len(shape) or array.shape[0] == 1)


def spares_first_axis(node: ir.Node) -> bool:
    """Whether a Transpose, a Squeeze, an Unsqueeze or a reduction leaves the first axis as it is and where it is."""
    if node.op_type == "Transpose":
        return (node.attributes.get_ints("perm") or (1,))[0] == 0
    whole = node.outputs[0] if node.op_type == "Unsqueeze" else node.inputs[0]
    axes, rank = axes_of(node), len(whole.shape) if whole is not None and whole.shape is not None else 0
    return axes is not None and rank > 0 and all(axis % rank for axis in axes)


def _rank(node: ir.Node) -> int:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return len(shape) if shape is not None else 0


def _along_axis(node: ir.Node, inside: set[Any]) -> bool:
    axis, rank = node.attributes.get_int("axis", -1 if has(node, Trait.NORMALISES) else 0), _rank(node)
    same = node.op_type != "Concat" or all(v in inside for v in node.inputs)
    return same and rank > 0 and axis % rank > 0


def _sliced(node: ir.Node, inside: set[Any]) -> bool:
    axes, rank = constant(node.inputs[3]) if len(node.inputs) > 3 else None, _rank(node)
    return axes is not None and rank > 0 and all(int(a) % rank for a in axes.reshape(-1))


def _reshaped(node: ir.Node, inside: set[Any]) -> bool:
    """Whether rows stay together: the batch in front is all that is left open."""
    target = constant(node.inputs[1])
    return target is not None and target.reshape(-1)[:1].tolist() == [-1]


def _product(node: ir.Node, inside: set[Any]) -> bool:
    if node.op_type == "Gemm":
        plain = not node.attributes.get_int("transA", 0)
        return plain and all(constant(v) is not None for v in node.inputs[1:] if v is not None)
    rank, other = _rank(node), node.inputs[1]
    if other in inside:
        return rank > 2
    array = constant(other)
    return array is not None and rank > 1 and (array.ndim < max(rank, 3) or array.shape[0] == 1)


_RULES: dict[str, Callable[[ir.Node, set[Any]], bool]] = {
    **dict.fromkeys(operators(Trait.JOINS | Trait.NORMALISES), _along_axis),
    "Flatten": lambda node, inside: node.attributes.get_int("axis", 1) == 1,
    "Slice": _sliced,
    **dict.fromkeys(operators(Trait.REDUCES), lambda node, inside: spares_first_axis(node)),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "Transpose"), lambda node, inside: spares_first_axis(node)),
    "Reshape": _reshaped,
    "Gemm": _product,
    "MatMul": _product,
}
