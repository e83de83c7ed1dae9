r"""Views one above the other on the height axis, where those that move nothing never leave the blocked layout.

Behind a shared first stage without its offset, :math:`x = W w`, every view is :math:`a_v x + \beta` as a whole (identity,
scale, sign flip) or put together by a Gather of rows :math:`r_v` (rolls, `rtserve.fusion.lower.onnxruntime.views`). With
the views v on the height axis, (batch, channels, views, time),

.. math:: h_v = f\Big(\beta + \sum_s a_{s,v}\, x_s + r_v\Big),

the sum over the sources s is for each of them one depthwise convolution, as high as it has views, over a source of height
one, and the gathered rows get to their place by one of a single tap: all other rows see padding alone. The engine adds one
to the other and applies f in the same go. A scaled view is then a row of a kernel; before it was a step, a turn out of the
blocks, a copy into the table, one out of it and a turn back into blocks.

The kernels of the layers behind are of height one and run as they are. Where the network leaves the blocks the views are
turned to the batch again, (batch x views), as the Gather left them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import COSTS
from rtserve.fusion.ir.conv import conv_of
from rtserve.fusion.ir.landmarks import carry
from rtserve.fusion.ir.nodes import (
    attributes_of,
    auto_padded,
    axes_of,
    geometry_of,
    inner_dims,
    producer,
    reread,
    stepped,
)
from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.ir.traits import Trait, has
from rtserve.fusion.lower.apart import turn_apart
from rtserve.fusion.lower.onnxruntime.table import FROM_ROWS, TO_ROWS, Row, ViewTable
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, replace_value

__all__ = ["rewrite"]

ALIKE = 1e-6
"""Offsets that differ by no more than this part of the largest are one: they were rounded to float32 once."""
GLOBAL = {"GlobalAveragePool": "AveragePool", "GlobalMaxPool": "MaxPool"}
BESIDE = (0, 2, 1, 3)
"""The turn from (batch, channels, views, time) to (batch, views, channels, time)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """Which views are whole copies of which source, and which are gathered."""

    table: ViewTable
    whole: dict[int, Row]
    gathered: list[int]
    bare: dict[ir.Value, ir.Value] = field(default_factory=dict)
    """Values without the offset, made on demand and once."""

    @property
    def bases(self) -> dict[ir.Value, dict[int, float]]:
        """The views that are copies of each value, with their factors."""
        found: dict[ir.Value, dict[int, float]] = {}
        for view, row in self.whole.items():
            found.setdefault(row.base, {})[view] = float(np.float32(row.factor))
        return found

    def without(self, emit: Emitter, value: ir.Value) -> ir.Value:
        """Return a sum of convolutions, or a product, without its offset; what it shares with others is computed once."""
        node = value.producer()
        if node is None or not _offsets(value):
            return value
        if value not in self.bare:
            summed = node.op_type == "Add"
            inputs = [self.without(emit, v) for v in node.inputs if v is not None] if summed else node.inputs[:2]
            self.bare[value] = emit(node.op_type, *inputs, **attributes_of(node))
            carry(self.bare[value], [value])
        return self.bare[value]


def _offsets(value: ir.Value | None) -> list[np.ndarray]:
    """Return the offsets of the convolutions, or of the product, of which a value is the sum."""
    node = producer(value)
    if node is not None and node.op_type == "Add" and all(constant(v) is None for v in node.inputs):
        return [offset for v in node.inputs for offset in _offsets(v)]
    product = node is not None and (node.op_type == "Gemm" or conv_of(node) is not None)
    bias = constant(node.inputs[2]) if node is not None and product and len(node.inputs) > 2 else None
    return [] if bias is None else [bias.astype(np.float64)]


def rewrite(model: ir.Model, node: ir.Node, table: ViewTable) -> str:
    """Put the views that a node joins one above the other; return what was done.

    Raises
    ------
    Refused
        Where it is better left as it is.
    """
    plan = _planned(table)
    if not _pays(plan):
        raise Refused(f"{len(plan.whole)} of {len(table.index)} views are whole, too few")
    emit = Emitter(model.graph, before=node, prefix="tall")
    y = stepped(emit, table.steps, _tall(emit, plan))
    layers = _stand_up(model, table.last, y)
    turn_apart(model, table.ends, [*chain(*plan.bases.values()), *plan.gathered])
    return (
        f"{len(plan.whole)} whole views and {len(plan.gathered)} gathered ones above each other through {layers} nodes"
    )


def _planned(table: ViewTable) -> _Plan:
    """Return how the views are put together.

    Raises
    ------
    Refused
        Where a source holds another offset than the views do together, or a copy is in pieces.
    """
    whole = {int(v): row for row in table.rows for v in np.flatnonzero(table.whole(row))}
    for row in table.rows:
        held = np.sum([np.zeros(len(table.offset)), *_offsets(row.base)], axis=0)
        if np.abs(held - table.offset).max() > ALIKE * np.abs(table.offset).max():
            raise Refused("the views have no offset in common")
    gathered = [v for v in range(len(table.index)) if v not in whole]
    if any(table.rows[k].base is not table.rows[k].value for k in np.unique(table.number[gathered])):
        raise Refused("a copy is in pieces")
    return _Plan(table=table, whole=whole, gathered=gathered)


def _pays(plan: _Plan) -> bool:
    """Whether the turns and copies of whole views take more time than putting all views in their place."""
    views, n = plan.table.index.shape
    samples = len(plan.table.offset) * n
    saved = len(set(plan.whole.values())) * (3 * COSTS.node_us + 5 * samples * COSTS.placed_us)
    added = (len(plan.bases) + bool(plan.gathered)) * (COSTS.node_us + views * samples * COSTS.placed_us)
    return bool(saved > added)


def _tall(emit: Emitter, plan: _Plan) -> ir.Value:
    """Return the views, (batch, channels, views, time), before what is done elementwise; copies of one are neighbours."""
    views, channels = len(plan.table.index), len(plan.table.offset)
    parts = [(plan.without(emit, base), [*copies.values()], 1) for base, copies in plan.bases.items()]
    parts += [(_gathered(emit, plan), [1.0], len(plan.gathered))] if plan.gathered else []
    y, top = None, 0
    for number, (x, factors, rows) in enumerate(parts, start=1):
        kernel = np.tile(factors[::-1], (channels, 1)).reshape(channels, 1, -1, 1)
        bias = [plan.table.offset.astype(np.float32)] if number == len(parts) else []
        pads = [top + len(factors) - 1, 0, views - top - rows, 0]
        part = emit("Conv", x, kernel, *bias, group=channels, pads=pads)
        y, top = part if y is None else emit("Add", part, y), top + len(factors)
    return y  # type: ignore[return-value]


def _gathered(emit: Emitter, plan: _Plan) -> ir.Value:
    """Return the gathered views without their offset, (batch, channels, gathered views, time)."""
    table, number = plan.table, plan.table.number[plan.gathered]
    parts, ahead, length = [], np.zeros(len(table.rows), dtype=np.int64), 0
    for k in np.unique(number):
        row = table.rows[k]
        ahead[k] = length - row.start
        length += row.length
        parts.append(row.written(emit, plan.without(emit, row.value), len(table.offset)))
    joined = emit("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    rows = emit("Gather", joined, table.index[plan.gathered] + ahead[number], axis=1)
    return emit("Transpose", rows, perm=list(FROM_ROWS))


def _stand_up(model: ir.Model, joined: ir.Value, tall: ir.Value) -> int:
    """Compute what follows views on the batch from the same views one above the other; return how many layers.

    What follows (views x batch, channels, 1, time) treats every window for itself, and so it does every row of (batch,
    channels, views, time) in a layer whose kernel is of height one.
    """
    upright: dict[Any, ir.Value] = {joined: tall}
    carry(tall, [joined])
    emit = Emitter(model.graph, prefix="tall")
    done: set[Any] = set()
    for node in list(model.graph):
        if _stands(node, upright):
            emit.before = node
            inputs = [upright.get(v, v) for v in node.inputs]
            upright[node.outputs[0]] = emit(GLOBAL.get(node.op_type, node.op_type), *inputs, **_attributes(node))
            carry(upright[node.outputs[0]], node.outputs)
            done.add(node)
    for value, new in list(upright.items()):
        behind = [node for node in model.graph if value in node.inputs and node not in done]
        if behind:
            emit.before = behind[0]
            _lay_down(model, emit, value, new, behind)
    return len(done)


def _stands(node: ir.Node, upright: dict[Any, ir.Value]) -> bool:
    """Whether a node does to every row what it does to a window of one row."""
    dims, computed = inner_dims(node.outputs[0]), [v for v in node.inputs if v is not None and constant(v) is None]
    if dims is None or len(dims) != 3 or dims[1] != 1 or node.outputs[0].is_graph_output():
        return False
    if not computed or any(v not in upright for v in computed):
        return False
    if node.op_type == "Add":
        return len(computed) == len(node.inputs)
    return has(node, Trait.POINTWISE) or conv_of(node) is not None or node.op_type in GLOBAL or _pools_rows(node)


def _pools_rows(node: ir.Node) -> bool:
    """Whether a node is a pool along time alone."""
    if node.op_type not in GLOBAL.values() or len(node.outputs) != 1 or auto_padded(node):
        return False
    kernel, (strides, _, pads) = node.attributes.get_ints("kernel_shape") or (0,), geometry_of(node, 2)
    return bool((kernel[0], strides[0], pads[0], pads[2]) == (1, 1, 0, 0))


def _attributes(node: ir.Node) -> dict[str, Any]:
    if node.op_type not in GLOBAL:
        return attributes_of(node)
    return {"kernel_shape": [1, inner_dims(node.inputs[0])[2]]}  # type: ignore[index]


def _lay_down(model: ir.Model, emit: Emitter, value: ir.Value, tall: ir.Value, behind: list[ir.Node]) -> None:
    """Give readers the views on the batch; one that wants rank 2 gets it at once."""
    channels, _, n = inner_dims(value)  # type: ignore[misc]
    turned = emit("Transpose", tall, perm=list(TO_ROWS if n == 1 else BESIDE))
    flattening = [node for node in behind if _flattens(node)]
    if flattening:
        flat = emit("Reshape", turned, [-1, channels * n])
        for node in flattening:
            replace_value(model, node.outputs[0], flat)
    others = [node for node in behind if node not in flattening]
    if others:
        reread(others, value, emit("Reshape", turned, [-1, channels, 1, n]))


def _flattens(node: ir.Node) -> bool:
    """Whether a node makes rank 2 of a window."""
    if node.op_type == "Squeeze":
        return {a % 4 for a in axes_of(node) or ()} == {2, 3}
    return bool(node.op_type == "Flatten" and node.attributes.get_int("axis", 1) == 1)
