"""Tracing the affine part of a graph: which values are affine maps of the window, and which map.

Each operator has a handler that carries an `Affine` through it or refuses with a reason. Arithmetic is done on the
impulse responses in float64 with the electrode axis reduced to 1, so that the cost does not depend on the channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.ir.nodes import producer
from rtserve.fusion.ir.refused import Refused
from rtserve.fusion.passes.affine import Affine, guard, static_dims
from rtserve.fusion.passes.trace_conv import conv as _conv
from rtserve.fusion.passes.trace_signal import average_pool, dft
from rtserve.graphs.fold import constant
from rtserve.graphs.macs import node_macs

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Trace", "trace"]

LARGEST = 60_000_000
"""Impulse responses with more numbers than this are not followed (float64: half a gigabyte)."""


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
        """Return the multiply-adds per window of the affine nodes behind a value, as they are."""
        seen: set[Any] = set()
        stack = [value]
        while stack:
            node = producer(stack.pop())
            if node is not None and node not in seen:
                seen.add(node)
                stack += [v for v in node.inputs if v in self.values]
        return sum(_dft_macs(node) if node.op_type == "DFT" else node_macs(node) for node in seen)


def _dft_macs(node: ir.Node) -> int:
    """Return what a naive transform costs (onnxruntime's is naive): length x outputs, complex."""
    dims = [d for d in node.outputs[0].shape or (1,) if isinstance(d, int)]
    return int(np.prod(dims)) * max(dims[-2] if len(dims) > 1 else 1, 1) * 2


def trace(model: ir.Model) -> Trace:
    """Follow the input through every node that is affine in it.

    Parameters
    ----------
    model : onnx_ir.Model
        With shapes inferred; constants folded.
    """
    found = Trace()
    x = model.graph.inputs[0]
    n_chans, n_times = static_dims(x)
    found.values[x] = Affine.source(n_chans, n_times)
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
        if value is None:
            arguments.append(None)
        elif value in found.values:
            arguments.append(found.values[value])
        else:
            array = constant(value)
            if array is None:
                raise Refused("an input is neither affine nor constant")
            arguments.append(array.astype(np.float64) if array.dtype.kind == "f" else array)
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
        raise Refused("a transpose moves the spatial filters")
    dims = tuple(value.dims[axis] for axis in order)
    electrode = order.index(value.electrode) if value.electrode is not None else None
    return value.mapped(lambda a: a.transpose(0, *[axis + 1 for axis in order]), dims, electrode)


def _axes(value: Affine, axes: Any) -> list[int]:
    """Return axes of a node as axes of `dims`; touching the batch or the electrodes is refused."""
    rank = len(value.dims) + 1
    mine = [int(axis) % rank - 1 for axis in np.atleast_1d(axes)]
    if any(axis < 0 for axis in mine):
        raise Refused("it acts on the batch")
    return mine


def _slice(node: ir.Node, args: list[Any]) -> Affine:
    value, starts, ends = args[0], args[1], args[2]
    axes = _axes(value, args[3] if len(args) > 3 and args[3] is not None else np.arange(1, 1 + len(starts)))
    steps = args[4] if len(args) > 4 and args[4] is not None else np.ones(len(starts), np.int64)
    index: list[slice] = [slice(None)] * len(value.dims)
    touched = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        dim = value.dims[axis]
        first, last, step = int(start), int(end), int(step)
        if step < 0 and last < -dim:
            index[axis] = slice(min(first, dim - 1) if first >= 0 else first, None, step)
        else:
            index[axis] = slice(max(first, -dim), max(last, -dim) if last < 0 else last, step)
        if len(range(dim)[index[axis]]) != dim or step != 1:
            touched.append(axis)
        else:
            index[axis] = slice(None)
    guard(value, touched)
    dims = tuple(len(range(dim)[index[axis]]) for axis, dim in enumerate(value.dims))
    return value.mapped(lambda a: a[(slice(None), *index)], dims, value.electrode)  # type: ignore[no-any-return]


def _split(node: ir.Node, args: list[Any]) -> list[Affine]:
    value: Affine = args[0]
    (axis,) = _axes(value, node.attributes.get_int("axis", 0))
    guard(value, [axis])
    sizes = [static_dims(out)[axis] for out in node.outputs]
    edges = np.cumsum([0, *sizes])
    parts = []
    for low, high in itertools.pairwise(edges):
        dims = (*value.dims[:axis], int(high - low), *value.dims[axis + 1 :])
        parts.append(value.mapped(partial(_take, low=int(low), high=int(high), axis=axis + 1), dims, value.electrode))
    return parts


def _take(array: np.ndarray, *, low: int, high: int, axis: int) -> np.ndarray:
    return np.take(array, range(low, high), axis)


def _gather(node: ir.Node, args: list[Any]) -> Affine:
    value, index = args[0], args[1]
    if isinstance(index, Affine) or index.ndim > 1:
        raise Refused("it gathers with more than one axis of indices")
    (axis,) = _axes(value, node.attributes.get_int("axis", 0))
    guard(value, [axis])
    result = value.mapped(lambda a: np.take(a, index, axis=axis + 1), static_dims(node.outputs[0]), value.electrode)
    if index.ndim == 0 and value.electrode is not None and value.electrode > axis:
        result = replace(result, electrode=value.electrode - 1)
    return result  # type: ignore[no-any-return]


def _pad(node: ir.Node, args: list[Any]) -> Affine:
    value, pads = args[0], args[1]
    mode = node.attributes.get_string("mode", "constant")
    fill = float(args[2]) if len(args) > 2 and args[2] is not None else 0.0
    axes = args[3] if len(args) > 3 and args[3] is not None else np.arange(len(pads) // 2)
    n = len(pads) // 2
    width = [(0, 0)] * (len(value.dims) + 1)
    for i, axis in enumerate(axes):
        width[int(axis) % len(width)] = (int(pads[i]), int(pads[n + i]))
    guard(value, [axis - 1 for axis, w in enumerate(width) if w != (0, 0)])
    if width[0] != (0, 0) or any(min(w) < 0 for w in width) or mode not in ("constant", "edge", "reflect"):
        raise Refused("a pad of an unusual kind")
    if fill != 0.0:
        raise Refused("it pads with a number that is not 0")
    dims = tuple(dim + sum(w) for dim, w in zip(value.dims, width[1:], strict=True))
    return value.mapped(lambda a: np.pad(a, width, mode=mode), dims, value.electrode)  # type: ignore[no-any-return,call-overload]


def _concat(node: ir.Node, args: list[Any]) -> Affine:
    values = [value for value in args if isinstance(value, Affine)]
    first = values[0]
    (axis,) = _axes(first, node.attributes.get_int("axis", 0))
    if len({(v.electrode, v.mixed) for v in values}) > 1:
        raise Refused("it joins values before and after the spatial step")
    if first.electrode == axis:
        raise Refused("it acts on the electrodes")
    if len(values) != len(args):
        values = [v if isinstance(v, Affine) else _constant_like(first, v) for v in args]
    if first.mixed and axis != 0 and not all(_same_mixing(v, first) for v in values):
        raise Refused("it joins different spatial filters along time")
    dims = (*first.dims[:axis], sum(v.dims[axis] for v in values), *first.dims[axis + 1 :])
    spatial = np.concatenate([v.spatial for v in values]) if first.mixed and axis == 0 else first.spatial
    return Affine(
        response=np.concatenate([v.response for v in values], axis=axis + 1),
        bias=np.concatenate([v.bias for v in values], axis=axis),
        dims=dims,
        electrode=first.electrode,
        spatial=spatial,
    )


def _same_mixing(one: Affine, two: Affine) -> bool:
    """Whether two mixed values weigh the electrodes alike."""
    return one.spatial is not None and two.spatial is not None and np.array_equal(one.spatial, two.spatial)


def _constant_like(value: Affine, array: np.ndarray) -> Affine:
    """Return a constant as an affine value of response 0, beside `value`."""
    dims = tuple(array.shape[1:])
    if value.mixed or len(dims) != len(value.dims) or array.shape[0] != 1:
        raise Refused("it joins a constant of another form")
    if value.electrode is not None and np.ptp(array, axis=value.electrode + 1).max() > 0:
        raise Refused("it joins a constant that differs between electrodes")
    bias = array[0] if value.electrode is None else np.take(array[0], [0], axis=value.electrode)
    return Affine(
        response=np.zeros((value.response.shape[0], *bias.shape)), bias=bias, dims=dims, electrode=value.electrode
    )


def _broadcast(value: Affine, array: np.ndarray) -> np.ndarray:
    """Return a constant operand in the shape of `reduced` (or broadcastable to it)."""
    array = np.asarray(array)
    if array.ndim > len(value.dims) + 1 or (array.ndim == len(value.dims) + 1 and array.shape[0] != 1):
        raise Refused("a constant operand enlarges the value")
    array = array.reshape((1,) * (len(value.dims) + 1 - array.ndim) + array.shape)[0]
    if value.electrode is not None and array.shape[value.electrode] != 1:
        if np.ptp(array, axis=value.electrode).max() > 0:
            raise Refused("a constant operand differs between electrodes")
        array = np.take(array, [0], axis=value.electrode)
    if np.broadcast_shapes(array.shape, value.reduced) != value.reduced:
        raise Refused("a constant operand enlarges the value")
    return array


def _mul(node: ir.Node, args: list[Any]) -> Affine:
    left, right = args
    if isinstance(left, Affine) and isinstance(right, Affine):
        raise Refused("a product of two computed values is not linear")
    value, factor = (left, right) if isinstance(left, Affine) else (right, left)
    if node.op_type == "Div":
        if not isinstance(left, Affine):
            raise Refused("dividing by a computed value is not linear")
        factor = 1.0 / factor
    factor = _broadcast(value, factor)
    return value.mapped(lambda a: a * factor, value.dims, value.electrode)


def _add(node: ir.Node, args: list[Any]) -> Affine:
    left, right = args
    sign = -1.0 if node.op_type == "Sub" else 1.0
    if isinstance(left, Affine) and isinstance(right, Affine):
        return _add_two(left, right, sign)
    if isinstance(left, Affine):
        return replace(left, bias=np.broadcast_to(left.bias + sign * _broadcast(left, right), left.reduced))
    value = right if sign > 0 else right.mapped(np.negative, right.dims, right.electrode)
    return replace(value, bias=np.broadcast_to(value.bias + _broadcast(value, left), value.reduced))  # type: ignore[no-any-return]


def _add_two(left: Affine, right: Affine, sign: float) -> Affine:
    if left.dims != right.dims or left.electrode != right.electrode:
        raise Refused("a sum of values of different shape")
    if left.mixed and not _same_mixing(left, right):
        raise Refused("a sum of different spatial filters (rank 2)")
    if left.mixed != right.mixed:
        raise Refused("a sum of values before and after the spatial step")
    return replace(left, response=left.response + sign * right.response, bias=left.bias + sign * right.bias)


def _neg(node: ir.Node, args: list[Any]) -> Affine:
    return args[0].mapped(np.negative, args[0].dims, args[0].electrode)  # type: ignore[no-any-return]


def _same(node: ir.Node, args: list[Any]) -> Affine:
    return args[0]  # type: ignore[no-any-return]


def _batchnorm(node: ir.Node, args: list[Any]) -> Affine:
    value, g, beta, mean, var = args[:5]
    if value.electrode == 0:
        raise Refused("a batch normalisation over electrodes")
    scale = g / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    shape = (-1, *([1] * (len(value.dims) - 1)))
    scaled = value.mapped(lambda a: a * scale.reshape(shape), value.dims, value.electrode)
    shift = (beta - mean * scale).reshape(shape)
    return replace(scaled, bias=scaled.bias + shift)  # type: ignore[no-any-return]


def _matmul(node: ir.Node, args: list[Any]) -> Affine:
    left, right = args
    if isinstance(left, Affine) and isinstance(right, np.ndarray) and right.ndim == 2:
        last = len(left.dims) - 1
        guard(left, [last])
        dims = (*left.dims[:-1], right.shape[1])
        return left.mapped(lambda a: a @ right, dims, left.electrode)
    if isinstance(right, Affine) and isinstance(left, np.ndarray) and left.ndim == 2 and right.electrode == 0:
        if right.mixed or len(right.dims) != 2:
            raise Refused("a matrix product of an unusual kind")
        response = np.broadcast_to(right.response, (len(right.response), len(left), right.dims[1]))
        bias = left.sum(1)[:, None] * right.bias
        return Affine(response=response, bias=bias, dims=(len(left), right.dims[1]), electrode=None, spatial=left)
    raise Refused("a matrix product of an unusual kind")


_HANDLERS: dict[str, Callable[[Any, list[Any]], Affine | list[Affine]]] = {
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "Concat": _concat,
    "Mul": _mul,
    "Div": _mul,
    "Add": _add,
    "Sub": _add,
    "Neg": _neg,
    "Identity": _same,
    "BatchNormalization": _batchnorm,
    "MatMul": _matmul,
    "AveragePool": average_pool,
    "DFT": dft,
    "Conv": _conv,
}
