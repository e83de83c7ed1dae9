"""Writing ONNX nodes by hand, briefly: ``emit("Slice", x, starts, ends)``.

Constants are initializers shared by content, so that the same axis or weight is stored once however often it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.graphs.functions import domain_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Emitter", "inline", "inline_many"]


class Emitter:
    """Appends nodes to a graph (or inserts them before a node) and hands back their outputs.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Where the nodes go.
    before : onnx_ir.Node, optional
        Insert in front of this node instead of at the end.
    prefix : str
        Start of the names given to new values.
    """

    def __init__(self, graph: ir.Graph, *, before: ir.Node | None = None, prefix: str = "v") -> None:
        self.graph = graph
        self.before = before
        self.prefix = prefix
        self._names: set[str | None] = {*graph.initializers, *(v.name for v in graph.inputs)}
        self._names |= {v.name for node in graph for v in node.outputs}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.size <= 64:
                self._constants.setdefault(_key(value.const_value.numpy()), value)

    def name(self, stem: str) -> str:
        """Return `stem`, numbered where it is taken, and reserve it."""
        unique, n = stem, 1
        while unique in self._names:
            unique, n = f"{stem}_{n}", n + 1
        self._names.add(unique)
        return unique

    def constant(self, array: Any, *, name: str = "", keep: bool = False) -> ir.Value:
        """Return the initializer with this content, made on first use; float64 becomes float32 unless `keep`."""
        import onnx_ir as ir

        array = np.asarray(array)
        wanted = np.dtype(np.float32) if array.dtype == np.float64 and not keep else array.dtype
        array = np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)
        key = _key(array)
        if key not in self._constants:
            unique = self.name(name or f"{self.prefix}.const")
            tensor = ir.tensor(array, name=unique)
            value = ir.Value(
                name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            self.graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def __call__(
        self,
        op_type: str,
        *inputs: ir.Value | np.ndarray | np.generic | Sequence[int] | None,
        name: str = "",
        **attributes: Any,
    ) -> ir.Value:
        """Add a node with one output and return it; arrays and lists of integers become constants."""
        return self.many(op_type, *inputs, n=1, name=name, **attributes)[0]

    def many(
        self,
        op_type: str,
        *inputs: ir.Value | np.ndarray | np.generic | Sequence[int] | None,
        n: int,
        name: str = "",
        **attributes: Any,
    ) -> list[ir.Value]:
        """Add a node with `n` outputs and return them."""
        import onnx_ir as ir

        values = [v if v is None or isinstance(v, ir.Value) else self.constant(_as_array(v)) for v in inputs]
        node = ir.node(op_type, values, attributes=attributes, domain=domain_of(op_type), num_outputs=n)
        for index, value in enumerate(node.outputs):
            value.name = self.name(name or f"{self.prefix}.{op_type.lower()}")
            value.type = ir.TensorType(_result_type(op_type, index, values, attributes))
        if self.before is not None:
            self.graph.insert_before(self.before, node)
        else:
            self.graph.append(node)
        return list(node.outputs)

    def slice(self, x: ir.Value, axis: int, start: int, end: int | None, step: int = 1) -> ir.Value:
        """Return ``x[start:end:step]`` along `axis`; None for the end (or, going backwards, past the start)."""
        far = np.iinfo(np.int64).max if step > 0 else np.iinfo(np.int64).min
        return self("Slice", x, [start], [far if end is None else end], [axis], [step])

    def take(self, x: ir.Value, axis: int, numbers: np.ndarray, n: int) -> ir.Value:
        """Return some of n entries along `axis`, in ascending order; x itself where they are all."""
        if len(numbers) == n:
            return x
        if numbers[-1] - numbers[0] + 1 == len(numbers):
            return self.slice(x, axis, int(numbers[0]), int(numbers[-1]) + 1)
        return self("Gather", x, numbers, axis=axis)


def _result_type(
    op_type: str, index: int, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any]
) -> ir.DataType:
    """Return the type of an output: that of the data, so that what is computed in float64 stays so."""
    import onnx_ir as ir

    if op_type in _WHOLE or (op_type, index) == ("TopK", 1):
        return ir.DataType.INT64
    if op_type in _TRUTH:
        return ir.DataType.BOOL
    if op_type == "Cast":
        return ir.DataType(int(getattr(attributes["to"], "value", attributes["to"])))
    if op_type == "ConstantOfShape":  # its input is a shape, and says nothing of the type
        value = attributes.get("value")
        return getattr(value, "value", value).dtype if value is not None else ir.DataType.FLOAT
    data = inputs[1 if op_type == "Where" else 0] if inputs else None
    return data.dtype if data is not None and data.dtype is not None else ir.DataType.FLOAT


_WHOLE = ("ArgMax", "ArgMin", "Shape", "Size", "NonZero")
_TRUTH = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf")


def _as_array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.int64) if array.dtype.kind in "iu" and not isinstance(value, np.ndarray) else array


def _key(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, array.tobytes()


def inline(emit: Emitter, source: ir.Graph, argument: ir.Value, shared: Mapping[str, ir.Value]) -> ir.Value:
    """Copy the nodes of `source`, of one input and one output, behind `argument` and return the copy of its output.

    Parameters
    ----------
    emit : Emitter
        Where the copies go.
    source : onnx_ir.Graph
        Without subgraphs.
    argument : onnx_ir.Value
        What stands for the input.
    shared : mapping
        The initializers of `source` by name, as they stand in the target: branches of one member share weights.
    """
    return inline_many(emit, source, [argument], shared)[0]


def inline_many(
    emit: Emitter, source: ir.Graph, arguments: Sequence[ir.Value], shared: Mapping[str, ir.Value] | None = None
) -> list[ir.Value]:
    """Copy the nodes of `source` behind what stands for its inputs, marks with them; return the copies of its outputs.

    Initializers are copied too where `shared`, as in `inline`, does not have them. Of open dimensions the batch alone keeps
    a name, that of the arguments: every graph numbers its own (``unk__0``), and an engine takes equal names for equal sizes.
    """
    import onnx_ir as ir

    table: dict[ir.Value, ir.Value] = dict(zip(source.inputs, arguments, strict=True))
    batch = {old.shape[0]: new.shape[0] for old, new in table.items() if old.shape and new.shape}
    batch.pop(ir.SymbolicDim(None), None)
    for name, value in source.initializers.items():
        if shared is None and value.const_value is not None:
            table[value] = emit.constant(value.const_value.numpy(), name=name, keep=True)
        elif shared is not None and name in shared:
            table[value] = shared[name]
    for node in source:
        inputs = [table[value] if value is not None else None for value in node.inputs]
        copy = ir.node(
            node.op_type, inputs, attributes=dict(node.attributes), domain=node.domain, num_outputs=len(node.outputs)
        )
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name = emit.name(f"{emit.prefix}.{old.name}") if old.name else ""
            dims = old.shape and [dim if isinstance(dim, int) else batch.get(dim) for dim in old.shape]
            new.shape, new.type = None if dims is None else ir.Shape(dims), old.type
            new.meta.update(old.meta)
            table[old] = new
        emit.graph.append(copy)
    return [table[value] for value in source.outputs]
