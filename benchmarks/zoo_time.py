"""Third stage of a row: one window, one thread, every way of running the network, timed by turns in one run.

Runs in a process of its own: ``python benchmarks/zoo_time.py JOB.json RESULT.json``. Eager is the network as its users
run it: ``module(x)`` in inference mode, normalisation unfolded, no quirk applied.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from zoo_judge import OTHERS, layout_file
from zoo_judge import OURS as OURS_FILE
from zoo_lock import held
from zoo_network import build
from zoo_prepare import entry_of, run_stage

from rtserve.errors import InputError
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.graph import Graph
from rtserve.graphs.parity import probe_inputs
from rtserve.graphs.runners import NativeRunner, OnnxruntimeRunner, OpenvinoRunner, PlanRunner
from rtserve.measure.timing import Timings, interleave, set_threads

Call = Callable[[], Any]
OURS = "ours"
CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}
PEERS = ("eager", "onnxruntime", "openvino")
ENGINES_OF_OURS = (OURS, "openvino_ours")
"""What native code is held against: our graphs, each in the engine that it is laid out for."""
IN_OPENVINO = {"openvino": None, "openvino_ours": "openvino", "openvino_onnxruntime": "onnxruntime",
               "openvino_native": "native"}  # fmt: skip
"""What OpenVINO runs: the plain export, and the graph laid out for an engine."""


def window(graph: Graph) -> np.ndarray:
    """Return one window (1, n_chans, n_times) of 1/f noise at the size EEG has in volts, float32."""
    return dict(probe_inputs(graph.input_spec, batches=(1,), scales=(1e-5,)))["window-shaped x 1e-05, batch 1"]


def _eager(job: dict[str, Any], folder: Path, x: np.ndarray) -> Call:
    built = build(entry_of(job))
    built.network.load_state_dict(load_checkpoint(folder / "weights.pth").state_dict)
    network, tensor = built.network.eval(), torch.from_numpy(x)

    def call() -> None:
        with torch.inference_mode():
            network(tensor)

    return call


def _openvino(graph: Graph, x: np.ndarray) -> Call | str:
    try:
        runner = OpenvinoRunner(graph)
        expected = OnnxruntimeRunner(graph).infer(x)
        got = runner.infer(x)
    except Exception as error:
        return " ".join(str(error).split())[-200:]
    if not np.allclose(got, expected, rtol=1e-2, atol=1e-3):
        return f"gives other numbers: off by {float(np.abs(got - expected).max()):.1e}"
    return lambda: runner.infer(x)


def _native(graph: Graph, x: np.ndarray) -> Call | str:
    """Return native code's call; or what the generator, the compiler or the comparison says against it."""
    try:
        runner = NativeRunner(graph)
        runner.infer(x)
    except Exception as error:
        return " ".join(str(error).split())[:300]
    return lambda: runner.infer(x)


def _native_part(timings: Timings, names: Collection[str]) -> dict[str, Any]:
    """Return how many times native code's time the faster of the other engines takes on our graphs; which, and how sure."""
    if "native" not in names:
        return {}
    best = min((name for name in ENGINES_OF_OURS if name in names), key=timings.median_us)
    return {"native": {"beside": best, "ratio": list(timings.ratio(best, "native"))}}


def _ours(job: dict[str, Any], folder: Path, engine: str) -> Graph | None:
    """Return the graph laid out for an engine as it was judged; None where fusing had failed.

    Raises
    ------
    InputError
        Where the file is another one.
    """
    key, name = (
        ("sha256_ours", OURS_FILE) if engine == "onnxruntime" else (f"sha256_ours_{engine}", layout_file(engine))
    )
    if job.get(key) is None:
        return None
    ours = Graph.load(folder / name)
    if ours.digest != job[key]:
        raise InputError(
            f"{job['model']}: {name} is {ours.digest[:12]}, judged was {job[key][:12]}",
            hint="make the row anew: --only with its name",
        )
    return ours


def time_row(job: dict[str, Any]) -> dict[str, Any]:
    """Return the third part of a row: microseconds, ratios to ours, and why an engine is missing."""
    folder = Path(job["folder"])
    plain = Graph.load(folder / "plain.onnx")
    laid = {engine: _ours(job, folder, engine) or plain for engine in ("onnxruntime", *OTHERS)}
    x = window(plain)
    runners = {"onnxruntime": OnnxruntimeRunner(plain), OURS: OnnxruntimeRunner(laid["onnxruntime"])}
    runners["executor"] = PlanRunner(laid["torch"])
    calls: dict[str, Call] = {"eager": _eager(job, folder, x)}
    calls |= {name: (lambda r=runner: r.infer(x)) for name, runner in runners.items()}  # type: ignore[misc]
    missing: dict[str, str] = {}
    for name, engine in IN_OPENVINO.items():
        graph = laid[engine] if engine else plain
        made: Call | str = _openvino(graph, x) if job["openvino"] else "its process died before"
        if isinstance(made, str):
            missing[name] = made
        else:
            calls[name] = made
    native = _native(laid["native"], x)
    if isinstance(native, str):
        missing["native"] = native
    else:
        calls["native"] = native
    set_threads(1)
    with held(job.get("lock")):
        load = os.getloadavg()[0]
        timings = interleave(calls, rounds=job["rounds"], threads=1, clock=CLOCKS[job["clock"]])
    ratio = {name: timings.ratio(name, OURS)[0] if name in calls else None for name in PEERS}
    intervals = {name: list(timings.ratio(name, OURS)[1:]) for name in PEERS if name in calls}
    part: dict[str, Any] = {
        "ratio": ratio,
        "ratio_interval": intervals,
        "us": {name: timings.median_us(name) for name in calls},
        "clock": job["clock"],
        "load": round(load, 2),
        "missing": missing,
        "unstable": {name: list(timings.unstable(name)) for name in calls if timings.unstable(name)},
    }
    part["ratio_executor"] = timings.ratio("eager", "executor")[0]
    part |= _native_part(timings, calls.keys())
    if "openvino_ours" in calls:
        others = {name: timings.ratio(name, "openvino_ours") for name in IN_OPENVINO if name in calls}
        part["ratio_openvino"] = others["openvino"][0] if "openvino" in others else None
        part["openvino_layouts"] = {
            name: list(three) for name, three in others.items() if name not in ("openvino", "openvino_ours")
        }
    return part


if __name__ == "__main__":
    run_stage(time_row)
