"""What a convolution along time costs on this CPU by torch, by one product and by tiles: `rtserve.runtime.tiles`' numbers.

    python benchmarks/tiles.py [GRAPH.onnx ...]

One thread, one window; the quietest tenth of calls, all ways by turns. Of graphs, the whole with tiles and without.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.nn import functional as F

from rtserve.graphs.graph import Graph
from rtserve.graphs.plan import graph_to_plan
from rtserve.measure.timing import set_threads
from rtserve.runtime import rows
from rtserve.runtime.executor import PlanModule
from rtserve.runtime.rows import as_rows
from rtserve.runtime.tiles import EVALUATED, MULTIPLIED, OUTPUTS, Tiles

SHAPES = ((160, 129, 7, 2, 200), (160, 129, 7, 2, 431), (32, 129, 7, 2, 200), (32, 129, 7, 2, 431), (64, 64, 9, 1, 200),
          (40, 22, 25, 1, 1000), (64, 32, 5, 2, 100), (128, 64, 3, 2, 50), (64, 64, 3, 1, 200))  # fmt: skip
"""Filters, channels, taps, stride, samples."""


def quietest(calls: Mapping[str, Callable[[], object]], rounds: int = 60) -> dict[str, float]:
    """Return microseconds of the quietest tenth of calls, by turns."""
    taken: dict[str, list[int]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            for _ in range(8):
                start = time.perf_counter_ns()
                call()
                taken[name].append(time.perf_counter_ns() - start)
    return {name: float(np.sort(t)[: len(t) // 10].mean()) / 1e3 for name, t in taken.items()}


def ways(filters: int, channels: int, taps: int, stride: int, times: int) -> str:
    """Return a line on one convolution."""
    weight, bias, x = torch.randn(filters, channels, taps), torch.randn(filters), torch.randn(1, channels, times)
    weight /= (channels * taps) ** 0.5
    steps = (times - taps) // stride + 1
    laid = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    whole: Callable[..., torch.Tensor] = lambda x: F.conv2d(x.unsqueeze(2), laid, bias, (1, stride)).squeeze(2)  # noqa: E731
    with patch.object(rows, "tiles_of", lambda *given: None):
        product = as_rows(weight, bias, 1, stride, 1, (0, 0), whole)
    tiles, lines = Tiles(weight, bias, stride, 0), x.transpose(1, 2)
    found = quietest({"torch": lambda: whole(x), "product": lambda: product(x), "tiles": lambda: tiles(lines, steps)})
    exact = F.conv1d(x.double(), weight.double(), bias.double(), stride)
    y = tiles(lines, steps)
    assert y is not None
    error = float((y.transpose(1, 2) - exact).abs().max() / exact.abs().max())
    told = ", ".join(f"{name} {us:.0f}" for name, us in found.items())
    taken = "taken" if tiles.ahead(1, steps) else "not taken"
    return f"{filters} x {channels} x {taps} / {stride} on {times}: {told} us; {taken}; error {error:.1e}"


def parts() -> str:
    """Return how many multiply-adds a microsecond does of products, and of taking samples to points."""
    tiles, filters, channels, points, span = 43, 160, 129, 15, 15
    window, seen = torch.randn(points, span), torch.randn(tiles, span, channels)
    weights, outputs = torch.randn(points, channels, filters), torch.randn(OUTPUTS, points)
    values, products = torch.randn(points, tiles, channels), torch.randn(tiles, points, filters)
    found = quietest({
        "samples to points": lambda: torch.bmm(window.expand(tiles, -1, -1), seen),
        "products": lambda: torch.bmm(values, weights),
        "points to outputs": lambda: torch.bmm(outputs.expand(tiles, -1, -1), products),
    })  # fmt: skip
    macs = (points * span * channels * tiles, points * tiles * channels * filters, OUTPUTS * points * filters * tiles)
    told = ", ".join(f"{name} {n / us:,.0f}" for (name, us), n in zip(found.items(), macs, strict=True))
    return f"multiply-adds a microsecond: {told} (the table: {MULTIPLIED:,} and {EVALUATED:,})"


def of_graph(path: str) -> str:
    """Return a line on a graph, with tiles and without."""
    graph = Graph.load(Path(path))
    plan = graph_to_plan(graph)
    x = torch.randn(1, graph.input_spec.n_chans, graph.input_spec.n_times)
    with patch.object(rows, "tiles_of", lambda *given: None):
        without = PlanModule(*plan).eval()
    having = PlanModule(*plan).eval()
    found = quietest({"without": lambda: without(x), "with": lambda: having(x)})
    error = float((having(x) - without(x)).abs().max())
    share = found["with"] / found["without"]
    return f"{Path(path).name}: {found['without']:.0f} us, with tiles {share:.3f}; {error:.1e} apart"


def main() -> None:
    """Print a line for each."""
    set_threads(1)
    with torch.inference_mode():
        lines = map(of_graph, sys.argv[1:]) if sys.argv[1:] else [parts(), *(ways(*shape) for shape in SHAPES)]
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
