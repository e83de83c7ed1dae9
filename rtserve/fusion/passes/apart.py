r"""Putting views apart where they lie behind the batch.

A network behind joined views ends in a Reshape to (views, batch, ...). Where the batch is (batch x views) a mean over them
is part of the dense layer behind it, :math:`W \sum_b w_b h_b = [w_1 W \dots w_B W]\,[h_1; \dots; h_B]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.ir.nodes import attributes_of, axes_of, only_reader
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, replace_value

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MOST_WEIGHTS", "put_apart"]

PREFIX = "apart"
MOST_WEIGHTS = 1 << 14
"""Weights up to which a mean over views goes into the dense layer; more would cost more to read than the mean."""


def put_apart(model: ir.Model, apart: ir.Node, order: Sequence[int]) -> None:
    """Let a Reshape to (views, batch, ...) find the views behind the batch; a mean over them goes into the dense layer.

    Parameters
    ----------
    model : onnx_ir.Model
        Changed in place.
    apart : onnx_ir.Node
        The Reshape; its input is now (batch x views, ...).
    order : sequence of int
        The number of every view, as they lie behind each other.
    """
    views = len(order)
    emit = Emitter(model.graph, before=apart, prefix=PREFIX)
    h, target = apart.inputs[0], constant(apart.inputs[1])
    rest = [int(d) for d in target[2:]]  # type: ignore[index]
    weighted = _weights_of(apart, views) if len(rest) == 1 else None
    dense = only_reader(weighted[0], "Gemm") if weighted is not None else None
    kernel = _kernel(dense, weighted[0]) if dense is not None and weighted is not None else None
    if weighted is None or dense is None or kernel is None or kernel.size * views > MOST_WEIGHTS:
        turned = emit("Transpose", emit("Reshape", h, [-1, views, *rest]), perm=[1, 0, *range(2, 2 + len(rest))])
        if list(order) != list(range(views)):
            turned = emit("Gather", turned, np.argsort(order), axis=0)
        replace_value(model, apart.outputs[0], turned)
        return
    attributes = attributes_of(dense)
    tiled = [w * kernel.astype(np.float64) for w in weighted[1][list(order)]]
    kernel = np.concatenate(tiled, axis=1 if attributes.get("transB", 0) else 0)
    emit.before = dense
    flat = emit("Reshape", h, [-1, views * rest[0]])
    replace_value(model, dense.outputs[0], emit("Gemm", flat, kernel, *dense.inputs[2:], **attributes))


def _kernel(dense: ir.Node, h: ir.Value) -> np.ndarray | None:
    """Return the weights of a dense layer that reads `h`, (batch, features); None for another product."""
    plain = dense.inputs[0] is h and not dense.attributes.get_int("transA", 0)
    return constant(dense.inputs[1]) if plain else None


def _weights_of(apart: ir.Node, views: int) -> tuple[ir.Value, np.ndarray] | None:
    """Return the mean or weighted sum over the views and its weights; None for anything else."""
    mean = only_reader(apart.outputs[0], "ReduceMean")
    if mean is not None:
        return (mean.outputs[0], np.full(views, 1.0 / views)) if _over_views(mean) else None
    mul = only_reader(apart.outputs[0], "Mul")
    total = only_reader(mul.outputs[0], "ReduceSum") if mul is not None else None
    weights = next((a for a in map(constant, mul.inputs) if a is not None), None) if mul is not None else None
    if total is None or weights is None or weights.shape != (views, 1, 1) or not _over_views(total):
        return None
    return total.outputs[0], weights.reshape(-1).astype(np.float64)


def _over_views(node: ir.Node) -> bool:
    return axes_of(node) == (0,) and not node.attributes.get_int("keepdims", 1)
