r"""Stack members of one architecture: N networks run as one with N times the channels.

Values are kept as (batch, N x d1, d2, ...): the member index is the slow part of the first axis behind the batch. In
this form a convolution of N members is one grouped convolution (the first, which all members feed from the same window,
is one plain convolution with N times the outputs), a batch normalisation concatenates its parameters, and whatever acts
on later axes does not notice. What acts on the first axis does so on (batch, N, d1, ...), which is the same memory;
matrix products become batched ones. An operator that is not listed refuses, with its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.conv import Conv1d
from rtserve.fusion.ir.landmarks import carry
from rtserve.fusion.ir.nodes import attributes_of, computing, inner_dims
from rtserve.fusion.ir.passes import Refused
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant

__all__ = ["Parts", "Stacker", "before_reshape", "signature"]

Handlers = Mapping[str, Callable[["Stacker", int, Any], list[Any]]]
"""Operator to what writes it stacked; `rtserve.fusion.program.stack_ops.HANDLERS`."""


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
    handlers : mapping
        What writes each operator stacked.
    views : int
        How many views they are run on.
    """

    def __init__(self, emit: Emitter, models: Sequence[ir.Model], handlers: Handlers, *, views: int = 1) -> None:
        self.handlers, self.views = handlers, views
        self.emit = emit
        self.models = models
        self.n = len(models)
        self.nodes = [list(model.graph) for model in models]
        self.values: dict[Any, ir.Value] = {}
        self.shared: set[Any] = set()
        self._wide: dict[ir.Value, ir.Value] = {}

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
        for old, new in start.items():
            self.stands_for(new, old)
        needed = computing([stop], lambda value: value not in start)
        for index, node in enumerate(self.nodes[0]):
            if node in needed:
                self._write(index, node)
        return self.values[stop] if self.n == 1 else self.get(stop)

    def _write(self, index: int, node: ir.Node) -> None:
        if self.n == 1 or all(self.is_shared(index, slot) for slot, v in enumerate(node.inputs) if v is not None):
            outputs = self.copy(node, self.feeds(index, node))
            if self.n > 1:
                self.shared.update(node.outputs)
        else:
            handler = self.handlers.get(node.op_type)
            if handler is None:
                raise Refused("it cannot be stacked").at(node)
            try:
                outputs = handler(self, index, node)
            except Refused as refusal:
                raise refusal.at(node) from None
        for old, new in zip(node.outputs, outputs, strict=True):
            self.values[old] = new
            self.stands_for(new, old)

    def stands_for(self, new: Any, old: Any) -> None:
        """Note that a value is, for all members and views, what the first member has in another."""
        node = old.producer()
        if node is not None:
            index, slot = self.nodes[0].index(node), list(node.outputs).index(old)
            carry(new, [nodes[index].outputs[slot] for nodes in self.nodes], views=self.views)

    def is_shared(self, index: int, slot: int) -> bool:
        """Whether all members have the same at input `slot` of node `index`."""
        value = self.nodes[0][index].inputs[slot]
        known = constant(value) is not None
        return value in self.shared or (known and len({a.tobytes() for a in self.arrays(index, slot)}) == 1)

    def arrays(self, index: int, slot: int) -> list[np.ndarray]:
        """Return the constants at input `slot` of node `index`, one per member."""
        found = [constant(nodes[index].inputs[slot]) for nodes in self.nodes]
        if any(a is None for a in found):
            raise Refused(f"input {slot} is computed").at(self.nodes[0][index])
        return [np.asarray(a) for a in found]

    def conv(self, conv: Conv1d) -> Conv1d:
        """Return a convolution of the first member for all of them: of the window that they share, or depthwise."""
        index = self.nodes[0].index(conv.node)
        weight = np.concatenate(self.arrays(index, 1)).reshape(-1, *conv.weight.shape[1:])
        bias = None if conv.bias is None else np.concatenate(self.arrays(index, 2))
        return replace(conv, weight=weight, bias=bias, group=1 if conv.group == 1 else len(weight))

    def dims(self, value: Any) -> tuple[int, ...]:
        """Return the first member's shape of a value without the batch."""
        dims = inner_dims(value)
        if dims is None or not len(value.shape):
            raise Refused(f"the shape of {value.name} is not known")
        return tuple(dims)

    def feeds(self, index: int, node: ir.Node) -> list[Any]:
        """Return what a copy of the first member's node reads, constants made on the way."""
        feeds: list[Any] = []
        for value in node.inputs:
            if value is None or value in self.values:
                feeds.append(self._plain(value) if value is not None else None)
            else:
                array = constant(value)
                if array is None:
                    raise Refused("it reads something that is not there").at(node)
                feeds.append(self.emit.constant(array, name=f"{value.name}", keep=True))
        return feeds

    def _plain(self, value: Any) -> ir.Value:
        found = self.values[value]
        return self.get(value) if isinstance(found, Parts) else found

    def copy(self, node: ir.Node, feeds: list[Any]) -> list[ir.Value]:
        """Add the node as it is on other inputs."""
        outputs = self.emit.many(node.op_type, *feeds, n=len(node.outputs), **attributes_of(node))
        for old, new in zip(node.outputs, outputs, strict=True):
            if old.dtype is not None:
                new.type = ir.TensorType(old.dtype)
        return outputs

    def get(self, value: Any) -> ir.Value:
        """Return a value stacked; one that all share is repeated."""
        if value in self.shared:
            return self.emit("Concat", *[self.values[value]] * self.n, axis=1)
        found = self.values[value]
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
            source = before_reshape(found)
            self._wide[found] = self.emit("Reshape", source, [-(source is not found), self.n, *self.dims(value)])
        return self._wide[found]

    def collapse(self, value: ir.Value, dims: tuple[int, ...]) -> ir.Value:
        """Return (batch, N, dims) in the stacked form."""
        y = self.emit("Reshape", value, [0, self.n * dims[0], *dims[1:]])
        self._wide[y] = value
        return y


def before_reshape(value: ir.Value) -> ir.Value:
    """Return what a value is the same numbers of, one Reshape earlier; itself behind another node."""
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    return value if source is None else source
