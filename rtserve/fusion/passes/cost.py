"""What the affine part of a graph costs as it is, in multiply-adds per window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.graphs.macs import node_macs

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.fusion.passes.trace import Trace

__all__ = ["macs_of"]


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
