"""What a window costs by the route that travels, beside what it costs by the engine a graph is benched in.

A graph that takes 0.4 ms in onnxruntime can take ten times that by its plan in torch, and torch is what a contest runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph

__all__ = ["BENCHED", "graph_us", "route_times"]

BENCHED = "the graph in onnxruntime"
"""The name of what every route is timed beside."""
ROUNDS, BURST_US, WARM_US = 8, 2000.0, 5000.0

Infer = Callable[[np.ndarray], np.ndarray]


def route_times(graph: Graph, routes: Mapping[str, Infer]) -> dict[str, float]:
    """Return microseconds a window of every route, and of the graph in onnxruntime under `BENCHED`.

    Medians at batch 1, one thread, all by turns in one run. Nothing of it goes into a zip: the same inputs give the
    same bytes.

    Parameters
    ----------
    graph : Graph
        What the routes compute.
    routes : mapping of str to callable
        Name of a route to (1, n_chans, n_times) -> (1, n_outputs).
    """
    from rtserve.graphs.convolving import one_thread

    with one_thread():
        return _by_turns(graph, routes)


def graph_us(graph: Graph) -> float:
    """Return microseconds a window of a graph in onnxruntime: median, batch 1, one thread; torch stays unloaded."""
    return _by_turns(graph, {})[BENCHED]


def _by_turns(graph: Graph, routes: Mapping[str, Infer]) -> dict[str, float]:
    from rtserve.graphs.runners import OnnxruntimeRunner
    from rtserve.measure.timing import interleave

    spec = graph.input_spec
    x = np.random.default_rng(0).standard_normal((1, spec.n_chans, spec.n_times)).astype(np.float32)
    calls = {BENCHED: OnnxruntimeRunner(graph).infer, **routes}
    timings = interleave(
        {name: partial(infer, x) for name, infer in calls.items()},
        rounds=ROUNDS,
        min_burst_us=BURST_US,
        warmup_us=WARM_US,
        threads=1,
    )
    return {name: timings.median_us(name) for name in timings.names}
