"""Second stage of a row: optimise the plain graph, fuse 3 members x 3 views, and compare every engine with the network.

Runs in a process of its own: ``python benchmarks/zoo_judge.py JOB.json RESULT.json``. Leaves ours.onnx, and the same
laid out for other engines as ours-openvino.onnx and so on, in the folder.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from zoo_prepare import run_stage

from rtserve.errors import RtserveError
from rtserve.files import write_bytes
from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.run.outcome import OptimizationReport
from rtserve.graphs.graph import Graph
from rtserve.graphs.macs import count_macs
from rtserve.graphs.parity import probe_inputs, relative_error
from rtserve.graphs.plan import graph_to_plan
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner
from rtserve.submission.torchscript import trace

OURS = "ours.onnx"
OTHERS = ("openvino", "torch", "native")
"""Engines that the graph is laid out for beside onnxruntime."""
MEMBERS, VIEWS = 3, "identity,roll:+3,scale:1.02"
MIN_WEIGHT = 16
"""Initializers with fewer values are shapes, epsilons and the like; they are not drawn for another member."""

Infer = Callable[[np.ndarray], np.ndarray]


def torchscript_infer(graph: Graph) -> Infer:
    """Return the graph as the TorchScript archive that travels in a zip."""
    plan, tensors = graph_to_plan(graph)
    archive = trace(plan, tensors, (graph.input_spec.n_chans, graph.input_spec.n_times))
    traced = torch.jit.load(io.BytesIO(archive))

    def infer(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            y: np.ndarray = traced(torch.from_numpy(x)).numpy()
        return y

    return infer


def sibling(graph: Graph, seed: int) -> Graph:
    """Return a member of the same architecture: every weight off by about one percent."""
    import onnx_ir as ir

    rng = np.random.default_rng(seed)
    model = graph.clone_model()
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or not tensor.dtype.is_floating_point() or tensor.size < MIN_WEIGHT:
            continue
        array = tensor.numpy()
        drawn = array * (1 + 0.01 * rng.standard_normal(array.shape))
        value.const_value = ir.tensor(drawn.astype(array.dtype), name=value.name)
    return Graph(model=model, input_spec=graph.input_spec, output_spec=graph.output_spec, provenance=graph.provenance)


def largest_error(make: Callable[[], Infer], truth: list[tuple[np.ndarray, np.ndarray]]) -> float | str:
    """Return the largest relative error over the probes, or why there is none."""
    worst = 0.0
    try:
        infer = make()
        for x, y in truth:
            got = np.asarray(infer(x), np.float64)
            if got.shape != y.shape:
                return f"gives {got.shape} for batch {len(x)}, not {y.shape}"
            if not np.array_equal(np.isfinite(got), np.isfinite(y)):
                return f"finite against non-finite at batch {len(x)}"
            worst = max(worst, relative_error(got, y))
    except Exception as error:
        text = error.message if isinstance(error, RtserveError) else f"{type(error).__name__}: {error}"
        return " ".join(text.split())[:300]
    return worst


def layout_file(engine: str) -> str:
    """Return what the graph laid out for one of `OTHERS` is called."""
    return f"ours-{engine}.onnx"


def lay_out(graph: Graph, folder: Path) -> dict[str, str]:
    """Write the graph laid out for `OTHERS` into a folder; return their digests by what a row calls them."""
    digests = {}
    for engine in OTHERS:
        laid, _, _ = fuse_with_report([graph], engine=engine, parity=False)
        write_bytes(folder / layout_file(engine), laid.to_bytes(), force=True)
        digests[f"sha256_ours_{engine}"] = laid.digest
    return digests


def _truth(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    with np.load(folder / "truth.npz") as arrays:
        return [(arrays[f"x{i}"], arrays[f"y{i}"]) for i in range(len(arrays.files) // 2)]


def _passes(report: OptimizationReport) -> list[dict[str, str]]:
    return [{"name": o.name, "status": o.status, "reason": o.reason} for o in report.outcomes]


def prefix_verdict(passes: list[dict[str, str]]) -> dict[str, str] | None:
    """Return what became of the linear prefix: applied, refused or undone, and why; None where it was not tried."""
    found = [p for p in passes if "prefix" in p["name"]]
    best = next((p for p in found if p["status"] == "applied"), found[0] if found else None)
    return {"status": best["status"], "reason": best["reason"]} if best else None


def _optimise(graph: Graph, folder: Path) -> tuple[Graph, dict[str, Any]]:
    """Return fuse([graph]), or the plain graph where that fails, with what was done."""
    before = count_macs(graph.model)
    start = time.perf_counter()
    try:
        ours, report, _ = fuse_with_report([graph])
        seconds = time.perf_counter() - start
        digests = lay_out(graph, folder)
    except Exception as error:
        text = error.message if isinstance(error, RtserveError) else f"{type(error).__name__}: {error}"
        for name in (OURS, *map(layout_file, OTHERS)):
            (folder / name).unlink(missing_ok=True)
        reason = [{"name": "fuse", "status": "failed", "reason": " ".join(text.split())[:300]}]
        return graph, {"macs": {"before": before, "after": before}, "passes": reason}
    write_bytes(folder / OURS, ours.to_bytes(), force=True)
    return ours, digests | {
        "macs": {"before": report.macs_before, "after": report.macs_after},
        "nodes": {"before": report.nodes_before, "after": report.nodes_after},
        "passes": _passes(report),
        "optimise_s": round(seconds, 1),
        "bytes_ours": (folder / OURS).stat().st_size,
        "sha256_ours": ours.digest,
    }


def _fused(graph: Graph) -> dict[str, Any]:
    """Fuse 3 members x 3 views; return the largest errors of onnxruntime and of the executor, or the reason of a no."""
    members = [graph, *(sibling(graph, seed) for seed in range(1, MEMBERS))]
    start = time.perf_counter()
    try:
        fused, report, parity = fuse_with_report(members, views=VIEWS)
        probes = [x for name, x in probe_inputs(graph.input_spec, seed=1, scales=(1e-5, 1.0))]
        reference = PlanRunner(fuse_with_report(members, views=VIEWS, optimize=False, parity=False)[0], double=True)
        truth = [(x, reference.infer(x)) for x in probes]
        executor = largest_error(lambda: PlanRunner(fused).infer, truth)
    except Exception as error:
        text = error.message if isinstance(error, RtserveError) else f"{type(error).__name__}: {error}"
        return {"fused": " ".join(text.split())[:300], "fused_s": round(time.perf_counter() - start, 1)}
    return {
        "fused": "ok",
        "fused_err": {"onnxruntime": parity.max_error if parity else None, "torch_plan": executor},
        "fused_macs": {"before": report.macs_before, "after": report.macs_after},
        "fused_s": round(time.perf_counter() - start, 1),
    }


def judge(job: dict[str, Any]) -> dict[str, Any]:
    """Return the second part of a row."""
    folder = Path(job["folder"])
    graph = Graph.load(folder / "plain.onnx")
    truth = _truth(folder)
    plain = largest_error(lambda: OnnxruntimeRunner(graph).infer, truth)
    ours, part = _optimise(graph, folder)
    errors = {
        "onnxruntime": largest_error(lambda: OnnxruntimeRunner(ours).infer, truth),
        "torch_plan": largest_error(lambda: PlanRunner(ours).infer, truth),
        "torchscript": largest_error(lambda: torchscript_infer(ours), truth),
    }
    notes = {key: value for key, value in errors.items() if isinstance(value, str)}
    part |= {"max_err": {key: None if isinstance(value, str) else value for key, value in errors.items()}}
    part |= {"max_err_plain": plain, "notes": notes, "prefix": prefix_verdict(part["passes"])}
    return part | _fused(graph)


if __name__ == "__main__":
    run_stage(judge)
