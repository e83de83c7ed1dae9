"""Offsets of sums of convolutions: what a value holds of them, and the value without.

A shared first stage is a sum of convolutions of which one carries the offset. Where many views need one offset it is left
out of all of them and added once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.ir.conv import conv_of
from rtserve.fusion.ir.nodes import attributes_of
from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.emit import Emitter

__all__ = ["Offsets", "Scaled", "scaled"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaled:
    """A value as a copy of another: ``factor * base + offset``, each (channels,)."""

    base: ir.Value
    factor: np.ndarray
    offset: np.ndarray
    step: ir.Node | None = None
    """The depthwise convolution of one tap that computes it; None where it is the base itself."""


def scaled(value: ir.Value, channels: int) -> Scaled:
    """Return of what a value (batch, channels, 1, time) is a copy."""
    node = value.producer()
    conv = conv_of(node)
    if node is not None and conv is not None and conv.group == channels == len(conv.weight) and conv.by_sample:
        bias = np.zeros(channels) if conv.bias is None else conv.bias.astype(np.float64)
        factor = conv.weight.reshape(-1).astype(np.float64)
        return Scaled(base=node.inputs[0], factor=factor, offset=bias, step=node)  # type: ignore[arg-type]
    return Scaled(base=value, factor=np.ones(channels), offset=np.zeros(channels))


@dataclass(kw_only=True, eq=False)
class Offsets:
    """The offsets in sums of convolutions."""

    channels: int
    nodes: set[Any] = field(default_factory=set)
    """What computes the sums asked about and holds an offset, or is between."""
    _bare: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def of(self, value: ir.Value) -> np.ndarray:
        """Return the offset that a value holds, (channels,)."""
        node = value.producer()
        if node is not None and node.op_type == "Add" and all(constant(v) is None for v in node.inputs):
            self.nodes.add(node)
            return np.asarray(sum(self.of(v) for v in node.inputs if v is not None))
        conv = conv_of(node)
        if node is None or conv is None or conv.bias is None:
            return np.zeros(self.channels)
        self.nodes.add(node)
        return np.asarray(conv.bias, np.float64)

    def without(self, emit: Emitter, value: ir.Value) -> ir.Value:
        """Return the value without its offset; what it shares with others is computed once."""
        node = value.producer()
        if node is None or node not in self.nodes:
            return value
        if value not in self._bare:
            summed = node.op_type == "Add"
            inputs = [self.without(emit, v) for v in node.inputs if v is not None] if summed else node.inputs[:2]
            self._bare[value] = emit(node.op_type, *inputs, **attributes_of(node))
        return self._bare[value]

    def private(self, ends: set[Any], between: set[Any]) -> bool:
        """Whether everything that reads an offset is of these nodes, so that nothing is computed twice.

        Parameters
        ----------
        ends : set of onnx_ir.Node
            Where to stop.
        between : set of onnx_ir.Node
            What is passed on the way, besides changes of shape.
        """
        stack, seen = list(self.nodes), set(self.nodes)
        while stack:
            node = stack.pop()
            for value in node.outputs:
                if value.is_graph_output():
                    return False
                for reader in value.consumers():
                    if reader in seen or reader in ends:
                        continue
                    if reader not in between and reader.op_type not in ("Slice", "Split", "Concat"):
                        return False
                    seen.add(reader)
                    stack.append(reader)
        return True
