"""How every operator is written for N members at once; see `rtserve.fusion.program.stack` for the form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK
from rtserve.fusion.ir.nodes import attributes_of
from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.ir.traits import Trait, operators
from rtserve.fusion.ir.widened import acts_along, widened
from rtserve.fusion.program.stack import Parts, Stacker, before_reshape
from rtserve.graphs.fold import constant

__all__ = ["HANDLERS", "gemm_weights"]

PARTS = 8
"""Up to so many members a dense layer is one Gemm each, whose weights the engine packs once; beyond, a batched product."""


def _unary(s: Stacker, index: int, node: ir.Node) -> list[Any]:
    found = s.values[node.inputs[0]]
    if isinstance(found, Parts):
        return [Parts(s.copy(node, [part, *s.feeds(index, node)[1:]])[0] for part in found)]
    return s.copy(node, [s.get(node.inputs[0]), *s.feeds(index, node)[1:]])


def _conv(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    x = node.inputs[0]
    weight = np.concatenate(s.arrays(index, 1))
    bias = [np.concatenate(s.arrays(index, 2))] if len(node.inputs) > 2 and node.inputs[2] is not None else []
    attributes = attributes_of(node)
    group = attributes.get("group", 1)
    if x in s.shared and group == 1:
        return [s.emit("Conv", s.values[x], weight, *bias, **attributes)]
    return [s.emit("Conv", s.get(x), weight, *bias, **attributes | {"group": group * s.n})]


def _norm(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    parameters = [np.concatenate(s.arrays(index, slot)) for slot in range(1, len(node.inputs))]
    return [s.emit(node.op_type, s.get(node.inputs[0]), *parameters, **attributes_of(node))]


def _layer_norm(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    """Normalise with unit scale, then scale and shift member by member."""
    x = node.inputs[0]
    dims = s.dims(x)
    axis = node.attributes.get_int("axis", -1)
    axis = axis if axis >= 0 else len(dims) + 1 + axis
    if len(node.outputs) > 1 and any(o.uses() for o in node.outputs[1:]):
        raise Refused("its statistics are read")
    wide = s.expand(x)
    y = s.emit("LayerNormalization", wide, np.ones(dims[axis - 1 :], np.float32), axis=axis + 1,
               epsilon=node.attributes.get_float("epsilon", 1e-5))  # fmt: skip
    for slot, op in ((1, "Mul"), (2, "Add")):
        if slot < len(node.inputs) and node.inputs[slot] is not None:
            y = s.emit(op, y, _stacked_constant(s.arrays(index, slot), len(dims)))
    return [s.collapse(y, dims)] * len(node.outputs)


def _stacked_constant(arrays: list[np.ndarray], rank: int) -> np.ndarray:
    """Return constants as (1, N, ...) beside a value (batch, N, rank axes)."""
    trimmed = [a.reshape(a.shape[1:]) if a.ndim == rank + 1 and a.shape[0] == 1 else a for a in arrays]
    if trimmed[0].ndim > rank:
        raise Refused("a constant enlarges the value")
    return np.stack([a.reshape((1,) * (rank - a.ndim) + a.shape) for a in trimmed])[None]


def _binary(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    dims = s.dims(node.outputs[0])
    sides = []
    simple = all(constant(v) is None and v not in s.shared and s.dims(v) == dims for v in node.inputs)
    if simple:
        return [s.emit(node.op_type, *[s.get(v) for v in node.inputs])]
    for slot, value in enumerate(node.inputs):
        if constant(value) is not None:
            arrays = s.arrays(index, slot)
            if arrays[0].ndim == 0 and s.is_shared(index, slot):
                sides.append(s.emit.constant(arrays[0], keep=True))
            else:
                sides.append(s.emit.constant(_stacked_constant(arrays, len(dims)), keep=True))
        else:
            if len(s.dims(value)) != len(dims):
                raise Refused("it broadcasts over axes")
            sides.append(s.expand(value))
    return [s.collapse(s.emit(node.op_type, *sides), dims)]


def _matmul(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    dims = s.dims(node.outputs[0])
    sides = []
    for slot, value in enumerate(node.inputs):
        other = node.inputs[1 - slot]
        if constant(value) is None:
            wide = s.expand(value)
            if len(s.dims(value)) == 1:
                wide = s.emit("Unsqueeze", wide, [2])
            sides.append(wide)
        else:
            rank = max(len(s.dims(other)), 2)
            sides.append(s.emit.constant(_stacked_constant(s.arrays(index, slot), rank)[0], keep=True))
    y = s.emit("MatMul", *sides)
    if any(constant(v) is None and len(s.dims(v)) == 1 for v in node.inputs):  # a vector became a matrix of one row
        return [s.emit("Reshape", y, [0, s.n * dims[0], *dims[1:]])]
    return [s.collapse(y, dims)]


def _gemm(s: Stacker, index: int, node: ir.Node) -> list[Any]:
    """A dense layer of N members: N small ones, or a batched product (N, batch, in) x (N, in, out) for many."""
    if constant(node.inputs[0]) is not None or node.attributes.get_int("transA", 0) != 0:
        raise Refused("an unusual form")
    weights, biases = gemm_weights(s, index, node)
    if not any(side % BLOCK for side in weights[0].shape):  # whole blocks: a grouped 1x1 convolution
        return [_pointwise(s, node, weights, biases)]
    if s.n <= PARTS:
        layers = zip(s.pieces(node.inputs[0]), weights, biases, strict=True)
        return [Parts(s.emit("Gemm", piece, w, b) for piece, w, b in layers)]
    (inputs,) = s.dims(node.inputs[0])
    outputs = weights[0].shape[1]
    wide = s.emit("Transpose", s.emit("Reshape", s.get(node.inputs[0]), [0, s.n, inputs]), perm=[1, 0, 2])
    y = s.emit("Add", s.emit("MatMul", wide, np.stack(weights)), np.stack(biases)[:, None])
    return [s.emit("Reshape", s.emit("Transpose", y, perm=[1, 0, 2]), [0, s.n * outputs])]


def _pointwise(s: Stacker, node: ir.Node, weights: list[np.ndarray], biases: list[np.ndarray]) -> ir.Value:
    """A dense layer of N members as one grouped 1x1 convolution on a picture of one pixel."""
    kernel = np.concatenate([w.T for w in weights])[:, :, None, None]
    y = s.emit("Conv", s.emit("Unsqueeze", s.get(node.inputs[0]), [2, 3]), kernel, np.concatenate(biases), group=s.n)
    return s.emit("Squeeze", y, [2, 3])


def gemm_weights(s: Stacker, index: int, node: ir.Node) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return every member's weight (in, out) and bias (out,), factors included, in float32."""
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    transposed = node.attributes.get_int("transB", 0)
    weights = [(w.T if transposed else w).astype(np.float64) * alpha for w in s.arrays(index, 1)]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        biases = [np.broadcast_to(b.reshape(-1) * beta, weights[0].shape[1]) for b in s.arrays(index, 2)]
    else:
        biases = [np.zeros(weights[0].shape[1])] * s.n
    return [w.astype(np.float32) for w in weights], [b.astype(np.float32) for b in biases]


def _reshape(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    dims = s.dims(node.outputs[0])
    if not dims:
        raise Refused("it leaves only the batch")
    if node.op_type in ("Unsqueeze", "Squeeze"):
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is not None and all(int(a) >= 2 for a in axes):
            return s.copy(node, [s.get(node.inputs[0]), s.emit.constant(axes, keep=True)])
    return [s.emit("Reshape", before_reshape(s.get(node.inputs[0])), [-1, s.n * dims[0], *dims[1:]])]


def _transpose(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    perm = list(node.attributes.get_ints("perm") or ())
    if not perm or perm[0] != 0:
        raise Refused("it moves the batch")
    if perm[1] == 1:
        return [s.emit("Transpose", s.get(node.inputs[0]), perm=perm)]
    wide = s.emit("Transpose", s.expand(node.inputs[0]), perm=[0, 1, *[p + 1 for p in perm[1:]]])
    return [s.collapse(wide, s.dims(node.outputs[0]))]


def _log_matrix(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    """Logarithms of N matrices a window are those of a stack."""
    one = s.emit.constant(s.arrays(index, 1)[0], keep=True)
    return [s.collapse(s.emit("LogMatrix", s.expand(node.inputs[0]), one), s.dims(node.outputs[0]))]


def _along(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    """What acts along axes: behind the first as it is, else on (batch, N, ...), every axis one further on."""
    read = [v for v in (node.inputs if node.op_type == "Concat" else node.inputs[:1]) if constant(v) is None]
    if constant(node.inputs[0]) is not None or (node.op_type == "Concat" and len(read) < len(node.inputs)):
        raise Refused("it takes from a constant, or joins one")
    axes = acts_along(node)
    if 0 in axes:
        raise Refused("it acts on the batch")
    arrays, attributes = widened(node, 1) if 1 in axes else ({}, {})
    form = s.expand if 1 in axes else s.get
    feeds = [
        v if v is None else form(v) if v in read else s.emit.constant(arrays.get(place, constant(v)), keep=True)
        for place, v in enumerate(node.inputs)
    ]
    outputs = s.emit.many(node.op_type, *feeds, n=len(node.outputs), **attributes_of(node) | attributes)
    if not all(map(s.dims, node.outputs)):
        raise Refused("it leaves only the batch")
    if 1 not in axes:
        return outputs
    return [s.collapse(new, s.dims(old)) for old, new in zip(node.outputs, outputs, strict=True)]


HANDLERS: dict[str, Callable[[Stacker, int, Any], list[Any]]] = {
    **dict.fromkeys((*operators(Trait.POINTWISE | Trait.POOLS), "Cast"), _unary),
    **dict.fromkeys(operators(Trait.BROADCASTS), _binary),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys((*operators(Trait.REDUCES | Trait.JOINS | Trait.NORMALISES), "Slice", "Pad"), _along),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _norm),
    "LayerNormalization": _layer_norm,
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Transpose": _transpose,
    "LogMatrix": _log_matrix,
}
