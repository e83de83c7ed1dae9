"""Tracing the affine part of a graph: which values are affine maps of the window, and which map.

Each operator has a handler that carries an `Affine` through it or refuses with a reason. Arithmetic is done on the
impulse responses in float64 with the electrode axis reduced to 1, so that the cost does not depend on the channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.operator import LARGEST
from rtserve.fusion.affine.trace_conv import conv as _conv
from rtserve.fusion.affine.trace_signal import average_pool, dft, pad, reduce, running_sum
from rtserve.fusion.affine.value import Affine, axes_in, static_dims
from rtserve.fusion.ir.nodes import computing
from rtserve.fusion.ir.passes import Refused
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
        rows = max(self.values[node.outputs[0]].folded, 1)
        return rows * (_dft_macs(node) if node.op_type == "DFT" else node_macs(node))

    def stops_at(self, value: ir.Value | None) -> bool:
        """Whether something that is not affine reads a value."""
        return value is not None and any(reader in self.refusals for reader in value.consumers())


def _dft_macs(node: ir.Node) -> int:
    """Return what a naive transform costs (onnxruntime's is naive): length x outputs, complex."""
    dims = [d for d in node.outputs[0].shape or (1,) if isinstance(d, int)]
    return int(np.prod(dims)) * max(dims[-2] if len(dims) > 1 else 1, 1) * 2


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
        if not any(value in found.values for value in node.inputs if value is not None):
            continue
        try:
            results = _carry(node, found)
        except Refused as refusal:
            found.refusals[node] = refusal.at(node)
            continue
        found.values.update(zip(node.outputs, results, strict=True))
    return found


def _carry(node: ir.Node, found: Trace) -> list[Affine]:
    handler = _HANDLERS.get(node.op_type)
    if handler is None:
        raise Refused("not linear")
    arguments: list[Any] = []
    for value in node.inputs:
        affine, array = found.values.get(value) if value is not None else None, constant(value)
        if value is not None and affine is None and array is None:
            raise Refused("an input is neither affine nor constant")
        array = array.astype(np.float64) if array is not None and array.dtype.kind == "f" else array
        arguments.append(array if affine is None else affine)
    if node.op_type != "Conv" and any(isinstance(a, Affine) and a.bank > 1 for a in arguments):
        raise Refused("electrodes of several filters lie on one axis")
    result = handler(node, arguments)
    results = result if isinstance(result, list) else [result]
    if any(r.response.size > LARGEST for r in results):
        raise Refused("the impulse responses are too large to follow")
    return results


def _reshape(node: ir.Node, args: list[Any]) -> Affine:
    return args[0].reshaped(static_dims(node.outputs[0]))  # type: ignore[no-any-return]


def _transpose(node: ir.Node, args: list[Any]) -> Affine:
    value: Affine = args[0]
    perm = node.attributes.get_ints("perm")
    if perm is None or perm[0] != 0:
        raise Refused("a transpose moves the batch")
    order = [axis - 1 for axis in perm[1:]]
    if value.mixed and order[0] != 0:
        value = value.as_electrodes()
    dims = tuple(value.dims[axis] for axis in order)
    electrode = order.index(value.electrode) if value.electrode is not None else None
    return value.mapped(lambda a: a.transpose(0, *[axis + 1 for axis in order]), dims, electrode)


def _slice(node: ir.Node, args: list[Any]) -> Affine:
    value, starts, ends = args[0], args[1], args[2]
    axes = axes_in(value, args[3] if len(args) > 3 and args[3] is not None else np.arange(1, 1 + len(starts)))
    steps = args[4] if len(args) > 4 and args[4] is not None else np.ones(len(starts), np.int64)
    for axis, *span in zip(axes, starts, ends, steps, strict=True):
        part, every = slice(*map(int, span)), range(value.dims[axis])
        if every[part] != every:
            value = value.along(axis, partial(_picked, pick=part))
    return value  # type: ignore[no-any-return]


def _picked(array: np.ndarray, axis: int, *, pick: Any) -> np.ndarray:
    return array[(slice(None),) * axis + (pick,)]


def _split(node: ir.Node, args: list[Any]) -> list[Affine]:
    value: Affine = args[0]
    (axis,) = axes_in(value, node.attributes.get_int("axis", 0))
    edges = np.cumsum([0, *(static_dims(out)[axis] for out in node.outputs)]).tolist()
    return [value.along(axis, partial(_picked, pick=slice(*ends))) for ends in itertools.pairwise(edges)]


def _gather(node: ir.Node, args: list[Any]) -> Affine:
    value, index = args[0], args[1]
    if isinstance(index, Affine) or index.ndim > 1:
        raise Refused("it gathers with more than one axis of indices")
    (axis,) = axes_in(value, node.attributes.get_int("axis", 0))
    picked = value.along(axis, partial(_picked, pick=index.reshape(-1)))
    return picked if index.ndim else picked.reshaped(static_dims(node.outputs[0]))  # type: ignore[no-any-return]


def _concat(node: ir.Node, args: list[Any]) -> Affine:
    values = [value for value in args if isinstance(value, Affine)]
    first = values[0]
    (axis,) = axes_in(first, node.attributes.get_int("axis", 0))
    if len({(v.electrode, v.folded, v.mixed) for v in values}) > 1:
        raise Refused("it joins values before and after the spatial step")
    joined = replace(first, dropped=frozenset.intersection(*(v.dropped for v in values)))
    electrodes = first.electrode == axis
    if electrodes and (len(values) < len(args) or any(not np.array_equal(v.response, first.response) for v in values)):
        raise Refused("it joins electrodes behind different filters")
    values = [v if isinstance(v, Affine) else _constant_like(first, v) for v in args]
    rows = [v.dims[axis] if electrodes else max(len(v.bias) for v in values) for v in values]
    biases = [np.broadcast_to(v.bias, (n, *v.bias.shape[1:])) for v, n in zip(values, rows, strict=True)]
    joined = replace(
        joined,
        bias=np.concatenate(biases, axis=0 if electrodes else axis + 1),
        dims=(*first.dims[:axis], sum(v.dims[axis] for v in values), *first.dims[axis + 1 :]),
    )
    if electrodes:
        return replace(joined, mix=np.concatenate([v.electrodes for v in values]))
    beside = first.mixed and axis == 0
    if not beside and not all(_same_mixing(v, first) for v in values):
        raise Refused("it joins different spatial filters along time")
    spatial = np.concatenate([v.spatial for v in values]) if beside else first.spatial
    return replace(joined, response=np.concatenate([v.response for v in values], axis=axis + 1), spatial=spatial)


def _same_mixing(one: Affine, two: Affine) -> bool:
    """Whether two values weigh the electrodes alike."""
    pairs = ((one.spatial, two.spatial), (one.mix, two.mix))
    return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)


def _constant_like(value: Affine, array: np.ndarray) -> Affine:
    """Return a constant as an affine value of response 0, beside `value`."""
    dims = tuple(array.shape[1:])
    if value.mixed or len(dims) != len(value.dims) or array.shape[0] != 1:
        raise Refused("it joins a constant of another form")
    if value.electrode is not None and np.ptp(array, axis=value.electrode + 1).max() > 0:
        raise Refused("it joins a constant that differs between electrodes")
    bias = array if value.electrode is None else np.take(array, [0], axis=value.electrode + 1)
    return replace(value, response=np.zeros((len(value.response), *bias.shape[1:])), bias=bias, dims=dims)


def _operand(value: Affine, array: np.ndarray) -> np.ndarray:
    """Return a constant operand as (1 or electrodes, ...), broadcastable to `bias`."""
    array = np.asarray(array)
    if array.ndim > len(value.dims) + 1 or (array.ndim == len(value.dims) + 1 and array.shape[0] != 1):
        raise Refused("a constant operand enlarges the value")
    array = array.reshape((1,) * (len(value.dims) + 1 - array.ndim) + array.shape)
    if value.electrode is not None:
        array = np.swapaxes(array, 0, value.electrode + 1)
        if len(array) not in (1, value.dims[value.electrode]):
            raise Refused("a constant operand enlarges the value")
        array = array[:1] if np.ptp(array, axis=0).max() == 0 else array
    if np.broadcast_shapes(array.shape[1:], value.reduced) != value.reduced:
        raise Refused("a constant operand enlarges the value")
    return array


def _times(value: Affine, array: np.ndarray) -> Affine:
    """Return a value times a constant, which may be another for every electrode."""
    factor = _operand(value, array)
    if len(factor) == 1:
        return value.mapped(lambda a: a * factor[0], value.dims, value.electrode)
    if np.ptp(factor.reshape(len(factor), -1), axis=1).max() > 0 or not factor.all():
        raise Refused("a constant operand differs between electrodes and along another axis, or is 0")
    own = factor.reshape(len(factor), -1)[:, 0]
    return value.along(value.electrode or 0, lambda a, axis: a * own.reshape(-1, *(1,) * (a.ndim - 1)))


def _plus(value: Affine, array: np.ndarray) -> Affine:
    """Return a value plus a constant, which may be another for every electrode."""
    bias = value.bias + _operand(value, array)
    return replace(value, bias=np.broadcast_to(bias, (len(bias), *value.reduced)))


def _mul(node: ir.Node, args: list[Any]) -> Affine:
    left, right = args
    if isinstance(left, Affine) and isinstance(right, Affine):
        raise Refused("a product of two computed values is not linear")
    value, factor = (left, right) if isinstance(left, Affine) else (right, left)
    if node.op_type == "Div":
        if not isinstance(left, Affine):
            raise Refused("dividing by a computed value is not linear")
        factor = 1.0 / factor
    return _times(value, factor)


def _add(node: ir.Node, args: list[Any]) -> Affine:
    left, right = args
    sign = -1.0 if node.op_type == "Sub" else 1.0
    if isinstance(left, Affine) and isinstance(right, Affine):
        return _add_two(left, right, sign)
    if isinstance(left, Affine):
        return _plus(left, sign * right)
    return _plus(_times(right, np.array(sign)), left)


def _add_two(left: Affine, right: Affine, sign: float) -> Affine:
    if left.mixed != right.mixed:
        raise Refused("a sum of values before and after the spatial step")
    rank = len(left.dims) == len(right.dims) and (left.electrode, left.folded) == (right.electrode, right.folded)
    if not rank or (left.mixed and left.dims != right.dims):
        raise Refused("a sum of values of different shape")
    both = replace(
        left,
        dims=np.broadcast_shapes(left.dims, right.dims),
        bias=left.bias + sign * right.bias,
        dropped=left.dropped & right.dropped,
    )
    if _same_mixing(left, right) and (left.electrode is None or len(left.electrodes) == len(right.electrodes)):
        return replace(both, response=left.response + sign * right.response)
    if left.mixed or not np.array_equal(left.response, right.response):
        raise Refused("a sum of different spatial filters (rank 2)")
    return replace(both, mix=left.electrodes + sign * right.electrodes)


def _where(node: ir.Node, args: list[Any]) -> Affine:
    """Leave electrodes out."""
    mask, left, right = args
    value, out = (left, mask) if isinstance(left, Affine) else (right, ~np.asarray(mask))
    other = right if isinstance(left, Affine) else left
    if isinstance(other, Affine) or not isinstance(value, Affine) or value.electrode is None or np.any(other):
        raise Refused("it chooses between computed values")
    keep = np.moveaxis(out.reshape((1,) * (len(value.dims) + 1 - out.ndim) + out.shape), value.electrode + 1, 0)
    if keep.size != value.dims[value.electrode]:
        raise Refused("it chooses otherwise than by electrode")
    return value.along(value.electrode, lambda a, axis: np.where(keep.reshape(-1, *(1,) * (a.ndim - 1)), a, 0.0))


def _batchnorm(node: ir.Node, args: list[Any]) -> Affine:
    value, g, beta, mean, var = args[:5]
    scale = g / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    shape = (-1, *([1] * (len(value.dims) - 1)))
    return _plus(_times(value, scale.reshape(shape)), (beta - mean * scale).reshape(shape))


def _matmul(node: ir.Node, args: list[Any]) -> Affine:
    left, right = args
    if isinstance(left, Affine) and isinstance(right, np.ndarray) and right.ndim == 2:
        return left.along(len(left.dims) - 1, lambda a, axis: np.moveaxis(np.moveaxis(a, axis, -1) @ right, -1, axis))
    if isinstance(right, Affine) and isinstance(left, np.ndarray) and left.ndim == 2 and len(right.dims) == 2:
        right = right.as_electrodes() if right.mixed else right
        if right.electrode == 0:
            n = len(left)
            return right.spatial_step(left, np.zeros(n), np.zeros(n, np.int64), (n, right.dims[1]))
    raise Refused("a matrix product of an unusual kind")


_HANDLERS: dict[str, Callable[[Any, list[Any]], Affine | list[Affine]]] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": pad,
    "Concat": _concat,
    "Mul": _mul,
    "Div": _mul,
    "Add": _add,
    "Sub": _add,
    "Neg": lambda node, args: _times(args[0], np.array(-1.0)),
    "Identity": lambda node, args: args[0],
    "BatchNormalization": _batchnorm,
    "MatMul": _matmul,
    "ReduceMean": reduce,
    "ReduceSum": reduce,
    "CumSum": running_sum,
    "Where": _where,
    "AveragePool": average_pool,
    "DFT": dft,
    "Conv": _conv,
}
