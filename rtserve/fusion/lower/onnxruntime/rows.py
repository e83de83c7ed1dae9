"""Naming axes that are a multiple of the batch: equal ones get equal names.

Views stand on the batch axis, and shape inference calls each such axis something new. An engine fuses a sum with the
convolution in front of it only where it can tell that both have the same shape. Which multiple an axis is, is read off
the shapes at two batch sizes.
"""

from __future__ import annotations

import onnx_ir as ir

from rtserve.fusion.ir.passes import PassResult
from rtserve.graphs.macs import shapes_at

__all__ = ["run"]

SIZES = (7, 11)
"""Two batch sizes without a common factor."""


def run(model: ir.Model) -> PassResult:
    """Name every open axis by the multiple of the batch it is, in place; axes that are none stay as they are."""
    named, batch = 0, str(model.graph.inputs[0].shape[0])  # type: ignore[index]
    small, large = (shapes_at(model, size) for size in SIZES)
    for node in model.graph:
        for out in node.outputs:
            if out.shape is None or out.is_graph_output() or out.name not in small or out.name not in large:
                continue
            pairs = zip(out.shape, small[out.name], large[out.name], strict=True)
            shape = ir.Shape([_named(dim, a, b, batch) for dim, a, b in pairs])
            named += shape != out.shape
            out.shape = shape
    return PassResult(changed=named, did=f"{named} values")


def _named(dim: int | ir.SymbolicDim, small: int, large: int, batch: str) -> int | ir.SymbolicDim | str:
    """Return an axis with the name of its multiple where it is one."""
    times = small // SIZES[0]
    if isinstance(dim, int) or not times or (small, large) != (times * SIZES[0], times * SIZES[1]):
        return dim
    return batch if times == 1 else f"{times}*{batch}"
