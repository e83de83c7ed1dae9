"""What a hop takes: a step by turns with the window graphs that it stands for, in onnxruntime and in native code."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from streaming_tract import pulsed

from rtserve.errors import RtserveError
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import make_runner
from rtserve.native.compiler import find_compiler
from rtserve.streaming.packed import PackedRunner
from rtserve.streaming.runner import StepRunner
from rtserve.streaming.step_graph import StepGraph

TURN_NS = 2_000_000
"""At least so long is every turn."""
Call = Callable[[], object]


def calls_of(plain: Path, made: Path, hop: int) -> tuple[dict[str, Call], dict[str, str]]:
    """Return what is timed, by column, and why what is missing is.

    Parameters
    ----------
    plain : Path
        The export.
    made : Path
        Folder with the fused graphs and the step.
    hop : int
        Samples of a step.
    """
    step = StepGraph.load(made / f"step-{hop}.onnx")
    rng, spec = np.random.default_rng(0), step.input_spec
    x = rng.standard_normal((1, spec.n_chans, spec.n_times)).astype("f4")
    samples = np.ascontiguousarray(x[:, :, :hop])
    calls: dict[str, Call] = {}
    for name, path in (("plain_us", plain), ("fused_us", made / "fused-onnxruntime.onnx")):
        calls[name] = _window(path, "onnxruntime", x)
    runner = StepRunner(step)
    calls["step_us"] = lambda: runner.push(samples)
    lacks: dict[str, str] = {}
    pulse, lacks["tract"] = pulsed(plain, hop)
    if pulse:
        calls["tract_us"] = lambda: pulse(samples)
    try:
        find_compiler()
        calls["native_fused_us"] = _window(made / "fused-native.onnx", "native", x)
        packed = PackedRunner(StepGraph.load(made / f"step-{hop}-native.onnx"), engine="native")
        calls["native_step_us"] = lambda: packed.push(samples)
    except RtserveError as error:
        lacks["native"] = error.message
    return calls, lacks


def _window(path: Path, engine: str, x: np.ndarray) -> Call:
    infer = make_runner(Graph.load(path), engine).infer
    return lambda: infer(x)


def times_of(calls: dict[str, Call], *, seconds: float) -> dict[str, float]:
    """Return the median microseconds of each call, by turns on one thread."""
    loops = {}
    for name, call in calls.items():
        for _ in range(3):
            call()
        start = time.perf_counter_ns()
        for _ in range(5):
            call()
        loops[name] = max(1, int(5 * TURN_NS / max(time.perf_counter_ns() - start, 1)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter_ns()
            for _ in range(loops[name]):
                call()
            found[name].append((time.perf_counter_ns() - start) / 1e3 / loops[name])
    return {name: round(float(np.median(times)), 1) for name, times in found.items()}


def ratios_of(row: dict[str, Any]) -> dict[str, float]:
    """Return how many times longer the fused window takes than the step: in each engine, and in the better one of each."""
    pairs = {"onnxruntime": ("fused_us", "step_us"), "native": ("native_fused_us", "native_step_us")}
    known = {engine: pair for engine, pair in pairs.items() if all(row.get(key) for key in pair)}
    found = {engine: row[window] / row[step] for engine, (window, step) in known.items()}
    if known:
        windows, steps = ([row[pair[k]] for pair in known.values()] for k in (0, 1))
        found["best against best"] = min(windows) / min(steps)
    return found
