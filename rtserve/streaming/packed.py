"""A step as a graph of one input and one output, for what runs nothing else: the torch executor and native code.

Input: the new samples, then all states, one row for each stream; output: the answer, then the next states, as they lie in
the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.graphs.emit import Emitter, inline_many
from rtserve.graphs.graph import INPUT_NAME, Graph
from rtserve.graphs.runners import make_runner
from rtserve.native.writer import SLACK
from rtserve.spec import InputSpec, OutputSpec
from rtserve.streaming.check import recordings
from rtserve.streaming.runner import require_samples

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.native.load import NativeModule
    from rtserve.runtime.stepping import StepModule
    from rtserve.streaming.step_graph import StepGraph

__all__ = ["PackedRunner", "packed", "state_size", "step_module"]


def state_size(step: StepGraph) -> int:
    """Return how many numbers the states of a stream hold."""
    return sum(_numbers(shape) for _, shape in step.states)


def packed(step: StepGraph, *, turned: bool = False) -> Graph:
    """Return a step as a graph from (batch, 1, n_chans * hop + `state_size`) to (batch, n_outputs + `state_size`).

    `turned`: states lie with their channels inside, as native code computes them, and not as the step's inputs do; behind
    the last come `SLACK` numbers that nothing uses.
    """
    from rtserve.fusion.join import empty_model, set_output
    from rtserve.graphs.fold import normalise

    n_chans, n_outputs = step.input_spec.n_chans, step.output_spec.n_outputs
    size = state_size(step) + SLACK * turned
    width = n_chans * step.hop + size
    model = empty_model(1, width)
    emit = Emitter(model.graph, prefix="packed")
    row = emit("Reshape", model.graph.inputs[0], [-1, width])
    given: list[ir.Value] = []
    first = 0
    for _, shape in [(INPUT_NAME, ("batch", n_chans, step.hop)), *step.states]:
        order = _order(shape, turned=turned and len(given) > 0)
        given.append(_unpacked(emit, emit.slice(row, 1, first, first + _numbers(shape)), shape, order))
        first += _numbers(shape)
    y, *after = inline_many(emit, step.model.graph, given)
    orders = [_order(shape, turned=turned) for _, shape in step.states]
    rows = [y, *(_as_row(emit, value, shape, order)
                 for value, (_, shape), order in zip(after, step.states, orders, strict=True))]  # fmt: skip
    rows += [emit.slice(row, 1, first, first + SLACK)] if turned else []
    set_output(model.graph, emit("Concat", *rows, axis=1) if len(rows) > 1 else y, n_outputs + size)
    normalise(model, name="packed step")
    return Graph(
        model=model,
        input_spec=InputSpec(n_chans=1, n_times=width),
        output_spec=OutputSpec(n_outputs=n_outputs + size),
        provenance=step.provenance,
    )


def _numbers(shape: tuple[int | str, ...]) -> int:
    return math.prod(dim for dim in shape if isinstance(dim, int))


def _order(shape: tuple[int | str, ...], *, turned: bool) -> list[int]:
    """Return a state's axes as they lie in a row: the batch in front, and its channels behind where they are `turned`."""
    batch = next(axis for axis, dim in enumerate(shape) if isinstance(dim, str))
    others = [axis for axis in range(len(shape)) if axis != batch]
    return [batch, *others[1:], others[0]] if turned else [batch, *others]


def _unpacked(emit: Emitter, row: ir.Value, shape: tuple[int | str, ...], order: list[int]) -> ir.Value:
    """Return part of a row, (batch, numbers), in the shape of what it is."""
    value = emit("Reshape", row, np.array([-1, *(shape[axis] for axis in order[1:])]))
    return (
        value if order == sorted(order) else emit("Transpose", value, perm=[order.index(k) for k in range(len(order))])
    )


def _as_row(emit: Emitter, value: ir.Value, shape: tuple[int | str, ...], order: list[int]) -> ir.Value:
    if order != sorted(order):
        value = emit("Transpose", value, perm=order)
    return emit("Reshape", value, np.array([-1, _numbers(shape)]))


def step_module(step: StepGraph) -> StepModule:
    """Return a step as a torch module that holds its state: `reset_state`, and `copy.deepcopy` for another stream.

    Raises
    ------
    ExportError
        Where the executor lacks an operator of the step.
    """
    from rtserve.graphs.plan import graph_to_plan
    from rtserve.runtime.stepping import StepModule

    plan, tensors = graph_to_plan(packed(step))
    shape = (step.input_spec.n_chans, step.hop)
    module = StepModule(plan, tensors, shape=shape, state_size=state_size(step), first_answer=step.first_answer)
    module.eval()
    return module


class PackedRunner:
    """A stream, or several side by side, in any engine that runs graphs: `StepRunner` for onnxruntime's rest.

    Parameters
    ----------
    step : StepGraph
        What is run.
    engine : str
        One of `rtserve.graphs.engines.ENGINES`.
    batch : int
        Streams side by side.
    turned : bool
        Whether states lie with their channels inside (`packed`), which native code's always do.
    """

    def __init__(self, step: StepGraph, *, engine: str, batch: int = 1, turned: bool = False) -> None:
        self.step, self.batch = step, batch
        self._given = step.input_spec.n_chans * step.hop
        # native code reads vectors whole, and makes states where the next step reads them
        size = state_size(step) + SLACK * (turned or engine == "native")
        self._rows = [np.zeros((batch, self._given + size), np.float32) for _ in range(2)]
        self._module = _compiled(step) if engine == "native" else None
        self._infer = (self._module or make_runner(packed(step, turned=turned), engine)).infer
        self._bind()
        self.reset()

    def _bind(self) -> None:
        """Let one stream in native code run in its own rows: answers stand where samples will, the next states behind."""
        n_outputs = self.step.output_spec.n_outputs
        self._calls: list[Callable[[], None]] = []
        if self._module is not None and self.batch == 1 and n_outputs <= self._given:
            answers = [row[0, self._given - n_outputs :] for row in self._rows]
            self._calls = [self._module.bound(row, y) for row, y in zip(self._rows, answers[::-1], strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the calls, which are of this stream's memory: a copy is a stream of its own."""
        return {name: value for name, value in vars(self).items() if name != "_calls"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._bind()

    def reset(self) -> None:
        """Forget everything."""
        self.steps = 0
        for row in self._rows:
            row[:] = 0.0

    def push(self, x: np.ndarray) -> np.ndarray | None:
        """Take the next samples (batch, n_chans, hop); return (batch, n_outputs), None until there was a whole window.

        Raises
        ------
        InputError
            Where the samples have another shape: the state stays as it was.
        """
        require_samples(self.step, self.batch, x)
        n_outputs, row, after = self.step.output_spec.n_outputs, self._row(x), self._rows[1]
        if self._calls:
            self._calls[0]()
            self._calls.reverse()
            y = after[:, self._given - n_outputs : self._given].copy()
        else:
            together = self._infer(row[:, None])
            y, after[:, self._given :] = together[:, :n_outputs], together[:, n_outputs:]
        self._rows.reverse()
        self.steps += 1
        return y if self.steps >= self.step.first_answer else None

    def _row(self, x: np.ndarray) -> np.ndarray:
        """Return samples and states as the packed graph takes them, (batch, numbers); kept until the next answer."""
        self._rows[0][:, : self._given] = x.reshape(self.batch, -1)
        return self._rows[0]


def _compiled(step: StepGraph) -> NativeModule:
    """Return a packed step as native code; it is compared on what a stream holds, for no other state is one."""
    from rtserve.graphs.native import compile_graph
    from rtserve.native.compiler import best_level

    return compile_graph(packed(step, turned=True), levels=[best_level()], probes=_seen(step)).module


def _seen(step: StepGraph) -> list[tuple[str, np.ndarray]]:
    """Return samples and states of streams over recordings, those of a NaN span among them: from the first and later."""
    spec, runner, found = step.input_spec, PackedRunner(step, engine="onnxruntime", turned=True), []
    for one in recordings(spec.n_chans, spec.n_times, step.hop):
        runner.reset()
        rows = []
        for start in range(0, one.x.shape[1] - step.hop + 1, step.hop):
            x = one.x[None, :, start : start + step.hop]
            rows.append(runner._row(x)[:, None].copy())
            runner.push(x)
        last = len(rows) - 1
        found.append((one.name, np.concatenate([rows[k] for k in sorted({0, last // 4, last // 2, last - 1, last})])))
    return found
