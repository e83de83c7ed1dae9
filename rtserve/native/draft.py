"""A flow written anew: operators that native code has no statements for, as others that it has.

    flow --rewritten--> flow

A rewriting is exact but for rounding: constants that it makes are computed in float64. Shapes of one window are known, so
that a reshape names its result and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from rtserve.native.flow import Flow, Operation

__all__ = ["REWRITES", "Draft", "Rewrite", "rewrite", "rewritten"]


@dataclass(kw_only=True)
class Draft:
    """What is written of the new flow.

    Parameters
    ----------
    flow : Flow
        The one that is rewritten.
    constants, shapes : dict
        As a flow has them; those of new values are added.
    operations : list of Operation
        Those that are written.
    """

    flow: Flow
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    operations: list[Operation]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value."""
        known = self.shapes.get(name)
        return known if known is not None else self.constants[name].shape

    def constant(self, operation: Operation, index: int) -> np.ndarray | None:
        """Return an input that is known beforehand; None where there is none or it follows from the window."""
        return self.constants.get(operation.inputs[index]) if operation.has(index) else None

    def known(self, operation: Operation, index: int, what: str) -> np.ndarray:
        """Return an input that must be known beforehand."""
        value = self.constant(operation, index)
        if value is None:
            raise operation.refuse(f"with {what} computed from the window")
        return value

    def is_read(self, name: str) -> bool:
        """Return whether anybody reads a value."""
        return bool(name) and (name == self.flow.output or any(name in one.inputs for one in self.flow.operations))

    # ---- writing ----

    def _fresh(self, stem: str) -> str:
        """Return a name that no value has."""
        number = len(self.constants) + len(self.shapes)
        while (name := f"{stem} {number}") in self.constants or name in self.shapes:
            number += 1
        return name

    def keep(self, value: np.ndarray | float) -> str:
        """Keep a constant, numbers as float32; return its name."""
        value = np.asarray(value)
        value = value.astype(np.float32) if value.dtype.kind == "f" else value
        name = self._fresh("constant")
        self.constants[name] = value
        return name

    def put(self, op: str, inputs: Sequence[str], shape: Sequence[int], *, out: str = "", **attrs: Any) -> str:
        """Write an operation on values; return the name of its result, `out` where that has one."""
        name = out or self._fresh("value")
        self.shapes[name] = tuple(int(n) for n in shape)
        self.operations.append(Operation(op=op, inputs=tuple(inputs), outputs=(name,), attrs=attrs))
        return name

    def reshape(self, name: str, shape: Sequence[int], *, out: str = "") -> str:
        """Write another shape of a value or a constant."""
        if name in self.constants and not out:
            return self.keep(self.constants[name].reshape(shape))
        return self.put("Reshape", [name], shape, out=out)

    def transpose(self, name: str, axes: Sequence[int], *, out: str = "") -> str:
        """Write a value, or a constant, with its axes in another order."""
        if name in self.constants and not out:
            return self.keep(np.transpose(self.constants[name], axes))
        shape = self.shape(name)
        return self.put("Transpose", [name], [shape[a] for a in axes], out=out, perm=list(axes))

    def pointwise(self, op: str, *names: str, out: str = "", **attrs: Any) -> str:
        """Write an operation on single numbers."""
        shape = np.broadcast_shapes(*(self.shape(name) for name in names))
        return self.put(op, names, shape, out=out, **attrs)

    def reduce(self, op: str, name: str, axes: Sequence[int], *, keepdims: bool = True, out: str = "") -> str:
        """Write a reduction over axes."""
        shape = self.shape(name)
        axes = [axis % len(shape) for axis in axes]
        kept = [1 if a in axes else n for a, n in enumerate(shape) if keepdims or a not in axes]
        return self.put(op, [name], kept, out=out, axes=list(axes), keepdims=int(keepdims))

    def cut(self, name: str, axis: int, start: int, n: int) -> str:
        """Write samples of an axis."""
        shape = list(self.shape(name))
        if (start, n) == (0, shape[axis]):
            return name
        shape[axis] = n
        return self.put("Slice", [name], shape, starts=[start], ends=[start + n], axes=[axis])

    def dense(self, name: str, matrix: np.ndarray, *, out: str = "") -> str:
        """Write a value (..., k) times a matrix (k, n)."""
        shape = self.shape(name)
        flat = self.reshape(name, (prod(shape[:-1]), shape[-1]))
        product = self.put("MatMul", [flat, self.keep(matrix)], (prod(shape[:-1]), matrix.shape[1]))
        return self.reshape(product, (*shape[:-1], matrix.shape[1]), out=out)


WIDE = frozenset(
    {"Abs", "Add", "Cast", "Div", "Exp", "Expand", "Flatten", "Identity", "Log", "Mul", "Neg", "Pow", "Reciprocal"}
    | {"ReduceMean", "ReduceSum", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"}
)
"""Operators that are written for float64 too."""

Rewrite = Callable[[Draft, Operation], bool]
REWRITES: dict[str, Rewrite] = {}
"""ONNX operator to the function that writes it as others, or says that it stays as it is."""


def rewrite(*names: str) -> Callable[[Rewrite], Rewrite]:
    """Enter a function into the table under its ONNX names."""

    def enter(function: Rewrite) -> Rewrite:
        for name in names:
            REWRITES[name] = function
        return function

    return enter


def rewritten(flow: Flow) -> Flow:
    """Return a flow with every operation rewritten that the table has a function for.

    Raises
    ------
    Unsupported
        Where a form of one is not written.
    """
    draft = Draft(flow=flow, constants=dict(flow.constants), shapes=dict(flow.shapes), operations=[])
    for operation in flow.operations:
        if operation.op not in WIDE and not flow.wide.isdisjoint([*operation.inputs, *operation.outputs]):
            raise operation.refuse("in float64")
        function = REWRITES.get(operation.op)
        if function is None or not function(draft, operation):
            draft.operations.append(operation)
    return replace(flow, operations=tuple(draft.operations), constants=draft.constants, shapes=draft.shapes)
