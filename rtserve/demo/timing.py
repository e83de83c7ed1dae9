"""What the demo times: the same branches as an eager loop, as a loop of sessions, and as one graph, by turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.fusion.views import parse_view
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.measure.bench import bench_input
from rtserve.measure.timing import Timings, interleave, set_threads
from rtserve.training.keeping import load_state
from rtserve.training.networks import exporter

__all__ = ["EAGER", "SESSIONS", "time_branches"]

EAGER = "torch eager, one forward per branch"
SESSIONS = "onnxruntime, one session run per branch"


def time_branches(
    members: Mapping[Path, Graph],
    fused: Mapping[str, Graph],
    *,
    views: tuple[str, ...],
    rounds: int,
    progress: Callable[[int, int], None] | None = None,
) -> Timings:
    """Time the branches one by one against the fused graphs; batch 1, one thread, interleaved.

    Parameters
    ----------
    members : mapping of Path to Graph
        Checkpoint to its exported graph.
    fused : mapping of str to Graph
        Name to graph.
    views : tuple of str
        Names of the views.
    rounds : int
        See `rtserve.measure.timing.interleave`.
    progress : callable, optional
        Called with (rounds done, rounds in all).
    """
    set_threads(1)
    x = bench_input(next(iter(members.values())).input_spec, batch=1)
    calls: dict[str, Callable[[], Any]] = {
        EAGER: _eager_loop(list(members), views, x),
        SESSIONS: _session_loop(list(members.values()), views, x),
    }
    for name, graph in fused.items():
        calls[name] = _one(OnnxruntimeRunner(graph), x)
    return interleave(calls, rounds=rounds, threads=1, progress=progress)


def _one(runner: OnnxruntimeRunner, x: np.ndarray) -> Callable[[], Any]:
    return lambda: runner.infer(x)


def _eager_loop(checkpoints: list[Path], views: tuple[str, ...], x: np.ndarray) -> Callable[[], Any]:
    """Return what a submission without rtserve does: each network on each view, and the mean."""
    import torch

    networks = []
    for path in checkpoints:
        state = load_state(path)["model_state_dict"]
        network = exporter({key: tuple(value.shape) for key, value in state.items()}, {}).network
        network.load_state_dict(state)
        networks.append(network.eval())
    parsed, tensor = [parse_view(view) for view in views], torch.from_numpy(x)

    def call() -> Any:
        with torch.inference_mode():
            return torch.stack([network(view.torch(tensor)) for network in networks for view in parsed]).mean(0).numpy()

    return call


def _session_loop(graphs: list[Graph], views: tuple[str, ...], x: np.ndarray) -> Callable[[], Any]:
    """Return a loop of sessions over views that are ready made: the views' own cost is left out, in its favour."""
    import torch

    runners = [OnnxruntimeRunner(graph) for graph in graphs]
    tensor = torch.from_numpy(x)
    inputs = [np.ascontiguousarray(parse_view(view).torch(tensor).numpy()) for view in views]

    def call() -> Any:
        return np.mean([runner.infer(each) for runner in runners for each in inputs], axis=0)

    return call
