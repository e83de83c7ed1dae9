r"""Stack members of one architecture: N networks run as one with N times the channels.

Values are kept as (batch, N x d1, d2, ...): the member index is the slow part of the first axis behind the batch. In
this form a convolution of N members is one grouped convolution (the first, which all members feed from the same window,
is one plain convolution with N times the outputs), a batch normalisation concatenates its parameters, and whatever acts
on later axes does not notice. What acts on the first axis does so on (batch, N, d1, ...), which is the same memory;
matrix products become batched ones. An operator that is not listed refuses, with its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.passes.affine import Refused
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Stacker", "signature"]

UNARY = frozenset(
    {"Relu", "Elu", "Sigmoid", "Tanh", "LeakyRelu", "Gelu", "Erf", "Exp", "Log", "Sqrt", "Neg", "Abs", "Softplus", "Selu"}
    | {"Reciprocal", "Sin", "Cos", "HardSwish", "HardSigmoid", "Identity", "Celu", "Mish", "Softsign", "Clip", "Cast"}
)
BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"})
POOLS = frozenset({"AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"})
REDUCERS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"})


def signature(model: ir.Model) -> str:
    """Return a text that is equal for two graphs if and only if they differ in float weights alone."""
    names: dict[Any, str] = {value: f"i{i}" for i, value in enumerate(model.graph.inputs)}
    lines = []
    for number, node in enumerate(model.graph):
        inputs = []
        for value in node.inputs:
            array = constant(value)
            if value is None:
                inputs.append("-")
            elif array is None:
                inputs.append(names.get(value, "?"))
            elif array.dtype.kind == "f" and array.ndim:
                inputs.append(f"w{array.shape}")
            else:
                inputs.append(f"c{array.tolist()}")
        attributes = sorted(f"{k}={a.value}" for k, a in node.attributes.items())
        lines.append(f"{node.op_type}({','.join(inputs)};{','.join(attributes)})")
        names.update({out: f"n{number}.{i}" for i, out in enumerate(node.outputs)})
    return "\n".join(lines) + f"->{names.get(model.graph.outputs[0])}"


PARTS = 8
"""Up to so many members a dense layer is one Gemm each, whose weights the engine packs once; beyond, a batched product."""


class _Parts(list):  # type: ignore[type-arg]
    """A stacked value (batch, N x d1) still in N pieces, as dense layers leave it."""


class Stacker:
    """Writes N members of one signature as one network.

    Parameters
    ----------
    emit : Emitter
        Where the nodes go.
    models : sequence of Model
        The members; equal `signature`, shapes inferred.
    """

    def __init__(self, emit: Emitter, models: Sequence[ir.Model]) -> None:
        self.emit = emit
        self.models = models
        self.n = len(models)
        self.nodes = [list(model.graph) for model in models]
        self.values: dict[Any, ir.Value] = {}
        self.shared: set[Any] = set()

    def run(self, *, start: dict[Any, ir.Value], shared: set[Any], stop: Any) -> ir.Value:
        """Write every node needed for `stop` and return its stacked value.

        Parameters
        ----------
        start : dict
            Values of the first member's graph that are there already.
        shared : set
            Those of them that all members share (not stacked).
        stop : Value
            The value of the first member's graph to compute.

        Raises
        ------
        Refused
            Where an operator cannot be stacked.
        """
        self.values, self.shared = dict(start), set(shared)
        needed = _needed(self.models[0], stop, set(start))
        for index, node in enumerate(self.nodes[0]):
            if node in needed:
                self._write(index, node)
        return self.values[stop] if stop in self.shared else self.get(stop)

    def _write(self, index: int, node: ir.Node) -> None:
        if self.n == 1 or all(self._is_shared(v) for v in node.inputs if v is not None):
            outputs = self._copy(node, self._feeds(index, node))
            if self.n > 1:
                self.shared.update(node.outputs)
        else:
            handler = _HANDLERS.get(node.op_type)
            if handler is None:
                raise Refused(f"{node.op_type} {node.outputs[0].name} cannot be stacked")
            outputs = handler(self, index, node)
        for old, new in zip(node.outputs, outputs, strict=True):
            self.values[old] = new

    def _is_shared(self, value: Any) -> bool:
        if value in self.shared:
            return True
        array = constant(value)
        return array is not None and len({a.tobytes() for a in self._arrays_of(value)}) == 1

    def _arrays_of(self, value: Any) -> list[np.ndarray]:
        """Return what every member has in the place of a constant of the first."""
        for index, node in enumerate(self.nodes[0]):
            if value in node.inputs:
                return self.arrays(index, list(node.inputs).index(value))
        raise Refused("a constant that no node reads")

    def arrays(self, index: int, slot: int) -> list[np.ndarray]:
        """Return the constants at input `slot` of node `index`, one per member."""
        found = [constant(nodes[index].inputs[slot]) for nodes in self.nodes]
        if any(a is None for a in found):
            raise Refused(f"{self.nodes[0][index].op_type}: input {slot} is computed")
        return [np.asarray(a) for a in found]

    def dims(self, value: Any) -> tuple[int, ...]:
        """Return the first member's shape of a value without the batch."""
        shape = value.shape
        if shape is None or not len(shape) or not all(isinstance(d, int) for d in list(shape)[1:]):
            raise Refused(f"the shape of {value.name} is not known")
        return tuple(int(d) for d in list(shape)[1:])

    def _feeds(self, index: int, node: ir.Node) -> list[Any]:
        feeds: list[Any] = []
        for value in node.inputs:
            if value is None or value in self.values:
                feeds.append(self._plain(value) if value is not None else None)
            else:
                array = constant(value)
                if array is None:
                    raise Refused(f"{node.op_type} reads something that is not there")
                feeds.append(self.emit.constant(array, name=f"{value.name}"))
        return feeds

    def _plain(self, value: Any) -> ir.Value:
        found = self.values[value]
        return self.get(value) if isinstance(found, _Parts) else found

    def _copy(self, node: ir.Node, feeds: list[Any]) -> list[ir.Value]:
        """Add the node as it is on other inputs."""
        outputs = self.emit.many(node.op_type, *feeds, n=len(node.outputs), **attributes_of(node))
        for old, new in zip(node.outputs, outputs, strict=True):
            if old.dtype is not None:
                import onnx_ir as ir

                new.type = ir.TensorType(old.dtype)
        return outputs

    def get(self, value: Any) -> ir.Value:
        """Return a value stacked; one that all share is repeated."""
        if value in self.shared:
            return self.emit("Concat", *[self.values[value]] * self.n, axis=1)
        found = self.values[value]
        if isinstance(found, _Parts):
            found = self.values[value] = self.emit("Concat", *found, axis=1)
        return found

    def pieces(self, value: Any) -> list[ir.Value]:
        """Return a value (batch, N x d1) as N pieces (batch, d1)."""
        found = self.values[value]
        if isinstance(found, _Parts):
            return found
        if value in self.shared:
            return [found] * self.n
        return self.emit.many("Split", found, [self.dims(value)[0]] * self.n, n=self.n, axis=1)

    def expand(self, value: Any) -> ir.Value:
        """Return a value as (batch, N, dims)."""
        if value in self.shared:
            return self.emit("Unsqueeze", self.values[value], [1])
        return self.emit("Reshape", self.get(value), [0, self.n, *self.dims(value)])

    def collapse(self, value: ir.Value, dims: tuple[int, ...]) -> ir.Value:
        """Return (batch, N, dims) in the stacked form."""
        return self.emit("Reshape", value, [0, self.n * dims[0], *dims[1:]])


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """Return a node's attributes as keyword arguments."""
    return {key: attribute.value for key, attribute in node.attributes.items()}


def _needed(model: ir.Model, stop: Any, known: set[Any]) -> set[Any]:
    stack, nodes = [stop], set()
    while stack:
        value = stack.pop()
        node = value.producer() if value is not None and value not in known else None
        if node is not None and node not in nodes:
            nodes.add(node)
            stack += [v for v in node.inputs if v is not None]
    return nodes


def _unary(s: Stacker, index: int, node: ir.Node) -> list[Any]:
    found = s.values[node.inputs[0]]
    if isinstance(found, _Parts):
        return [_Parts(s._copy(node, [part, *s._feeds(index, node)[1:]])[0] for part in found)]
    return s._copy(node, [s.get(node.inputs[0]), *s._feeds(index, node)[1:]])


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
        raise Refused("LayerNormalization with statistics")
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
            if arrays[0].ndim == 0 and s._is_shared(value):
                sides.append(s.emit.constant(arrays[0]))
            else:
                sides.append(s.emit.constant(_stacked_constant(arrays, len(dims))))
        else:
            if len(s.dims(value)) != len(dims):
                raise Refused(f"{node.op_type} broadcasts over axes")
            sides.append(s.expand(value))
    return [s.collapse(s.emit(node.op_type, *sides), dims)]


def _sum(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    dims = s.dims(node.outputs[0])
    if any(s.dims(v) != dims for v in node.inputs):
        raise Refused("Sum broadcasts")
    return [s.emit(node.op_type, *[s.get(v) for v in node.inputs])]


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
            sides.append(s.emit.constant(_stacked_constant(s.arrays(index, slot), rank)[0]))
    return [s.collapse(s.emit("MatMul", *sides), dims)]


def _gemm(s: Stacker, index: int, node: ir.Node) -> list[Any]:
    """A dense layer of N members: N small ones, or a batched product (N, batch, in) x (N, in, out) for many."""
    if constant(node.inputs[0]) is not None or node.attributes.get_int("transA", 0):
        raise Refused("Gemm of an unusual form")
    weights, biases = gemm_weights(s, index, node)
    if s.n <= PARTS:
        layers = zip(s.pieces(node.inputs[0]), weights, biases, strict=True)
        return [_Parts(s.emit("Gemm", piece, w, b) for piece, w, b in layers)]
    (inputs,) = s.dims(node.inputs[0])
    outputs = weights[0].shape[1]
    wide = s.emit("Transpose", s.emit("Reshape", s.get(node.inputs[0]), [0, s.n, inputs]), perm=[1, 0, 2])
    y = s.emit("Add", s.emit("MatMul", wide, np.stack(weights)), np.stack(biases)[:, None])
    return [s.emit("Reshape", s.emit("Transpose", y, perm=[1, 0, 2]), [0, s.n * outputs])]


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
        raise Refused(f"{node.op_type} leaves only the batch")
    if node.op_type in ("Unsqueeze", "Squeeze"):
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is not None and all(int(a) >= 2 for a in axes):
            return s._copy(node, [s.get(node.inputs[0]), s.emit.constant(axes)])
    return [s.emit("Reshape", s.get(node.inputs[0]), [-1, s.n * dims[0], *dims[1:]])]


def _transpose(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    perm = list(node.attributes.get_ints("perm") or ())
    if not perm or perm[0] != 0:
        raise Refused("Transpose moves the batch")
    if perm[1] == 1:
        return [s.emit("Transpose", s.get(node.inputs[0]), perm=perm)]
    wide = s.emit("Transpose", s.expand(node.inputs[0]), perm=[0, 1, *[p + 1 for p in perm[1:]]])
    return [s.collapse(wide, s.dims(node.outputs[0]))]


def _pool(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    return s._copy(node, [s.get(node.inputs[0])])


def _along(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    """Operators with one ``axis`` attribute: Softmax, Concat, Split, Gather."""
    data = [v for v in node.inputs if v is not None and constant(v) is None]
    rank = len(s.dims(data[0])) + 1
    axis = node.attributes.get_int("axis", {"Softmax": -1, "LogSoftmax": -1}.get(node.op_type, 0)) % rank
    if axis == 0:
        raise Refused(f"{node.op_type} acts on the batch")
    if node.op_type == "Concat" and len(data) != len(node.inputs):
        raise Refused("Concat with a constant")
    feeds = [s.expand(v) for v in data] + [s.emit.constant(constant(v)) for v in node.inputs if v is not None and constant(v) is not None]
    attributes = attributes_of(node) | {"axis": axis + 1}
    outputs = s.emit.many(node.op_type, *feeds, n=len(node.outputs), **attributes)
    results = []
    for old, new in zip(node.outputs, outputs, strict=True):
        dims = s.dims(old)
        if not dims:
            raise Refused(f"{node.op_type} leaves only the batch")
        results.append(s.collapse(new, dims))
    return results


def _slice(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    starts = constant(node.inputs[1])
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    if starts is None or axes is None:
        raise Refused("Slice with computed bounds")
    rank = len(s.dims(node.inputs[0])) + 1
    shifted = [int(a) % rank for a in axes]
    if min(shifted) == 0:
        raise Refused("Slice acts on the batch")
    rest = [s.emit.constant(constant(v)) if v is not None else None for v in node.inputs[1:]]
    rest[2] = s.emit.constant(np.array([a + 1 for a in shifted], np.int64))
    return [s.collapse(s.emit("Slice", s.expand(node.inputs[0]), *rest), s.dims(node.outputs[0]))]


def _pad(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    pads = constant(node.inputs[1])
    if pads is None or len(node.inputs) > 3:
        raise Refused("Pad with computed widths")
    half = len(pads) // 2
    wide = [int(pads[0]), 0, *pads[1:half].tolist(), int(pads[half]), 0, *pads[half + 1 :].tolist()]
    rest = [s.emit.constant(constant(node.inputs[2]))] if len(node.inputs) > 2 and node.inputs[2] is not None else []
    y = s.emit("Pad", s.expand(node.inputs[0]), wide, *rest, mode=node.attributes.get_string("mode", "constant"))
    return [s.collapse(y, s.dims(node.outputs[0]))]


def _reduce(s: Stacker, index: int, node: ir.Node) -> list[ir.Value]:
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    dims = s.dims(node.inputs[0])
    if axes is None:
        raise Refused(f"{node.op_type} over everything")
    shifted = [int(a) % (len(dims) + 1) for a in np.atleast_1d(axes)]
    if min(shifted) == 0:
        raise Refused(f"{node.op_type} acts on the batch")
    if min(shifted) >= 2:
        return [s.emit(node.op_type, s.get(node.inputs[0]), shifted, **attributes_of(node))]
    y = s.emit(node.op_type, s.expand(node.inputs[0]), [a + 1 for a in shifted], **attributes_of(node))
    out = s.dims(node.outputs[0])
    if not out:
        raise Refused(f"{node.op_type} leaves only the batch")
    return [s.collapse(y, out)]


_HANDLERS: dict[str, Callable[[Stacker, int, Any], list[Any]]] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(POOLS, _pool),
    **dict.fromkeys(REDUCERS, _reduce),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Concat", "Split", "Gather"), _along),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _norm),
    **dict.fromkeys(("Sum", "Mean"), _sum),
    "LayerNormalization": _layer_norm,
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Transpose": _transpose,
    "Slice": _slice,
    "Pad": _pad,
}
