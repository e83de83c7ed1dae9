r"""Stack members of one architecture: N networks run as one with N times the channels.

Values are kept as (batch, N x d1, d2, ...): the member index is the slow part of the first axis behind the batch. In
this form a convolution of N members is one grouped convolution (the first, which all members feed from the same window,
is one plain convolution with N times the outputs), a batch normalisation concatenates its parameters, and whatever acts
on later axes does not notice. What acts on the first axis does so on (batch, N, d1, ...), which is the same memory;
matrix products become batched ones. `HANDLERS` says for every operator how it is written so; one that is not listed
refuses, with its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.value import inner_axes
from rtserve.fusion.engines.onnxruntime import BLOCK
from rtserve.fusion.ir.conv import Conv1d
from rtserve.fusion.ir.landmarks import carry
from rtserve.fusion.ir.linear_view import LinearView
from rtserve.fusion.ir.nodes import attributes_of, axes_of, computing, inner_dims
from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.ir.traits import Trait, operators
from rtserve.fusion.ir.widened import widened
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant

__all__ = ["Stacker", "signature"]

PARTS = 8
"""Up to so many members a dense layer is one Gemm each, whose weights the engine packs once; beyond, a batched product."""


def signature(model: ir.Model) -> str:
    """Return a text that is equal for two graphs if and only if they differ in float weights alone."""
    names: dict[Any, str] = {None: "-"} | {value: f"i{i}" for i, value in enumerate(model.graph.inputs)}
    lines = []
    for number, node in enumerate(model.graph):
        inputs = []
        for value in node.inputs:
            array = constant(value)
            if array is None:
                inputs.append(names.get(value, "?"))
            else:
                inputs.append(f"w{array.shape}" if array.dtype.kind == "f" and array.ndim else f"c{array.tolist()}")
        attributes = sorted(f"{k}={a.value}" for k, a in node.attributes.items())
        lines.append(f"{node.op_type}({','.join(inputs)};{','.join(attributes)})")
        names.update({out: f"n{number}.{i}" for i, out in enumerate(node.outputs)})
    return "\n".join(lines) + f"->{names.get(model.graph.outputs[0])}"


class Parts(list):  # type: ignore[type-arg]
    """A stacked value (batch, N x d1) still in N pieces, as dense layers leave it."""


class Stacker:
    """Writes N members of one signature as one network.

    Parameters
    ----------
    emit : Emitter
        Where the nodes go.
    models : sequence of Model
        The members; equal `signature`, shapes inferred.
    views : sequence of LinearView
        What they are run on.
    group : int
        Their number among members of other signatures.

    Attributes
    ----------
    notes : list of str
        What was done, for a person.
    """

    def __init__(self, emit: Emitter, models: Sequence[ir.Model], *, views: Sequence[LinearView], group: int) -> None:
        self.emit, self.models, self.views, self.group = emit, models, views, group
        self.n = len(models)
        nodes = [list(model.graph) for model in models]
        self.twins: dict[Any, tuple[ir.Node, ...]] = dict(zip(nodes[0], zip(*nodes, strict=True), strict=True))
        self.values: dict[Any, ir.Value | Parts] = {}
        self.shared: set[Any] = set()
        self.notes: list[str] = []
        self._wide: dict[ir.Value, ir.Value] = {}

    def run(self, *, start: dict[Any, ir.Value], stop: Any) -> ir.Value:
        """Write every node needed for `stop` and return its stacked value.

        Parameters
        ----------
        start : dict
            Values of the first member's graph that are there already, stacked but for the window, which all share.
        stop : Value
            The value of the first member's graph to compute.

        Raises
        ------
        Refused
            Where an operator cannot be stacked.
        """
        self.values = {**start}
        self.shared = {value for value in start if value.is_graph_input() and self.n > 1}
        for old, new in start.items():
            self.stands_for(new, old)
        needed = computing([stop], lambda value: value not in start)
        for node in self.twins:
            if node in needed:
                for old, new in zip(node.outputs, self._written(node), strict=True):
                    self.values[old] = new
                    self.stands_for(new, old)
        return self.get(stop)

    def _written(self, node: ir.Node) -> list[Any]:
        if self.n == 1:
            return self.copy(node, self.feeds(node))
        if all(self.is_shared(node, slot) for slot, value in enumerate(node.inputs) if value is not None):
            self.shared.update(node.outputs)
            return self.copy(node, self.feeds(node))
        try:
            if node.op_type not in HANDLERS:
                raise Refused("it cannot be stacked")
            return HANDLERS[node.op_type](self, node)
        except Refused as refusal:
            raise refusal.at(node) from None

    def stands_for(self, new: Any, old: Any) -> None:
        """Note that a value is, for all members and views, what the first member has in another."""
        if old.producer() is not None:
            carry(new, [twin.outputs[old.index()] for twin in self.twins[old.producer()]], views=len(self.views))

    def is_shared(self, node: ir.Node, slot: int) -> bool:
        """Whether all members have the same at an input of a node."""
        value = node.inputs[slot]
        known = constant(value) is not None
        return value in self.shared or (known and len({a.tobytes() for a in self.arrays(node, slot)}) == 1)

    def arrays(self, node: ir.Node, slot: int) -> list[np.ndarray]:
        """Return the constants at an input of a node, one per member."""
        found = [array for twin in self.twins[node] if (array := constant(twin.inputs[slot])) is not None]
        if len(found) < self.n:
            raise Refused(f"input {slot} is computed").at(node)
        return found

    def conv(self, conv: Conv1d) -> Conv1d:
        """Return a convolution of the first member for all of them: of the window that they share, or depthwise."""
        weight = np.concatenate(self.arrays(conv.node, 1)).reshape(-1, *conv.weight.shape[1:])
        bias = None if conv.bias is None else np.concatenate(self.arrays(conv.node, 2))
        return replace(conv, weight=weight, bias=bias, group=1 if conv.group == 1 else len(weight))

    def dims(self, value: Any) -> tuple[int, ...]:
        """Return the first member's shape of a value without the batch."""
        dims = inner_dims(value)
        if dims is None or not len(value.shape):
            raise Refused(f"the shape of {value.name} is not known")
        return tuple(dims)

    def feeds(self, node: ir.Node) -> list[Any]:
        """Return what stands for a node's inputs, constants made on the way."""
        if any(v is not None and v not in self.values and constant(v) is None for v in node.inputs):
            raise Refused("it reads something that is not there").at(node)
        return [
            self.values[value] if value in self.values
            else None if value is None
            else self.emit.constant(constant(value), name=str(value.name), keep=True)
            for value in node.inputs
        ]  # fmt: skip

    def copy(self, node: ir.Node, feeds: list[Any]) -> list[ir.Value]:
        """Add the node as it is on other inputs."""
        outputs = self.emit.many(node.op_type, *feeds, n=len(node.outputs), **attributes_of(node))
        for old, new in zip(node.outputs, outputs, strict=True):
            if old.dtype is not None:
                new.type = ir.TensorType(old.dtype)
        return outputs

    def get(self, value: Any) -> ir.Value:
        """Return a value stacked; one that all share is repeated."""
        found = self.values[value]
        if value in self.shared:
            return self.emit("Concat", *[found] * self.n, axis=1)
        if isinstance(found, Parts):
            found = self.values[value] = self.emit("Concat", *found, axis=1)
        return found

    def pieces(self, value: Any) -> list[ir.Value]:
        """Return a value (batch, N x d1) as N pieces (batch, d1)."""
        found = self.values[value]
        if isinstance(found, Parts):
            return found
        if value in self.shared:
            return [found] * self.n
        return self.emit.many("Split", found, [self.dims(value)[0]] * self.n, n=self.n, axis=1)

    def expand(self, value: Any) -> ir.Value:
        """Return a value as (batch, N, dims)."""
        if value in self.shared:
            return self.emit("Unsqueeze", self.values[value], [1])
        found = self.get(value)
        if found not in self._wide:
            source = _before_reshape(found)
            self._wide[found] = self.emit("Reshape", source, [-(source is not found), self.n, *self.dims(value)])
        return self._wide[found]

    def collapse(self, value: ir.Value, dims: tuple[int, ...]) -> ir.Value:
        """Return (batch, N, dims) in the stacked form."""
        y = self.emit("Reshape", value, [0, self.n * dims[0], *dims[1:]])
        self._wide[y] = value
        return y

    def gemm_weights(self, node: ir.Node) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return every member's weight (in, out) and bias (out,) of a Gemm, factors included, in float32."""
        alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
        transposed = node.attributes.get_int("transB", 0)
        weights = [(w.T if transposed else w).astype(np.float64) * alpha for w in self.arrays(node, 1)]
        given = self.arrays(node, 2) if len(node.inputs) > 2 and node.inputs[2] is not None else [np.zeros(1)] * self.n
        biases = [np.broadcast_to(b.reshape(-1) * beta, weights[0].shape[1]) for b in given]
        return [w.astype(np.float32) for w in weights], [b.astype(np.float32) for b in biases]


def _before_reshape(value: ir.Value) -> ir.Value:
    """Return what a value is the same numbers of, one Reshape earlier; itself behind another node."""
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    return value if source is None else source


def _pointwise(s: Stacker, node: ir.Node) -> list[Any]:
    found, *rest = s.feeds(node)
    if isinstance(found, Parts):
        return [Parts(s.copy(node, [part, *rest])[0] for part in found)]
    return s.copy(node, [found, *rest])


def _by_channel(s: Stacker, node: ir.Node) -> list[ir.Value]:
    """What has parameters for every channel: they are concatenated, and a convolution's groups are N times as many."""
    x = node.inputs[0]
    given = [np.concatenate(s.arrays(node, k)) for k, value in enumerate(node.inputs) if k and value is not None]
    attributes = attributes_of(node)
    if node.op_type == "Conv":
        group = attributes.get("group", 1)
        if x in s.shared and group == 1:
            return [s.emit("Conv", s.values[x], *given, **attributes)]
        attributes["group"] = group * s.n
    return [s.emit(node.op_type, s.get(x), *given, **attributes)]


def _layer_norm(s: Stacker, node: ir.Node) -> list[ir.Value]:
    """Normalise with unit scale, then scale and shift member by member."""
    dims = s.dims(node.inputs[0])
    axis = node.attributes.get_int("axis", -1) % (len(dims) + 1)
    if any(out.uses() for out in node.outputs[1:]):
        raise Refused("its statistics are read")
    y = s.emit("LayerNormalization", s.expand(node.inputs[0]), np.ones(dims[axis - 1 :], np.float32), axis=axis + 1,
               epsilon=node.attributes.get_float("epsilon", 1e-5))  # fmt: skip
    for slot, op in ((1, "Mul"), (2, "Add")):
        if slot < len(node.inputs) and node.inputs[slot] is not None:
            y = s.emit(op, y, _stacked_constant(s.arrays(node, slot), len(dims)))
    return [s.collapse(y, dims)] * len(node.outputs)


def _stacked_constant(arrays: list[np.ndarray], rank: int) -> np.ndarray:
    """Return constants as (1, N, ...) beside a value (batch, N, rank axes)."""
    trimmed = [a.reshape(a.shape[1:]) if a.ndim == rank + 1 and a.shape[0] == 1 else a for a in arrays]
    if trimmed[0].ndim > rank:
        raise Refused("a constant enlarges the value")
    return np.stack([a.reshape((1,) * (rank - a.ndim) + a.shape) for a in trimmed])[None]


def _binary(s: Stacker, node: ir.Node) -> list[ir.Value]:
    dims = s.dims(node.outputs[0])
    if all(constant(v) is None and v not in s.shared and s.dims(v) == dims for v in node.inputs):
        return [s.emit(node.op_type, *map(s.get, node.inputs))]
    sides = []
    for slot, value in enumerate(node.inputs):
        if constant(value) is None:
            if len(s.dims(value)) != len(dims):
                raise Refused("it broadcasts over axes")
            sides.append(s.expand(value))
        else:
            arrays = s.arrays(node, slot)
            scalar = arrays[0].ndim == 0 and s.is_shared(node, slot)
            sides.append(s.emit.constant(arrays[0] if scalar else _stacked_constant(arrays, len(dims)), keep=True))
    return [s.collapse(s.emit(node.op_type, *sides), dims)]


def _matmul(s: Stacker, node: ir.Node) -> list[ir.Value]:
    dims, sides = s.dims(node.outputs[0]), []
    vector = any(constant(v) is None and len(s.dims(v)) == 1 for v in node.inputs)
    for slot, value in enumerate(node.inputs):
        if constant(value) is None:
            wide = s.expand(value)
            sides.append(s.emit("Unsqueeze", wide, [2]) if len(s.dims(value)) == 1 else wide)
        else:
            rank = max(len(s.dims(node.inputs[1 - slot])), 2)
            sides.append(s.emit.constant(_stacked_constant(s.arrays(node, slot), rank)[0], keep=True))
    y = s.emit("MatMul", *sides)
    if vector:  # it became a matrix of one row
        return [s.emit("Reshape", y, [0, s.n * dims[0], *dims[1:]])]
    return [s.collapse(y, dims)]


def _gemm(s: Stacker, node: ir.Node) -> list[Any]:
    """A dense layer of N members.

    Where they read the same it is one. Of whole blocks it is a grouped 1x1 convolution on a picture of one pixel; else N
    small ones, or a batched product (N, batch, in) x (N, in, out) for many.
    """
    x = node.inputs[0]
    if constant(x) is not None or node.attributes.get_int("transA", 0) != 0:
        raise Refused("an unusual form")
    weights, biases = s.gemm_weights(node)
    inputs, outputs = weights[0].shape
    if x in s.shared:  # one product with all weights
        return [s.emit("Gemm", s.values[x], np.concatenate(weights, axis=1), np.concatenate(biases))]
    if inputs % BLOCK == outputs % BLOCK == 0:
        kernel = np.concatenate([w.T for w in weights])[:, :, None, None]
        y = s.emit("Conv", s.emit("Unsqueeze", s.get(x), [2, 3]), kernel, np.concatenate(biases), group=s.n)
        return [s.emit("Squeeze", y, [2, 3])]
    if s.n <= PARTS:
        return [Parts(s.emit("Gemm", *layer) for layer in zip(s.pieces(x), weights, biases, strict=True))]
    wide = s.emit("Transpose", s.emit("Reshape", s.get(x), [0, s.n, inputs]), perm=[1, 0, 2])
    y = s.emit("Add", s.emit("MatMul", wide, np.stack(weights)), np.stack(biases)[:, None])
    return [s.emit("Reshape", s.emit("Transpose", y, perm=[1, 0, 2]), [0, s.n * outputs])]


def _reshape(s: Stacker, node: ir.Node) -> list[ir.Value]:
    dims, x = s.dims(node.outputs[0]), s.get(node.inputs[0])
    if not dims:
        raise Refused("it leaves only the batch")
    if prod(dims) != prod(s.dims(node.inputs[0])):  # the members would be in front of what lies on the batch
        raise Refused("it lays an axis on the batch, or takes one off")
    axes = axes_of(node) if node.op_type in ("Unsqueeze", "Squeeze") else None
    if axes is not None and all(axis >= 2 for axis in axes):
        return s.copy(node, [x, list(axes)])
    return [s.emit("Reshape", _before_reshape(x), [-1, s.n * dims[0], *dims[1:]])]


def _transpose(s: Stacker, node: ir.Node) -> list[ir.Value]:
    perm = list(node.attributes.get_ints("perm") or ())
    if not perm or perm[0] != 0:
        raise Refused("it moves the batch")
    if perm[1] == 1:
        return [s.emit("Transpose", s.get(node.inputs[0]), perm=perm)]
    wide = s.emit("Transpose", s.expand(node.inputs[0]), perm=[0, 1, *[p + 1 for p in perm[1:]]])
    return [s.collapse(wide, s.dims(node.outputs[0]))]


def _log_matrix(s: Stacker, node: ir.Node) -> list[ir.Value]:
    """Logarithms of N matrices a window are those of a stack."""
    one = s.emit.constant(s.arrays(node, 1)[0], keep=True)
    return [s.collapse(s.emit("LogMatrix", s.expand(node.inputs[0]), one), s.dims(node.outputs[0]))]


def _along(s: Stacker, node: ir.Node) -> list[ir.Value]:
    """What acts along axes: behind the first as it is, else on (batch, N, ...), every axis one further on."""
    read = [v for v in (node.inputs if node.op_type == "Concat" else node.inputs[:1]) if constant(v) is None]
    if constant(node.inputs[0]) is not None or (node.op_type == "Concat" and len(read) < len(node.inputs)):
        raise Refused("it takes from a constant, or joins one")
    axes = inner_axes(node)
    arrays, attributes = widened(node, 1) if 0 in axes else ({}, {})
    form = s.expand if 0 in axes else s.get
    feeds = [
        v if v is None else form(v) if v in read else s.emit.constant(arrays.get(place, constant(v)), keep=True)
        for place, v in enumerate(node.inputs)
    ]
    outputs = s.emit.many(node.op_type, *feeds, n=len(node.outputs), **attributes_of(node) | attributes)
    if not all(map(s.dims, node.outputs)):
        raise Refused("it leaves only the batch")
    if 0 not in axes:
        return outputs
    return [s.collapse(new, s.dims(old)) for old, new in zip(node.outputs, outputs, strict=True)]


HANDLERS: dict[str, Callable[[Stacker, ir.Node], list[Any]]] = {
    **dict.fromkeys((*operators(Trait.POINTWISE | Trait.POOLS), "Cast"), _pointwise),
    **dict.fromkeys(operators(Trait.BROADCASTS), _binary),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys((*operators(Trait.REDUCES | Trait.JOINS | Trait.NORMALISES), "Slice", "Pad"), _along),
    **dict.fromkeys(("Conv", "BatchNormalization", "InstanceNormalization"), _by_channel),
    "LayerNormalization": _layer_norm,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Transpose": _transpose,
    "LogMatrix": _log_matrix,
}
"""How every operator is written for N members at once."""
