"""What a constant of an engine's table is measured by: tiny graphs of some sizes, and what their times say.

A graph ends in one number of what it computed, so that graphs of different sizes answer alike and what an answer costs
cancels where times are subtracted. A convolution of a few channels in front brings a signal into the engine's layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.join import empty_model, set_output
from rtserve.graphs.emit import Emitter
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import make_runner
from rtserve.spec import InputSpec, OutputSpec, Provenance

__all__ = ["Form", "Measure", "Times", "Unmeasured", "bend", "conv", "crossing", "moved", "small_nodes", "wide"]

Key = tuple[Any, ...]
Times = Mapping[Key, float]
"""Microseconds of every form."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One graph: what it makes of a window (batch, n_chans, n_times).

    Parameters
    ----------
    body : callable
        Gets an `Emitter` and the window, gives a value.
    n_chans, n_times : int
        The window's.
    engine : str
        What runs it.
    """

    body: Callable[[Emitter, ir.Value], ir.Value]
    n_chans: int
    n_times: int
    engine: str = "onnxruntime"

    def call(self) -> Callable[[], Any]:
        """Return what runs the graph once, on one thread."""
        model = empty_model(self.n_chans, self.n_times)
        emit = Emitter(model.graph)
        y = self.body(emit, model.graph.inputs[0])
        set_output(model.graph, emit.slice(emit("Flatten", y, axis=1), 1, 0, 1), 1)
        graph = Graph(
            model=model,
            input_spec=InputSpec(n_chans=self.n_chans, n_times=self.n_times, sfreq=100.0),
            output_spec=OutputSpec(n_outputs=1, target=""),
            provenance=Provenance(kind="export", details={}),
        )
        runner = make_runner(graph, self.engine, threads=1)
        x = np.random.default_rng(0).standard_normal((1, self.n_chans, self.n_times)).astype(np.float32)
        return lambda: runner.infer(x)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How one constant is measured.

    Parameters
    ----------
    name : str
        ``engine.constant``.
    how : str
        What is timed, for a reader of the table.
    forms : mapping of tuple to Form
        What is timed by turns, by its sizes.
    constant : callable
        What their times make the constant.
    ladder : sequence of int
        Of a threshold, the sizes that were tried; none else.
    """

    name: str
    how: str
    forms: Mapping[Key, Form]
    constant: Callable[[Times], float]
    ladder: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """A constant that no time gives, and why."""

    name: str
    reason: str


def wide(emit: Emitter, x: ir.Value) -> ir.Value:
    """Return the window as (batch, n_chans, 1, n_times)."""
    return emit("Unsqueeze", x, [2])


def conv(
    emit: Emitter, x: ir.Value, shape: Sequence[int], *, group: int = 1, seed: int = 0, **attributes: Any
) -> ir.Value:
    """Return a convolution by a drawn kernel (outputs, channels / group, ..., taps), as many samples as it reads."""
    weight = np.random.default_rng(seed).standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
    left, rest = (shape[-1] - 1) // 2, [0] * (len(shape) - 3)
    pads = {"pads": [*rest, left, *rest, shape[-1] - 1 - left]}
    return emit("Conv", x, weight.astype(np.float32), group=group, **pads | attributes)


def moved(emit: Emitter, x: ir.Value, dims: Sequence[int], perm: Sequence[int]) -> ir.Value:
    """Return a value reshaped and turned; what follows reads it so."""
    return emit("Transpose", emit("Reshape", x, list(dims)), perm=list(perm))


def small_nodes(emit: Emitter, x: ir.Value, n: int) -> ir.Value:
    """Return what is left of a window behind so many small nodes: what is added, cut and put together."""
    for k in range(n // 4):
        half = emit.slice(emit("Add", x, np.full((1, 1, 1), 0.1 + k, np.float32)), 2, 0, 8)
        x = emit("Concat", half, emit("Mul", half, np.full((1, 1, 1), 0.9 - k / 100, np.float32)), axis=2)
    return x


def bend(us: Times, rows: tuple[Any, Any], columns: tuple[Any, Any]) -> float:
    """Return the microseconds that both together add: all that grows by one of two sizes alone cancels."""
    (a, b), (c, d) = rows, columns
    return us[b, d] - us[a, d] - us[b, c] + us[a, c]


def crossing(us: Times, ladder: Sequence[int], *, plain: str = "plain", other: str = "other") -> float:
    """Return the size from which `other` is faster than `plain`, between two of the ladder by its logarithm.

    The first of the ladder where it always is, the last where it is not even there: the size lies beyond then.
    """
    gains = [math.log(us[plain, size] / us[other, size]) for size in ladder]
    last = max((k for k, gain in enumerate(gains) if gain <= 0), default=-1)
    if last < 0 or last == len(ladder) - 1:
        return float(ladder[max(last, 0)])
    part = gains[last] / (gains[last] - gains[last + 1])
    return float(math.exp((1 - part) * math.log(ladder[last]) + part * math.log(ladder[last + 1])))
