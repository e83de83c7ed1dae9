r"""Chains that do the same to every electrode, and are joined again, as one chain on a larger batch.

A network that takes the electrodes one by one (a spectrum of each, the same embedding, its own token) exports as N chains
of the same nodes. The same function on every row of x is one call,

.. math:: [f(x_1); \dots; f(x_N)] = f\bigl((batch\,N, 1, time)\bigr),

with every constant that is the same in all chains used once, and a constant of their own, added or multiplied, laid on an
axis of electrodes. A constant that is repeated to a value's shape before it is added is added as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.nodes import attributes_of, inner_dims, producer
from rtserve.fusion.ir.passes import PassResult, Refused, each
from rtserve.fusion.ir.traits import Trait, has
from rtserve.fusion.ir.widened import acts_along
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]

FEWEST = 4
"""Chains from which one is worth the two changes of shape."""


def run(model: ir.Model) -> PassResult:
    """Rewrite every Concat of alike chains, in place."""
    plain = sum(_unrepeated(node) for node in list(model.graph))
    result = each(model, _merge, "{} groups of chains")
    if plain:
        result.done(f"{plain} constants not repeated", plain)
    return result


def _unrepeated(node: ir.Node) -> int:
    """Let arithmetic read a constant itself where it was repeated along axes of length 1 first."""
    changed = 0
    for index, value in enumerate(node.inputs if has(node, Trait.BROADCASTS) else ()):
        repeat = producer(value)
        array = constant(repeat.inputs[0]) if repeat is not None and repeat.op_type in ("Tile", "Expand") else None
        shape = value.shape if array is not None and value is not None else None
        if repeat is None or array is None or shape is None or array.ndim != len(shape):
            continue
        only_ones = all(a in (1, b) for a, b in zip(array.shape, shape, strict=True))
        if only_ones and _same_shape(node.inputs[1 - index], node.outputs[0]):
            node.replace_input_with(index, repeat.inputs[0])
            changed += 1
    return changed


def _same_shape(one: ir.Value | None, other: ir.Value) -> bool:
    """Whether two values have the same axes; the first, the batch, may go by two names."""
    dims = inner_dims(one)
    return dims is not None and dims == inner_dims(other) and one.shape[0] != 1  # type: ignore[union-attr,index]


def _merge(model: ir.Model, node: ir.Node) -> int:
    if node.op_type != "Concat" or len(node.inputs) < FEWEST:
        return 0
    if node.attributes.get_int("axis", 0) != 1:
        raise Refused("it joins along another axis than the first")
    dims = _inner(node.inputs[0])
    emit = Emitter(model.graph, before=node, prefix="chains")
    chain = _Chain(emit, len(node.inputs))
    y = chain.of(node.inputs)
    if not chain.steps:
        raise Refused("no chain in front of it")
    supersede(model, node.outputs[0], emit("Reshape", y, [-1, len(node.inputs) * dims[0], *dims[1:]]))
    return 1


def _inner(value: ir.Value | None) -> list[int]:
    """Return all axes but the first."""
    dims = inner_dims(value)
    if dims is None:
        raise Refused("a shape that is not known")
    return dims


class _Chain:
    """Writes what N chains do, once, on (batch N, ...).

    Parameters
    ----------
    emit : Emitter
        Where the nodes go.
    n : int
        How many chains.
    """

    def __init__(self, emit: Emitter, n: int) -> None:
        self.emit, self.n = emit, n
        self.steps = 0
        self._done: dict[Any, ir.Value] = {}

    def of(self, values: Sequence[ir.Value | None]) -> ir.Value:
        """Return the values of all chains at one place as one.

        Raises
        ------
        Refused
            Where the chains differ.
        """
        if values[0] not in self._done:
            self._done[values[0]] = self._made(values)
        return self._done[values[0]]

    def _made(self, values: Sequence[ir.Value | None]) -> ir.Value:
        first = producer(values[0])
        if first is None or len(set(values)) < self.n:
            raise Refused("the chains share a value in front")
        nodes = [node for node in map(producer, values) if node is not None and _form(node) == _form(first)]
        if len(nodes) < self.n or len(first.outputs) != 1:
            raise Refused("the chains differ")
        if first.op_type == "Slice":
            return self._rows(nodes)
        if not _keeps_batch(first):
            raise Refused(f"{first.op_type} may mix windows")
        self.steps += 1
        return self._step(nodes)

    def _rows(self, nodes: Sequence[ir.Node]) -> ir.Value:
        """Return rows 0 to N of one value, one in each chain, as (batch N, 1, ...)."""
        x = nodes[0].inputs[0]
        for number, node in enumerate(nodes):
            known = [array.item() for array in map(constant, node.inputs[1:]) if array is not None and array.size == 1]
            if node.inputs[0] is not x or not 3 <= len(known) == len(node.inputs) - 1:
                raise Refused("the chains begin with different values")
            if known[:3] != [number, number + 1, 1]:
                raise Refused("the chains do not read one row each, in order")
        dims = _inner(x)
        if dims[0] != self.n:
            raise Refused("the chains do not read every row")
        return self.emit("Reshape", x, [-1, 1, *dims[1:]])

    def _step(self, nodes: Sequence[ir.Node]) -> ir.Value:
        """Return what a node of every chain does, done once."""
        first = nodes[0]
        inputs: list[Any] = []
        own: np.ndarray | None = None
        for column in zip(*[node.inputs for node in nodes], strict=True):
            one, arrays = constant(column[0]), [constant(value) for value in column]
            if one is None:
                inputs.append(self.of(column) if column[0] is not None else None)
            elif any(array is None or array.shape != one.shape for array in arrays):
                raise Refused("the chains differ")
            elif all(np.array_equal(array, one, equal_nan=True) for array in arrays):  # type: ignore[arg-type]
                inputs.append(column[0])
            else:
                own = np.stack(arrays)  # type: ignore[arg-type]
                inputs.append(own)
        if own is None:
            return self.emit(first.op_type, *inputs, **attributes_of(first))
        dims = _inner(first.outputs[0])
        if not has(first, Trait.BROADCASTS) or own.ndim > len(dims) + 2:
            raise Refused(f"{first.op_type} has weights of its own in every chain")
        if own.ndim == len(dims) + 2:  # the constant has an axis for the batch
            if own.shape[1] != 1:
                raise Refused("a constant that differs between windows")
            own = own[:, 0]
        own = own.reshape(self.n, *(1,) * (len(dims) + 1 - own.ndim), *own.shape[1:])
        wide = [own if isinstance(v, np.ndarray) else self.emit("Reshape", v, [-1, self.n, *dims]) for v in inputs]
        return self.emit("Reshape", self.emit(first.op_type, *wide), [-1, *dims])


def _form(node: ir.Node) -> tuple[str, list[bool], int, dict[str, Any]]:
    return node.op_type, [value is None for value in node.inputs], len(node.outputs), attributes_of(node)


def _keeps_batch(node: ir.Node) -> bool:
    """Whether a node does the same to every entry of its first axis, whatever their number."""
    if has(node, Trait.POINTWISE | Trait.BROADCASTS | Trait.BY_WINDOW) or node.op_type == "MatMul":
        return constant(node.inputs[0]) is None
    if node.op_type == "Transpose":
        return (node.attributes.get_ints("perm") or (1,))[0] == 0
    return (
        has(node, Trait.REDUCES | Trait.NORMALISES) or node.op_type in ("Squeeze", "Unsqueeze")
    ) and 0 not in acts_along(node)
