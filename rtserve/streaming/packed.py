"""A step as a graph of one input and one output, for what runs nothing else: the torch executor and native code.

Input: the new samples, then all states, one row for each stream; output: the answer, then the next states, as they lie in
the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rtserve.graphs.emit import Emitter, inline_many
from rtserve.graphs.graph import INPUT_NAME, Graph
from rtserve.spec import InputSpec, OutputSpec
from rtserve.streaming.check import recordings
from rtserve.streaming.runner import require_samples

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.runtime.stepping import StepModule
    from rtserve.streaming.step_graph import StepGraph

__all__ = ["PackedRunner", "packed", "state_size", "step_module"]


def state_size(step: StepGraph) -> int:
    """Return how many numbers the states of a stream hold."""
    return sum(_numbers(shape) for _, shape in step.states)


def packed(step: StepGraph) -> Graph:
    """Return a step as a graph from (batch, 1, n_chans * hop + `state_size`) to (batch, n_outputs + `state_size`)."""
    from rtserve.fusion.join import empty_model, set_output
    from rtserve.graphs.fold import normalise

    n_chans, n_outputs, size = step.input_spec.n_chans, step.output_spec.n_outputs, state_size(step)
    width = n_chans * step.hop + size
    model = empty_model(1, width)
    emit = Emitter(model.graph, prefix="packed")
    row = emit("Reshape", model.graph.inputs[0], [-1, width])
    given: list[ir.Value] = []
    first = 0
    for _, shape in [(INPUT_NAME, ("batch", n_chans, step.hop)), *step.states]:
        given.append(_unpacked(emit, emit.slice(row, 1, first, first + _numbers(shape)), shape))
        first += _numbers(shape)
    y, *after = inline_many(emit, step.model.graph, given)
    rows = [y, *(_as_row(emit, value, shape) for value, (_, shape) in zip(after, step.states, strict=True))]
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


def _batch_of(shape: tuple[int | str, ...]) -> int:
    return next(axis for axis, dim in enumerate(shape) if isinstance(dim, str))


def _unpacked(emit: Emitter, row: ir.Value, shape: tuple[int | str, ...]) -> ir.Value:
    """Return part of a row, (batch, numbers), in the shape of what it is."""
    axis = _batch_of(shape)
    others = [dim for dim in shape if isinstance(dim, int)]
    value = emit("Reshape", row, np.array([-1, *others]))
    if not axis:
        return value
    order = list(range(1, len(shape)))
    return emit("Transpose", value, perm=[*order[:axis], 0, *order[axis:]])


def _as_row(emit: Emitter, value: ir.Value, shape: tuple[int | str, ...]) -> ir.Value:
    axis = _batch_of(shape)
    if axis:
        value = emit("Transpose", value, perm=[axis, *(k for k in range(len(shape)) if k != axis)])
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
    """

    def __init__(self, step: StepGraph, *, engine: str, batch: int = 1) -> None:
        self.step, self.batch, self._infer = step, batch, _infer_in(engine, step)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.steps = 0
        self._state = np.zeros((self.batch, state_size(self.step)), np.float32)

    def push(self, x: np.ndarray) -> np.ndarray | None:
        """Take the next samples (batch, n_chans, hop); return (batch, n_outputs), None until there was a whole window.

        Raises
        ------
        InputError
            Where the samples have another shape: the state stays as it was.
        """
        require_samples(self.step, self.batch, x)
        together = self._infer(self._row(x))
        n_outputs = self.step.output_spec.n_outputs
        self._state = together[:, n_outputs:]
        self.steps += 1
        return together[:, :n_outputs] if self.steps >= self.step.first_answer else None

    def _row(self, x: np.ndarray) -> np.ndarray:
        """Return samples and states as the packed graph takes them, (batch, 1, numbers)."""
        return np.concatenate([x.reshape(self.batch, -1).astype(np.float32, copy=False), self._state], axis=1)[:, None]


def _infer_in(engine: str, step: StepGraph) -> Callable[[np.ndarray], np.ndarray]:
    """Return a packed step in an engine; native code is compared on what a stream holds, for no other state is one."""
    from rtserve.graphs.native import compile_graph
    from rtserve.graphs.runners import make_runner
    from rtserve.native.compiler import best_level

    if engine != "native":
        return make_runner(packed(step), engine).infer
    return compile_graph(packed(step), levels=[best_level()], probes=_seen(step)).module.infer


def _seen(step: StepGraph) -> list[tuple[str, np.ndarray]]:
    """Return samples and states of streams over recordings, those of a NaN span among them: from the first and later."""
    spec, runner, found = step.input_spec, PackedRunner(step, engine="onnxruntime"), []
    for one in recordings(spec.n_chans, spec.n_times, step.hop):
        runner.reset()
        rows = []
        for start in range(0, one.x.shape[1] - step.hop + 1, step.hop):
            x = one.x[None, :, start : start + step.hop]
            rows.append(runner._row(x))
            runner.push(x)
        last = len(rows) - 1
        found.append((one.name, np.concatenate([rows[k] for k in sorted({0, last // 4, last // 2, last - 1, last})])))
    return found
