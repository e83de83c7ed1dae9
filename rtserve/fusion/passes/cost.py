"""What the affine part of a graph costs as it is, in multiply-adds per window, and what work takes, as measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.graphs.macs import node_macs

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.fusion.passes.trace import Trace

__all__ = ["EVALUATED_US", "MACS_PER_US", "NODE_US", "macs_of"]

MACS_PER_US = 50_000
NODE_US = 1.3
"""What one core with AVX-512 does in a microsecond, and what onnxruntime takes for a small node, both as measured."""
EVALUATED_US = 0.0002
"""Microseconds for one sample through a short depthwise step, as measured."""


def macs_of(value: ir.Value, found: Trace) -> int:
    """Return the multiply-adds of the affine nodes behind a value."""
    seen: set[Any] = set()
    stack, total = [value], 0
    while stack:
        node = stack.pop().producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        total += _dft_macs(node) if node.op_type == "DFT" else node_macs(node)
        stack += [v for v in node.inputs if v is not None and v in found.values]
    return total


def _dft_macs(node: ir.Node) -> int:
    """Return what a naive transform costs (onnxruntime's is naive): length x outputs, complex."""
    shape = node.outputs[0].shape
    dims = [d for d in shape if isinstance(d, int)] if shape is not None else [1]
    return int(np.prod(dims)) * max(dims[-2] if len(dims) > 1 else 1, 1) * 2
