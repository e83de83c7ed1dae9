"""What a plan computes for one window: operations in order, what is known beforehand, and every shape.

The plan (`rtserve.graphs.plan`) is run once by the torch executor on one window; sizes that follow from the batch are
numbers then, and operations on constants alone are done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Flow", "Operation", "Unsupported", "read_flow"]


class Unsupported(Exception):  # noqa: N818  (a reason, not an error: who asks decides what follows)
    """What native code is not written for: an operator, or a form of one."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operator of a plan; names of values that are not given are empty."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]

    def has(self, index: int) -> bool:
        """Return whether an input is given."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a word."""
        value = self.attrs.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def refuse(self, why: str = "") -> Unsupported:
        """Return the reason that this operation, named by its value, is not written in C."""
        name = next(filter(None, self.outputs), "")
        return Unsupported(f"{self.op}{' ' if why else ''}{why} (value {name})")


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What one window goes through.

    Parameters
    ----------
    operations : tuple of Operation
        Those that depend on the window, in order.
    constants : dict of ndarray
        Values known beforehand.
    shapes : dict of tuple of int
        Of every value that depends on the window, for one window.
    input, output : str
        The window, (1, n_chans, n_times), and the answer, (1, n_outputs).
    opset : int
        Version of the ONNX operator set.
    wide : frozenset of str
        Values that depend on the window and are float64; all others are float32 or truths.
    """

    operations: tuple[Operation, ...]
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    input: str
    output: str
    opset: int
    wide: frozenset[str] = frozenset()

    def readers(self) -> dict[str, list[Operation]]:
        """Return who reads each value."""
        found: dict[str, list[Operation]] = {}
        for operation in self.operations:
            for name in dict.fromkeys(operation.inputs):
                found.setdefault(name, []).append(operation)
        return found


def read_flow(plan: Mapping[str, Any], tensors: Mapping[str, Tensor], shape: Sequence[int]) -> Flow:
    """Return what one window of `shape` (n_chans, n_times) goes through.

    Raises
    ------
    Unsupported
        Where a value that depends on the window is neither a float nor a truth.
    """
    import torch

    from rtserve.runtime.executor import Program

    with torch.inference_mode():
        program = Program(plan, tensors, torch.zeros(()))
        seen = program.trace(torch.zeros(1, *shape))
    constants = {name: _array(value) for name, value in seen.items()}
    constants |= {name: _sizes(entry) for name, entry in plan["sizes"].items()}
    shapes: dict[str, tuple[int, ...]] = {plan["input"]: (1, *shape)}
    constants.pop(plan["input"], None)
    operations, wide = [], set()
    read = {plan["output"], *(name for node in plan["nodes"] for name in node["inputs"])}
    for node in plan["nodes"]:
        operation = Operation(op=node["op"], inputs=tuple(node["inputs"]), outputs=tuple(node["outputs"]),
                              attrs=node["attrs"])  # fmt: skip
        if operation.op in ("EyeLike", "Shape", "Size") or not any(name in shapes for name in operation.inputs):
            continue
        for name in filter(None, operation.outputs):
            value = seen.get(name)
            if value is None or name not in read:
                continue
            if value.dtype == torch.float64:
                wide.add(name)
            elif value.dtype not in (torch.float32, torch.bool):  # what is true is one here, what is false zero
                raise operation.refuse(f"gives {str(value.dtype).removeprefix('torch.')}")
            shapes[name] = tuple(value.shape)
            constants.pop(name, None)
        operations.append(operation)
    return Flow(operations=tuple(operations), constants=constants, shapes=shapes, input=plan["input"],
                output=plan["output"], opset=plan["opset"], wide=frozenset(wide))  # fmt: skip


def _array(value: Any) -> np.ndarray:
    return np.asarray(value) if isinstance(value, tuple) else value.detach().cpu().numpy()


def _sizes(entry: Mapping[str, Any]) -> np.ndarray:
    """Return integers of a plan for a batch of one."""
    values = [value if isinstance(value, int) else sum(value) for value in entry["values"]]
    return np.asarray(values[0] if entry["scalar"] else values, dtype=np.int64)
