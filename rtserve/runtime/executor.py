"""`PlanModule`: runs a plan, the executor's own form of an ONNX graph, with torch alone.

A plan is JSON: the nodes in order, the names of the tensors beside it, and the integers that shapes are made of, each a
number or ``[a, c]`` for ``a * batch + c``. Binding happens once, at the first call after loading, moving or converting;
a call only runs what depends on the input, and frees every value after its last use.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

import rtserve.runtime.indexing
import rtserve.runtime.linear
import rtserve.runtime.logarithm
import rtserve.runtime.pointwise
import rtserve.runtime.pooling
import rtserve.runtime.recurrent
import rtserve.runtime.reduction
import rtserve.runtime.resampling
import rtserve.runtime.shaping
import rtserve.runtime.signal  # noqa: F401  (each fills the table of operators)
from rtserve.runtime.node import OPERATORS, Node, Scalar, UnsupportedOperatorError, as_tensor
from rtserve.runtime.precision import PRECISIONS
from rtserve.runtime.replay import Replays

PLAN_SCHEMA = "rtserve.plan/1"

FRESH = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Conv", "Div", "Elu", "Exp", "Gemm", "Gelu", "InstanceNormalization"}
    | {"LayerNormalization", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Neg", "ReduceMean", "ReduceSum", "Relu"}
    | {"Sigmoid", "Softmax", "Sub", "Tanh"}
)
"""Operators whose result is memory of its own: the next operator may overwrite it if nobody else reads it."""

BINDING = threading.RLock()
"""One thread at a time binds: a second program in the first one's place would free constants that another stream reads."""

KEPT_BYTES = 31 << 20
"""What is taken from glibc at once and given back, untouched: it then keeps blocks up to this size, and twice as much in
all, for the next call. Else every call gives the memory of its largest values back to the system and gets it anew, page by
page, which was a fifth to a quarter of the time of 16 windows. It heeds no block over 32 MiB."""

SEVERAL = frozenset({"GRU", "LSTM", "RNN", "Split", "TopK"})
"""Operators whose function returns a tuple, however many outputs the node names."""


def missing_operators(plan: Mapping[str, Any]) -> list[str]:
    """Return the names of operators in `plan` that the table lacks."""
    return sorted({node["op"] for node in plan["nodes"]} - set(OPERATORS))


class Program:
    """A plan bound to one device and floating type: what a call does, step by step."""

    def __init__(self, plan: Mapping[str, Any], tensors: Mapping[str, Tensor], anchor: Tensor) -> None:
        self.dtype, self.device, self.opset = anchor.dtype, anchor.device, plan["opset"]
        self.slots: dict[str, int] = {}
        self.constants: dict[str, Any] = dict(tensors)
        self.batch_sizes: list[tuple[int, type, tuple[tuple[int, int], ...], bool]] = []
        self.template: list[Any] = []
        self.steps: list[tuple[Any, tuple[int, ...], Any, tuple[int, ...]]] = []
        self._sizes(plan["sizes"])
        self.input, self.output = self._slot(plan["input"]), plan["output"]
        readers = _count_readers(plan)
        makers: dict[str, str] = {}
        self.relaid: dict[tuple[Any, ...], Any] = {}
        for entry in plan["nodes"]:
            self._bind(entry, readers, makers)
        self.relaid.clear()
        self.result = self._constant_slot(self.output) if self.output in self.constants else self.slots[self.output]
        self._free_after_last_use()

    def _slot(self, name: str) -> int:
        if name not in self.slots:
            self.slots[name] = len(self.template)
            self.template.append(None)
        return self.slots[name]

    def _constant_slot(self, name: str) -> int:
        slot = self._slot(name)
        self.template[slot] = as_tensor(self.constants[name], self.device)
        return slot

    def _sizes(self, sizes: Mapping[str, Any]) -> None:
        """Sort the plan's integers into constants and those that follow the batch size."""
        self.varying: dict[str, tuple[type, tuple[tuple[int, int], ...]]] = {}
        for name, entry in sizes.items():
            kind: type = Scalar if entry["scalar"] else tuple
            values = entry["values"]
            if all(isinstance(value, int) for value in values):
                self.constants[name] = kind(values)
            else:
                self.varying[name] = (kind, tuple((0, v) if isinstance(v, int) else tuple(v) for v in values))

    def _varying_slot(self, name: str, as_ints: bool) -> int:
        """Return the slot that holds batch-dependent integers as a tuple, or as a tensor where one is wanted."""
        known = f"{name}{'' if as_ints else ' tensor'}"
        fresh = known not in self.slots
        slot = self._slot(known)
        if fresh:
            kind, terms = self.varying[name]
            self.batch_sizes.append((slot, kind, terms, as_ints))
        return slot

    def _bind(self, entry: Mapping[str, Any], readers: Mapping[str, int], makers: dict[str, str]) -> None:
        inputs, outputs, op = entry["inputs"], entry["outputs"], entry["op"]
        if op not in OPERATORS:
            raise UnsupportedOperatorError(f"no operator {op} in this executor")
        constants = [self.constants.get(name) for name in inputs]
        node = Node(
            op,
            entry["attrs"],
            constants,
            [bool(name) for name in inputs],
            [bool(readers.get(name)) for name in outputs],
            self.opset,
            self.dtype,
            self.device,
            bool(inputs) and readers.get(inputs[0]) == 1 and makers.get(inputs[0]) in FRESH,
            self.relaid,
        )
        call = OPERATORS[op](node)
        passed = [i for i, name in enumerate(inputs) if name and i not in node.absorbed]
        if all(inputs[i] in self.constants for i in passed):
            values = [as_tensor(self.constants[inputs[i]], self.device) for i in passed]
            self._fold(call(*values), outputs)
            return
        slots = tuple(self._input_slot(inputs[i], i in node.as_ints) for i in passed)
        made = tuple(self._slot(name) if name else -1 for name in outputs)
        makers.update((name, op) for name in outputs)
        self.steps.append((call, slots, made if op in SEVERAL or len(made) != 1 else made[0], ()))

    def _fold(self, result: Any, outputs: Sequence[str]) -> None:
        """Keep the outputs of a node that depends on constants alone."""
        values = (result,) if isinstance(result, Tensor) else result
        self.constants.update((name, value) for name, value in zip(outputs, values, strict=False) if name)

    def _input_slot(self, name: str, as_ints: bool) -> int:
        if name in self.varying:
            return self._varying_slot(name, as_ints)
        return self._constant_slot(name) if name in self.constants else self._slot(name)

    def _free_after_last_use(self) -> None:
        constant = {i for i, value in enumerate(self.template) if value is not None}
        seen = constant | {self.result}
        steps = []
        for call, slots, made, _ in reversed(self.steps):
            outputs = (made,) if isinstance(made, int) else made
            last = tuple(s for s in dict.fromkeys(slots + tuple(outputs)) if s >= 0 and s not in seen)
            seen.update(last)
            steps.append((call, slots, made, last))
        self.steps = steps[::-1]

    def start(self, x: Tensor) -> list[Any]:
        """Return every value that is known before the first step of a call."""
        values = self.template.copy()
        values[self.input] = x
        if self.batch_sizes:
            self._fill_sizes(values, x.shape[0])
        return values

    def run(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        return self.finish(self.start(x))

    def finish(self, values: list[Any]) -> Tensor:
        """Run the steps over what `start` gave, which is used up; return (batch, n_outputs)."""
        for call, slots, made, last in self.steps:
            if len(slots) == 1:
                result = call(values[slots[0]])
            else:
                result = call(*[values[slot] for slot in slots])
            if made.__class__ is int:
                values[made] = result
            else:
                for slot, value in zip(made, (result,) if isinstance(result, Tensor) else result, strict=False):
                    if slot >= 0:
                        values[slot] = value
            for slot in last:
                values[slot] = None
        final: Tensor = values[self.result]
        return final

    def trace(self, x: Tensor, wanted: Collection[str] | None = None) -> dict[str, Any]:
        """Return every value that a call computes, by name: for inspection, not for speed.

        With `wanted`, only those values are kept, and nothing behind the last of them is computed.
        """
        seen = {name: as_tensor(value, self.device) for name, value in self.constants.items()}
        names = {slot: name for name, slot in self.slots.items()}
        values = self.start(x)
        for call, slots, made, last in self.steps:
            result = call(*[values[slot] for slot in slots])
            made = (made,) if made.__class__ is int else made
            result = (result,) if isinstance(result, Tensor) else result
            computed = {slot: value for slot, value in zip(made, result, strict=False) if slot >= 0}
            for slot, value in computed.items():
                values[slot] = value
            if wanted is None:
                seen.update((names[slot], value) for slot, value in computed.items())
            else:  # a later operator may write over its input
                seen.update(
                    (names[s], v.clone() if isinstance(v, Tensor) else v)
                    for s, v in computed.items()
                    if names[s] in wanted
                )
            if wanted is not None and all(name in seen for name in wanted):
                break
            for slot in last:
                values[slot] = None
        return seen

    def _fill_sizes(self, values: list[Any], batch: int) -> None:
        for slot, kind, terms, as_ints in self.batch_sizes:
            numbers = kind(a * batch + c if a else c for a, c in terms)
            values[slot] = numbers if as_ints else as_tensor(numbers, self.device)


def _count_readers(plan: Mapping[str, Any]) -> dict[str, int]:
    """Return how often each value is read; the graph's output counts as read."""
    readers = {plan["output"]: 2}
    for node in plan["nodes"]:
        for name in node["inputs"]:
            readers[name] = readers.get(name, 0) + 1
    return readers


class PlanModule(nn.Module):  # type: ignore[misc]
    """A graph as a torch module.

    Parameters
    ----------
    plan : dict
        From `rtserve.graphs.plan.graph_to_plan`, or the JSON file of a submission. Its ``precision``, ``"float32"``
        where it names none, is what it computes in on a CUDA device.
    tensors : dict of str to Tensor
        The weights it names; they become buffers, so `state_dict`, `.to` and `.double` work.

    Raises
    ------
    UnsupportedOperatorError
        Where the plan asks for an operator, or a form of one, that the table lacks.
    """

    anchor: Tensor

    def __init__(self, plan: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        if plan.get("schema") != PLAN_SCHEMA:
            raise ValueError(f"plan has schema {plan.get('schema')!r}, this executor reads {PLAN_SCHEMA!r}")
        self.plan = dict(plan)
        self.precision = plan.get("precision", PRECISIONS[0])
        if self.precision not in PRECISIONS:
            raise ValueError(f"plan has precision {self.precision!r}, this executor knows {', '.join(PRECISIONS)}")
        for name in plan["tensors"]:
            self.register_buffer(name, tensors[name])
        # What a graph computes in another type on purpose stays in it, whatever the module is turned to.
        self.fixed = tuple(n for n, t in self.named_buffers() if t.is_floating_point() and t.dtype != torch.float32)
        # Says which floating type and device the module is on, also where a plan has no float tensor.
        self.register_buffer("anchor", torch.zeros((), dtype=torch.float32), persistent=False)
        self.replays: Replays | None = None
        self.program: Program | None = self._bind()
        self.register_load_state_dict_post_hook(_forget_program)

    def _bind(self) -> Program:
        # Not as inference tensors, also where the first call is in inference mode: gradients may be asked for later.
        with torch.inference_mode(False), torch.no_grad():
            program = Program(self.plan, {name: self.get_buffer(name) for name in self.plan["tensors"]}, self.anchor)
        if program.device.type == "cpu":
            with suppress(RuntimeError):  # little memory is allowed: calls may still fit
                torch.empty(KEPT_BYTES, dtype=torch.uint8)
        if program.device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
            # What was made of constants is there before a call on another stream reads it.
            torch.cuda.current_stream(program.device).synchronize()
        self.replays = Replays(program, self.precision) if program.device.type == "cuda" else None
        return program

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times), in the module's type and on its device."""
        program = self.program
        if program is None:
            with BINDING:
                program = self.program = self.program or self._bind()
        return program.run(x) if self.replays is None else self.replays.run(x)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        """Move or convert the tensors; what was derived from them is made anew."""
        kept = {name: self.get_buffer(name) for name in self.fixed}
        result = super()._apply(fn, *args, **kwargs)
        for name, tensor in kept.items():
            setattr(self, name, tensor.to(self.anchor.device))
        self.program = self.replays = None
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "program": None, "replays": None}


def _forget_program(module: nn.Module, incompatible_keys: Any) -> None:
    module.program = module.replays = None
