r"""Views that are computed at once, or every branch by itself: which of the two an engine's table says is cheaper.

On one batch a node runs once for all views; what V views share is computed once. But where all that a node reads and writes
is more than a core's cache holds, the next node finds nothing of it there, and what V calls would have kept near is fetched
from afar. With n the nodes, m the multiply-adds and s the numbers of the nodes that hold too many,

.. math:: c = n\,c_{node} + m / r + s\,c_{spilled},

and the branches stay apart where that is less.
"""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from rtserve.fusion.engines import Costs
from rtserve.graphs.macs import shapes_at

__all__ = ["spilled", "us_of"]


def spilled(model: ir.Model, costs: Costs) -> int:
    """Return how many numbers the nodes read and write, for one window, that the cache does not hold."""
    shapes = shapes_at(model, 1)
    held = [
        sum(prod(shapes[v.name]) for v in (*node.inputs, *node.outputs) if v is not None and v.name in shapes)
        for node in model.graph
    ]
    return sum(numbers for numbers in held if numbers > costs.cached_numbers)


def us_of(model: ir.Model, macs: int, costs: Costs) -> float:
    """Return c, of a model of so many multiply-adds."""
    return model.graph.num_nodes() * costs.node_us + macs / costs.macs_per_us + spilled(model, costs) * costs.spilled_us
