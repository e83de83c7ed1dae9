"""What a rewrite asks about nodes: who computes a value, who alone reads it, along which axes, with which attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["attributes_of", "axes_of", "only_reader", "private_producer"]


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """Return the attributes of a node by name, as they are given to another."""
    return {key: attribute.value for key, attribute in node.attributes.items()}


def axes_of(node: ir.Node) -> tuple[int, ...] | None:
    """Return the axes of a Squeeze or an Unsqueeze, None where they are not constant."""
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return tuple(int(a) for a in np.atleast_1d(axes)) if axes is not None else None


def private_producer(value: ir.Value | None) -> ir.Node | None:
    """Return what computes a value that is read once; None otherwise, and for the graph's output."""
    if value is None or len(value.uses()) != 1 or value.is_graph_output():
        return None
    return value.producer()


def only_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the one reader of a value if it is of that type; None otherwise, and for the graph's output."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.op_type != op_type:
        return None
    return uses[0].node
