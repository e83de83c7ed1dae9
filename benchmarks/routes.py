"""What a zip costs by each of its routes, in units of the eager loop of the original members in the same run.

    python benchmarks/routes.py [--quick]     writes benchmarks/results/routes.json and routes.md

One thread; batch 1 and 64; CompactRT W1 and W4, EEGNeX W2. The eager loop runs every member on every view; each route
is opened by the code that travels, from the files that travel.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from workloads import VIEWS, WORKLOADS, _torch_loop, members, window

import rtserve.runtime.onnxruntime_route
import rtserve.runtime.script_route  # noqa: F401  (each enters its route)
from rtserve.fusion.fuse import fuse
from rtserve.fusion.views import parse_views
from rtserve.measure.results import environment
from rtserve.measure.timing import interleave, set_threads
from rtserve.runtime.serving import load_model
from rtserve.submission.artefacts import make_artefact

ROUTES = ("torch", "torchscript", "onnxruntime")
CASES = (("CompactRT", "W1", 0.80), ("CompactRT", "W4", 0.33), ("EEGNeX", "W2", 1 / 40))
"""Family, workload, and the bar for the torch route at batch 1."""
LOOP = "eager loop"
RESULTS = Path(__file__).resolve().parent / "results"


def route_calls(family: str, workload: str, batch: int, folder: Path) -> dict[str, Callable[[], object]]:
    """Return the eager loop and every route of one workload, each called without arguments."""
    n_members, n_views = WORKLOADS[workload]
    of = members(family, n_members)
    graph = fuse(of.graphs, views=VIEWS[:n_views], engine="torch")
    for name, data in make_artefact("1", graph, "torchscript").files.items():
        (folder / name).write_bytes(data)
    x = torch.from_numpy(window(batch))
    calls: dict[str, Callable[[], object]] = {LOOP: _torch_loop(of.modules, parse_views(VIEWS[:n_views]), x)}
    for route in ROUTES:
        model = load_model(folder, "challenge_1", "cpu", route)
        assert model.route == route, model.reason
        calls[route] = _forward(model, x)
    return calls


def _forward(model: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def call() -> object:
        with torch.inference_mode():
            return model.forward(x)

    return call


def measure(family: str, workload: str, batch: int, rounds: int, clock: Callable[[], int]) -> dict[str, Any]:
    """Return ratios to the eager loop with their intervals, after checking that all routes agree with it."""
    with tempfile.TemporaryDirectory() as folder:
        calls = route_calls(family, workload, batch, Path(folder))
        expected = np.asarray(calls[LOOP]())
        for name, call in calls.items():
            np.testing.assert_allclose(np.asarray(call()), expected, rtol=1e-4, atol=1e-4, err_msg=name)
        timings = interleave(calls, rounds=rounds, threads=1, clock=clock)
    return {
        "family": family,
        "workload": workload,
        "batch": batch,
        "threads": 1,
        "weights": members(family, WORKLOADS[workload][0]).weights,
        "loop_us": timings.median_us(LOOP),
        "ratio_to_eager_loop": {name: list(timings.ratio(name, LOOP)) for name in ROUTES},
        "unstable": {name: list(timings.unstable(name)) for name in calls if timings.unstable(name)},
    }


def table(rows: list[dict[str, Any]], bars: dict[tuple[str, str], float]) -> str:
    """Return the rows as Markdown."""
    lines = ["| | batch | " + " | ".join(ROUTES) + " | bar (torch) |", "|--" * (len(ROUTES) + 3) + "|"]
    for row in rows:
        cells = [_cell(row["ratio_to_eager_loop"][route]) for route in ROUTES]
        bar = f"{bars[row['family'], row['workload']]:.3g}" if row["batch"] == 1 else ""
        lines.append(f"| {row['family']} {row['workload']} | {row['batch']} | {' | '.join(cells)} | {bar} |")
    return "\n".join(lines)


def _cell(ratio: list[float]) -> str:
    middle, low, high = ratio
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def main() -> None:
    """Measure every case and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--batch", type=int, action="append", help="Windows per call; 1 and 64 where none is given.")
    parser.add_argument("--clock", choices=("wall", "process"), default="wall", help="process: on a loaded machine")
    arguments = parser.parse_args()
    clock = time.perf_counter_ns if arguments.clock == "wall" else time.process_time_ns
    set_threads(1)
    rows = [measure(f, w, batch, arguments.rounds, clock) for batch in arguments.batch or (1, 64) for f, w, _ in CASES]
    bars = {(f, w): bar for f, w, bar in CASES}
    payload = {
        "schema": "rtserve.routes/1",
        "unit": "the eager loop of the original members, same run, same batch",
        "clock": arguments.clock,
        "environment": environment(),
        "rows": rows,
    }
    (RESULTS / "routes.json").write_text(json.dumps(payload, indent=1) + "\n")
    text = table(rows, bars)
    clocked = "processor time" if arguments.clock == "process" else "wall time"
    head = (
        "# What a zip costs, by route\n\nIn units of the eager loop of the original members: same run, same batch, one"
        f" thread, {clocked}, median and 95 % interval. Made by benchmarks/routes.py.\n\n"
    )
    (RESULTS / "routes.md").write_text(f"{head}{text}\n")
    print(text)


if __name__ == "__main__":
    main()
