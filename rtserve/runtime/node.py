"""One operator of a plan, as its function sees it while it is bound; and the table of operators.

A function of the table takes a `Node` and returns what runs at each call. Everything known at load (attributes,
constant shapes, axes, pads) is read from the node once; a constant that was *absorbed* is no longer passed in a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Call = Callable[..., Any]
"""What a function of the table returns: takes the inputs that were not absorbed, gives the output or a tuple."""

DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    14: torch.complex64,
    15: torch.complex128,
    16: torch.bfloat16,
}
"""ONNX element type to torch's."""


class UnsupportedOperatorError(NotImplementedError):
    """A plan asks for an operator, or a form of one, that this executor lacks."""


class Scalar(tuple):  # type: ignore[type-arg]
    """An integer that ONNX holds without a dimension: one number, not a list of one."""


class Node:
    """What a function of the table may ask while it is bound.

    Parameters
    ----------
    op : str
        ONNX operator name.
    attrs : dict
        Its attributes as Python values.
    constants : sequence
        One entry per input: a tensor, a tuple of integers, or None where the input is computed at each call.
    present : sequence of bool
        Whether the input is given at all.
    outputs : sequence of bool
        Whether each output is read by anybody.
    opset : int
        Version of the ONNX operator set.
    dtype, device : torch.dtype, torch.device
        The floating type and the device that the module computes in.
    inplace : bool
        Whether the first input may be overwritten: nobody else reads its memory.
    relaid : dict, optional
        Constants laid out in memory in another order, and what is made of them, filled by `relay` and `once`: nodes that
        read one weight share one copy.
    """

    def __init__(
        self,
        op: str,
        attrs: dict[str, Any],
        constants: Sequence[Any],
        present: Sequence[bool],
        outputs: Sequence[bool],
        opset: int,
        dtype: torch.dtype,
        device: torch.device,
        inplace: bool = False,
        relaid: dict[tuple[Any, ...], Any] | None = None,
    ) -> None:
        self.op, self.attrs, self.constants, self.present = op, attrs, list(constants), list(present)
        self.outputs, self.opset, self.dtype, self.device, self.inplace = outputs, opset, dtype, device, inplace
        self.relaid = {} if relaid is None else relaid
        self.absorbed: set[int] = set()
        self.as_ints: set[int] = set()

    def has(self, index: int) -> bool:
        """Whether input `index` is given."""
        return index < len(self.present) and self.present[index]

    def is_constant(self, index: int) -> bool:
        """Whether input `index` is given and known at load."""
        return self.has(index) and self.constants[index] is not None

    def tensor(self, index: int) -> Tensor:
        """Absorb a constant input as a tensor on the module's device."""
        self.absorbed.add(index)
        return as_tensor(self.constants[index], self.device)

    def relay(self, index: int, order: str, turn: Callable[[Tensor], Tensor]) -> Tensor:
        """Absorb a constant input as `turn` lays it out; `order` is what that is called."""
        weight, key = self.tensor(index), (id(self.constants[index]), order)
        if key not in self.relaid:
            self.relaid[key] = turn(weight)
        return self.relaid[key]

    def once(self, make: Callable[[], Any]) -> Any:
        """Return what `make` makes of attributes and constants that it absorbs; nodes of the same ones share it."""
        key = (self.op, *map(id, self.constants), repr(sorted(self.attrs.items())))
        if key not in self.relaid:
            self.relaid[key] = make(), {*self.absorbed}
        made, absorbed = self.relaid[key]
        self.absorbed |= absorbed
        return made

    def ints(self, index: int, attribute: str = "") -> tuple[int, ...] | None:
        """Absorb a constant input, or an attribute of older opsets, as integers; None where it is not known."""
        if self.is_constant(index):
            self.absorbed.add(index)
            return as_ints(self.constants[index])
        self.as_ints.add(index)
        value = self.attrs.get(attribute)
        return None if value is None else tuple(int(v) for v in value)

    def fixed_ints(self, index: int, attribute: str = "") -> tuple[int, ...] | None:
        """As `ints`, but refuse an input that only a call computes."""
        if self.has(index) and not self.is_constant(index):
            raise self.refuse(f"with input {index} ({attribute or 'sizes'}) computed at run time")
        return self.ints(index, attribute)

    def scalar(self, index: int, default: Any = None, attribute: str = "") -> Any:
        """Absorb a constant input of one element, or an attribute of older opsets, as a Python number."""
        if self.is_constant(index):
            self.absorbed.add(index)
            value = self.constants[index]
            return value[0] if isinstance(value, tuple) else value.item()
        if self.has(index):
            raise self.refuse(f"with input {index} ({attribute or 'a number'}) computed at run time")
        return self.attrs.get(attribute, default)

    def refuse(self, why: str) -> UnsupportedOperatorError:
        """Return the error for a form of this operator that the executor lacks."""
        return UnsupportedOperatorError(f"{self.op} {why}")

    def torch_dtype(self, onnx_type: int) -> torch.dtype:
        """Return the torch type of an ONNX element type; float32 means the type the module computes in."""
        if onnx_type not in DTYPES:
            raise self.refuse(f"to ONNX element type {onnx_type}")
        return self.dtype if onnx_type == 1 else DTYPES[onnx_type]


Bind = Callable[[Node], Call]
OPERATORS: dict[str, Bind] = {}
"""ONNX operator name to the function that binds it."""


def operator(*names: str) -> Callable[[Bind], Bind]:
    """Enter a function into the table under its ONNX names."""

    def enter(bind: Bind) -> Bind:
        for name in names:
            OPERATORS[name] = bind
        return bind

    return enter


def as_ints(value: Any) -> tuple[int, ...]:
    """Return a tensor or a tuple of integers as a tuple."""
    if isinstance(value, tuple):
        return value
    return tuple(int(v) for v in value.reshape(-1).tolist())


def as_tensor(value: Any, device: torch.device) -> Tensor:
    """Return integers as an int64 tensor on `device`; a tensor stays what it is."""
    if isinstance(value, Tensor):
        return value
    return torch.tensor(value[0] if isinstance(value, Scalar) else list(value), dtype=torch.int64, device=device)
