"""Tracing the affine part of a graph: which values are affine maps of the window, and which map.

Each operator has a handler that carries an `Affine` through it or refuses with a reason. Arithmetic is done on the
impulse responses in float64 with the electrode axis reduced to 1, so that the cost does not depend on the channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine import arithmetic, operators
from rtserve.fusion.affine.arithmetic import NotLinear
from rtserve.fusion.affine.operator import require_followed
from rtserve.fusion.affine.trace_conv import conv
from rtserve.fusion.affine.value import Affine, static_dims
from rtserve.fusion.ir.nodes import computing
from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.ir.traits import Trait, has
from rtserve.fusion.ir.traits import operators as operators_with
from rtserve.graphs.fold import constant
from rtserve.graphs.macs import node_macs

__all__ = ["Trace", "trace"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """What was found.

    Parameters
    ----------
    values : dict of Value to Affine
        Every affine value, the input included.
    refusals : dict of Node to Refused
        Nodes that read an affine value and are not affine themselves, with the reason.
    """

    values: dict[ir.Value, Affine] = field(default_factory=dict)
    refusals: dict[ir.Node, Refused] = field(default_factory=dict)

    def macs(self, value: ir.Value | None) -> int:
        """Return the multiply-adds per window of the affine nodes behind a value, as they are.

        What something else than an affine node reads is computed in any case and does not count.
        """
        nodes = computing([value], lambda v: v is value or (v in self.values and not self.stops_at(v)))
        return sum(map(self._macs, nodes))

    def saved(self, model: ir.Model, values: Collection[ir.Value]) -> int:
        """Return the multiply-adds per window of the nodes that nothing reads once some values come from elsewhere."""
        needed = computing(model.graph.outputs, lambda value: value not in values)
        nodes = {node for value in self.values if (node := value.producer()) is not None}
        return sum(map(self._macs, nodes - needed))

    def _macs(self, node: ir.Node) -> int:
        """Return the multiply-adds of a node per window, which is many rows where electrodes lie on the batch."""
        made = self.values[node.outputs[0]]
        naive = 2 * math.prod(made.dims) * made.dims[-2] if node.op_type == "DFT" else 0  # as onnxruntime transforms
        return max(made.folded, 1) * (naive or node_macs(node))

    def ends_at(self, value: ir.Value) -> bool:
        """Whether a non-linearity reads a value."""
        return any(isinstance(self.refusals.get(reader), NotLinear) for reader in value.consumers())

    def stops_at(self, value: ir.Value) -> bool:
        """Whether something that is not affine reads a value."""
        return any(reader in self.refusals for reader in value.consumers())


def trace(model: ir.Model, apart: int) -> Trace:
    """Follow the input through every node that is affine in it.

    Parameters
    ----------
    model : onnx_ir.Model
        With shapes inferred; constants folded.
    apart : int
        Samples between the impulses; see `rtserve.fusion.affine.operator.spacings`.
    """
    found = Trace()
    x = model.graph.inputs[0]
    n_chans, n_times = static_dims(x)
    found.values[x] = Affine.source(n_chans, n_times, apart)
    for node in model.graph:
        if any(value in found.values for value in node.inputs):
            try:
                found.values.update(zip(node.outputs, _carried(node, found), strict=True))
            except Refused as refusal:
                found.refusals[node] = refusal.at(node)
            _let_go(node, found)
    return found


def _let_go(node: ir.Node, found: Trace) -> None:
    """Keep no numbers of what a node was the last to read, where none is to be collapsed: long windows have many."""
    for value in {v for v in node.inputs if v in found.values and not v.is_graph_output()}:
        if all(out in found.values for reader in value.consumers() for out in reader.outputs):
            found.values[value] = found.values[value].told


def _carried(node: ir.Node, found: Trace) -> list[Affine]:
    """Return what a node makes of affine values."""
    handler = _HANDLERS.get(node.op_type) or _OF_SEVERAL.get(node.op_type)
    if handler is None:
        if node.op_type in _NOT_FOLLOWED:
            raise Refused("operators of its kind are not followed")
        raise NotLinear("not linear")
    inputs = [_input(value, found) for value in node.inputs]
    affine = [isinstance(value, Affine) for value in inputs]
    if node.op_type in _HANDLERS and affine != [True] + [False] * (len(affine) - 1):
        raise Refused("its weights are computed")
    if node.op_type != "Conv" and any(isinstance(value, Affine) and value.bank > 1 for value in inputs):
        raise Refused("electrodes of several filters lie on one axis")
    result = handler(node, *inputs)
    results = result if isinstance(result, list) else [result]
    for one in results:
        require_followed(one.response.size)
    if any(isinstance(one, Affine) and one.weighed_out for one in inputs) or _weighs_out(node, inputs):
        return [replace(one, weighed_out=True) for one in results]
    return results


def _weighs_out(node: ir.Node, inputs: Collection[Affine | np.ndarray | None]) -> bool:
    """Whether a weight of a node is 0, the first of its constants: what it is of is read nevertheless."""
    constants = (one for one in inputs if isinstance(one, np.ndarray))
    weight = next(constants, None) if has(node, Trait.WEIGHS) or node.op_type == "Einsum" else None
    return weight is not None and not weight.all()


def _input(value: ir.Value | None, found: Trace) -> Affine | np.ndarray | None:
    """Return an input of a node as a handler takes it: affine, constant (in float64), or left out."""
    if value is None:
        return None
    if value in found.values:
        return found.values[value].whole
    array = constant(value)
    if array is None:
        raise Refused("an input is neither affine nor constant")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Refused("a constant is not finite")
    return array.astype(np.float64) if array.dtype.kind == "f" else array


_Handler = Callable[..., "Affine | list[Affine]"]
_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), operators.reshape),
    "Transpose": lambda node, value: value.transposed(node.attributes.get_ints("perm")),
    "Slice": operators.slices,
    "Split": operators.split,
    "Gather": operators.gather,
    "Pad": operators.pad,
    "Neg": lambda _, value: arithmetic.times(value, -1.0),
    "Identity": lambda _, value: value,
    "BatchNormalization": arithmetic.batchnorm,
    **dict.fromkeys(("ReduceMean", "ReduceSum"), operators.reduce),
    "CumSum": operators.running_sum,
    "Expand": operators.expand,
    "Tile": operators.tile,
    "AveragePool": operators.average_pool,
    "DFT": operators.dft,
    "Conv": conv,
}
"""What is linear in its first input; the others are parameters."""
_OF_SEVERAL: dict[str, _Handler] = {
    "Concat": arithmetic.concat,
    "Mul": arithmetic.multiply,
    "Div": arithmetic.divide,
    "Add": arithmetic.add,
    "Sub": partial(arithmetic.add, sign=-1.0),
    "Where": arithmetic.where,
    "MatMul": operators.matmul,
    "Einsum": operators.einsum,
}
"""What is linear in some of its inputs."""
_NOT_FOLLOWED = {"Resize", "Upsample", "Shape", *operators_with(Trait.AFFINE | Trait.WEIGHS)}
"""What is linear, or reads no number, and has no handler."""
