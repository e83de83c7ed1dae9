"""Who computes a value and who reads it: what a rewrite asks before it takes a chain of nodes for its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["only_reader", "private_producer"]


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
