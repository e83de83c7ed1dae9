r"""Putting views apart where they lie behind the batch.

A network behind joined views ends in a Reshape to (views, batch, ...). Where the batch is (batch x views) a mean over them
is part of the dense layer behind it, :math:`W \sum_b w_b h_b = [w_1 W \dots w_B W]\,[h_1; \dots; h_B]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.ir.joint import Apart, dense_behind
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, replace_value

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MOST_WEIGHTS", "turn_apart"]

PREFIX = "apart"
MOST_WEIGHTS = 1 << 14
"""Weights up to which a mean over views goes into the dense layer; more would cost more to read than the mean."""


def turn_apart(model: ir.Model, node: ir.Node, apart: Apart, order: Sequence[int]) -> None:
    """Let a Reshape to (views, batch, ...) find the views behind the batch; a mean over them goes into the dense layer.

    Parameters
    ----------
    model : onnx_ir.Model
        Changed in place.
    node : onnx_ir.Node
        The Reshape; its input is now (batch x views, ...).
    apart : Apart
        What is known of it.
    order : sequence of int
        The number of every view, as they lie behind each other.
    """
    views = len(order)
    emit = Emitter(model.graph, before=node, prefix=PREFIX)
    h, target = node.inputs[0], constant(node.inputs[1])
    rest = [int(d) for d in target[2:]]  # type: ignore[index]
    dense = dense_behind(model, apart)
    kernel = constant(dense.inputs[1]) if dense is not None else None
    if dense is None or kernel is None or kernel.size * views > MOST_WEIGHTS:
        turned = emit("Transpose", emit("Reshape", h, [-1, views, *rest]), perm=[1, 0, *range(2, 2 + len(rest))])
        if list(order) != list(range(views)):
            turned = emit("Gather", turned, np.argsort(order), axis=0)
        replace_value(model, node.outputs[0], turned)
        return
    tiled = [w * kernel.astype(np.float64) for w in apart.weights[list(order)]]  # type: ignore[index]
    emit.before = dense
    flat = emit("Reshape", h, [-1, views * rest[0]])
    replace_value(model, dense.outputs[0], emit("Gemm", flat, np.concatenate(tiled), *dense.inputs[2:]))
