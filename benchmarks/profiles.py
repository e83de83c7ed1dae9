"""Where the time of W1..W4 goes, node by node: ``results/profiles.json`` and ``results/profiles.md``.

    python benchmarks/profiles.py [--lock FILE]

onnxruntime's profiler adds a microsecond or two to every node. The same graph is therefore timed without it, by turns
with other workloads' graphs, and what the nodes take together beyond that is taken off evenly. Multiply-adds come from the
shapes that the profiler saw, blocks filled up included. Batch 1, one thread, processor time for the whole.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from workloads import FAMILIES, VIEWS, WORKLOADS, calling, members, window
from zoo_lock import held

from rtserve.files import write_bytes
from rtserve.fusion.fuse import fuse
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.measure.results import environment
from rtserve.measure.timing import interleave, set_threads

RESULTS = Path(__file__).resolve().parent / "results"
WARM, RUNS = 50, 1500
SHOWN = 8
"""Nodes shown for each workload, the most expensive ones; the others are summed."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one node of the running graph took.

    Parameters
    ----------
    name, kind : str
        Its name and operator.
    shape : tuple of int
        Of its first output.
    us : float
        Mean of the middle 90 % of runs, the profiler's share included.
    macs : int
        Multiply-adds of a convolution or product; 0 for another.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    us: float
    macs: int


def macs_of(kind: str, inputs: Sequence[Sequence[int]], output: Sequence[int]) -> int:
    """Return multiply-adds from the shapes a node was given and gave."""
    made = int(np.prod(output))
    if kind in ("Conv", "FusedConv") and len(inputs) > 1:
        return made * int(np.prod(inputs[1][1:]))
    if kind in ("MatMul", "Gemm", "FusedGemm", "FusedMatMul") and inputs:
        return made * int(inputs[0][-1])
    return 0


def profiled(graph: Graph, x: np.ndarray, runs: int = RUNS) -> list[Spent]:
    """Return what every node took, in the order they ran."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(graph.to_bytes(), options, providers=["CPUExecutionProvider"])
        for _ in range(WARM + runs):
            session.run(None, {session.get_inputs()[0].name: x})
        events = json.loads(Path(session.end_profiling()).read_text())
    return spent(events)


def spent(events: Sequence[dict[str, Any]]) -> list[Spent]:
    """Return what the nodes took from a profile's events; the first runs are left out."""
    took: dict[str, list[int]] = {}
    about: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            took.setdefault(event["name"], []).append(event["dur"])
            about[event["name"]] = event["args"]
    found = []
    for name, durations in took.items():
        kind = about[name]["op_name"]
        inputs = [next(iter(shape.values())) for shape in about[name]["input_type_shape"]]
        outputs = [next(iter(shape.values())) for shape in about[name]["output_type_shape"]]
        ordered = np.sort(durations[min(WARM, len(durations) // 2) :])
        cut = len(ordered) // 20
        middle = float(np.mean(ordered[cut : len(ordered) - cut]))
        shape = tuple(outputs[0]) if outputs else ()
        found.append(Spent(name=name.removesuffix("_kernel_time"), kind=kind, shape=shape, us=middle,
                           macs=macs_of(kind, inputs, shape)))  # fmt: skip
    return found


def part(workload: str, family: str, nodes: Sequence[Spent], whole: float) -> list[str]:
    """Return one workload's part of the page."""
    share = max(sum(node.us for node in nodes) - whole, 0.0) / len(nodes)
    left = {node: max(node.us - share, 0.0) for node in nodes}
    shown = sorted(nodes, key=lambda node: -left[node])[:SHOWN]
    lines = [
        f"## {family} {workload}: {whole:.0f} us, {len(nodes)} nodes",
        "",
        "| node | output | us | of the whole | million multiply-adds | thousand million a second |",
        "|--|--|--|--|--|--|",
    ]
    for node in shown:
        rate = f"{node.macs / left[node] / 1e3:.0f}" if node.macs and left[node] > 0 else ""
        macs = f"{node.macs / 1e6:.2f}" if node.macs else ""
        size = " x ".join(map(str, node.shape))
        lines.append(f"| {node.kind} | {size} | {left[node]:.1f} | {left[node] / whole:.0%} | {macs} | {rate} |")
    rest = [left[node] for node in nodes if node not in shown]
    if rest:
        lines.append(f"| {len(rest)} others | | {sum(rest):.1f} | {sum(rest) / whole:.0%} | | |")
    return [*lines, ""]


HEAD = """# Where the time goes

Generated by `benchmarks/profiles.py`: our graphs in onnxruntime, batch 1, one thread. The profiler's own share, the same
for every node, is taken off so that the nodes add up to what the graph takes without it.
"""


@click.command()
@click.option("--lock", help="A lock file to hold while timing.")
def main(lock: str | None) -> None:
    """Profile and write."""
    x, lines, result = window(1), [HEAD], []
    set_threads(1)
    for family in FAMILIES:
        exported = members(family).graphs
        graphs = {
            workload: fuse(exported[:n_members], views=VIEWS[:n_views], parity=False)
            for workload, (n_members, n_views) in WORKLOADS.items()
        }
        calls = {name: calling(OnnxruntimeRunner(graph), x) for name, graph in graphs.items()}
        with held(lock):
            timings = interleave(calls, rounds=12, min_calls=8, threads=1, clock=time.process_time_ns)
            nodes = {name: profiled(graph, x) for name, graph in graphs.items()}
        for workload in graphs:
            whole = timings.median_us(workload)
            lines += part(workload, family, nodes[workload], whole)
            result.append({"family": family, "workload": workload, "us": whole,
                           "nodes": [asdict(node) for node in nodes[workload]]})  # fmt: skip
    stored = {"schema": "rtserve.profiles/1", "environment": environment(), "profiles": result}
    write_bytes(RESULTS / "profiles.json", (json.dumps(stored, indent=1) + "\n").encode(), force=True)
    write_bytes(RESULTS / "profiles.md", ("\n".join(lines).rstrip() + "\n").encode(), force=True)


if __name__ == "__main__":
    main()
