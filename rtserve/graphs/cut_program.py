"""The torch executor's program, cut: in float64 before a step, in float32 from it on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.graphs.cuts import EXACT, Cuts

if TYPE_CHECKING:
    from torch import Tensor

    from rtserve.graphs.graph import Graph
    from rtserve.runtime.executor import Program

__all__ = ["cut_for_torch", "values_in_double"]


def values_in_double(graph: Graph, x: np.ndarray) -> dict[str, Any]:
    """Return what the executor computes in float64 from windows (batch, n_chans, n_times), by the names of its plan.

    Raises
    ------
    RtserveError
        Where it cannot run the graph.
    """
    import torch

    from rtserve.graphs.convolving import LeanConvolutions, one_thread
    from rtserve.graphs.runners import PlanRunner

    runner = PlanRunner(graph, double=True)
    runner.infer(x)
    program: Program = runner.module.program
    wanted = [name for node in runner.module.plan["nodes"] for name in node["outputs"] if name]
    with torch.inference_mode(), one_thread(), LeanConvolutions():
        seen = program.trace(torch.from_numpy(np.ascontiguousarray(x)).double(), wanted)
    return {name: value for name, value in seen.items() if name not in program.constants}


def cut_for_torch(graph: Graph, x: np.ndarray) -> Cuts:
    """Return the cuts of a graph in the executor: its steps are what is left of the nodes."""
    import torch

    from rtserve.graphs.runners import PlanRunner

    runner = PlanRunner(graph)
    runner.infer(x)
    program: Program = runner.module.program
    names = {slot: name for name, slot in program.slots.items()}
    made = [{slot: names[slot] for slot in _slots(step) if slot >= 0} for step in program.steps]
    right = values_in_double(graph, x)
    operators = {name: node["op"] for node in runner.module.plan["nodes"] for name in node["outputs"]}

    def answer(cut: int) -> np.ndarray:
        known = [{slot: right[name] for slot, name in step.items() if name in right} for step in made[:cut]]
        given = {slot: _single(value) for step in known for slot, value in step.items()}
        with torch.inference_mode():
            y: np.ndarray = _finished(program, torch.from_numpy(np.ascontiguousarray(x)), given).numpy()
        return y

    def called(cut: int) -> str:
        name = next(iter(made[cut].values()), "")
        return f"{operators.get(name, 'an operator')} {name}".strip()

    return Cuts(last=len(made), answer=answer, called=called, by=EXACT)


def _slots(step: tuple[Any, ...]) -> tuple[int, ...]:
    return (step[2],) if isinstance(step[2], int) else tuple(step[2])


def _single(value: Any) -> Any:
    """Return a tensor that may be written over, in float32 where it is float64."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    return value.float() if value.dtype == torch.float64 else value.clone()


def _finished(program: Program, x: Tensor, given: Mapping[int, Any]) -> Tensor:
    """Return what a program answers where the values of some slots are given: what makes those is passed over."""
    values = program.start(x)
    for step in program.steps:
        slots = [slot for slot in _slots(step) if slot >= 0]
        if slots and all(slot in given for slot in slots):
            result: Any = [given[slot] for slot in slots]
        else:
            result, slots = step[0](*[values[slot] for slot in step[1]]), list(_slots(step))
        for slot, value in zip(slots, result if isinstance(result, tuple | list) else (result,), strict=False):
            if slot >= 0:
                values[slot] = value
    final: Tensor = values[program.result]
    return final
