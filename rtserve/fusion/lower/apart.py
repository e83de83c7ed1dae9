"""Views that lie behind the batch, (batch x views), put apart where the graph as assembled has them in front of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.joint import Apart, Joint, dense_behind, ends_of
from rtserve.fusion.ir.landmarks import rework
from rtserve.fusion.ir.passes import Refused
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, replace_value

__all__ = ["MOST_WEIGHTS", "apart_behind", "turn_apart"]

MOST_WEIGHTS = 1 << 14
"""Weights up to which a mean over views goes into the dense layer; more would cost more to read than the mean."""


def apart_behind(model: ir.Model, joint: Joint) -> list[tuple[ir.Node, Apart]]:
    """Return where joined views are put apart; `Refused` where that is on the way to what reads them."""
    if joint.group is None or not (ends := ends_of(model, joint.group)):
        raise Refused("they are put apart again on the way")
    return ends


def turn_apart(model: ir.Model, ends: Sequence[tuple[ir.Node, Apart]], order: Sequence[int]) -> None:
    r"""Let what puts views apart, a Reshape to (views, batch, ...), find them behind the batch, in an order.

    A mean over them goes into the dense layer, :math:`W \sum_b w_b h_b = [w_1 W \dots w_B W]\,[h_1; \dots; h_B]`.
    """
    views = len(order)
    for node, apart in ends:
        emit = Emitter(model.graph, before=node, prefix="apart")
        h, rest = node.inputs[0], constant(node.inputs[1])[2:].tolist()  # type: ignore[index]
        dense = dense_behind(model, apart)
        kernel = constant(dense.inputs[1]) if dense is not None else None
        if dense is None or kernel is None or kernel.size * views > MOST_WEIGHTS:
            turned = emit("Transpose", emit("Reshape", h, [-1, views, *rest]), perm=[1, 0, *range(2, 2 + len(rest))])
            if list(order) != list(range(views)):
                turned = emit("Gather", turned, np.argsort(order), axis=0)
            replace_value(model, node.outputs[0], turned)
            continue
        tiled = [w * kernel.astype(np.float64) for w in apart.weights[list(order)]]  # type: ignore[index]
        emit.before = dense
        rework(dense.outputs[0], 1.0)
        flat = emit("Reshape", h, [-1, views * rest[0]])
        replace_value(model, dense.outputs[0], emit("Gemm", flat, np.concatenate(tiled), *dense.inputs[2:]))
