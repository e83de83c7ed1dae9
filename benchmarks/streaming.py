"""Which networks of the zoo can be streamed exactly, and what is left to compute per hop: ``results/streaming.md``.

    python benchmarks/streaming.py [--only NAME,...] [--shape 22x1000@250:25] [--time]

Each network is exported with drawn weights (the zoo's cache is used), streamed as `rtserve stream` does, comparison with
the windows included, and its multiply-adds per hop are set beside those of the plain export and of the graph fused for
onnxruntime. With ``--time`` the fused window graph and the step are timed by turns on one thread: only on a machine that
does nothing else. Rows that are there are kept: an interrupted run goes on.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
from zoo_catalogue import BRAINDECODE, OWN_FAMILIES, ROOT, Shape, braindecode_entry, own_entries
from zoo_prepare import prepare

from rtserve.errors import RtserveError
from rtserve.files import write_bytes
from rtserve.fusion.fuse import fuse
from rtserve.graphs.graph import Graph
from rtserve.graphs.macs import count_macs
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.measure.results import environment
from rtserve.streaming.build import stream
from rtserve.streaming.runner import StepRunner
from rtserve.streaming.step_graph import StepGraph

RESULTS = ROOT / "benchmarks" / "results"
NETWORKS = (
    "ATCNet", "AttentionBaseNet", "BDTCN", "CompactRT", "CTNet", "Deep4Net", "DepthwiseTCN", "EEGConformer",
    "EEGInceptionERP", "EEGInceptionMI", "EEGITNet", "EEGNet", "EEGNeX", "EEGSimpleConv", "EEGTCNet", "MSVTNet", "SCCNet",
    "ShallowFBCSPNet", "SincShallowNet", "SleepStagerBlanco2020", "SleepStagerChambon2018", "SPARCNet", "SSTDPN", "TIDNet",
    "TSception",
)  # fmt: skip
"""Convolutional networks with a time axis."""
SHAPES = ("22x1000@250:25", "129x200@100:8")
"""Shape of the window, and the hop in samples."""


def exported(model: str, shape: Shape, cache: Path) -> Path:
    """Return the plain export of a network; `RtserveError` where it cannot be had at the shape."""
    if model in OWN_FAMILIES:
        entry = next(one for one in own_entries(shape, {}) if one.model == model)
    else:
        entry = braindecode_entry(model, shape, {})
    job = {"model": entry.model, "family": entry.family, "exporter": entry.exporter, "settings": entry.settings,
           "shape": str(shape), "cache": str(cache), "fresh": False, "timeout_s": 600.0}  # fmt: skip
    part = prepare(job)
    path = cache / str(part.get("cache")) / "plain.onnx"
    if not path.is_file():
        raise RtserveError(f"no export: {part.get('excluded') or part.get('error') or BRAINDECODE}", hint="")
    return path


def row_of(model: str, text: str, cache: Path, *, timed: bool) -> dict[str, Any]:
    """Return what became of one network at one shape and hop."""
    shape, hop = Shape.parse(text.partition(":")[0]), int(text.partition(":")[2])
    row: dict[str, Any] = {"model": model, "shape": str(shape), "hop": hop}
    try:
        graph = Graph.load(exported(model, shape, cache))
        row["macs_plain"] = count_macs(graph.model)
        fused = fuse([graph])
        row |= {"macs_fused": count_macs(fused.model), "nodes_fused": fused.model.graph.num_nodes()}
        start = time.perf_counter()
        step, report = stream(graph, hop=hop)
    except RtserveError as error:
        return row | {"refused": error.message}
    row |= {"built_s": round(time.perf_counter() - start, 1), "macs_step": report.macs_step,
            "nodes_step": report.nodes_step, "state_numbers": report.state_numbers,
            "max_err": report.parity.max_error, "verdict": report.parity.verdict}  # fmt: skip
    return row | (times_of(fused, step) if timed else {})


def times_of(fused: Graph, step: StepGraph, *, seconds: float = 4.0) -> dict[str, Any]:
    """Return the median microseconds of the fused window graph and of the step, by turns."""
    rng, spec = np.random.default_rng(0), step.input_spec
    x = rng.standard_normal((1, spec.n_chans, spec.n_times)).astype("f4")
    samples = np.ascontiguousarray(x[:, :, : step.hop])
    window, runner = OnnxruntimeRunner(fused), StepRunner(step)
    found: dict[str, list[float]] = {"fused_us": [], "step_us": []}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in (("fused_us", lambda: window.infer(x)), ("step_us", lambda: runner.push(samples))):
            start = time.perf_counter_ns()
            for _ in range(10):
                call()
            found[name].append((time.perf_counter_ns() - start) / 1e4)
    return {name: round(float(np.median(times)), 1) for name, times in found.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a page."""
    lines = [
        "# Streaming",
        "",
        "Made by `benchmarks/streaming.py`. M: million multiply-adds; fewer: plain export per window over step per hop;",
        "error: largest relative difference from the windows in float64, hop after hop. Times in onnxruntime on one",
        "thread, by turns.",
        "",
    ]
    for shape, hop in dict.fromkeys((row["shape"], row["hop"]) for row in rows):
        here = [row for row in rows if (row["shape"], row["hop"]) == (shape, hop)]
        columns = ["network", "plain M", "fused M", "step M", "fewer", "state", "nodes", "error", "fused us", "step us"]
        lines += [f"## {shape}, hop {hop}", "", f"| {' | '.join(columns)} |", "|--" * len(columns) + "|"]
        lines += [_line(row) for row in here if "refused" not in row]
        lines += ["", *(f"- {row['model']}: refused: {row['refused']}" for row in here if "refused" in row), ""]
    return "\n".join(lines).rstrip() + "\n"


def _line(row: dict[str, Any]) -> str:
    macs = [row[f"macs_{kind}"] / 1e6 for kind in ("plain", "fused", "step")]
    said = [row["model"], *(f"{m:.2f}" for m in macs), f"{macs[0] / max(macs[2], 1e-9):.1f}", f"{row['state_numbers']:,}",
            f"{row['nodes_fused']} -> {row['nodes_step']}", f"{row['max_err']:.1e}",
            *(str(row.get(key, "")) for key in ("fused_us", "step_us"))]  # fmt: skip
    return f"| {' | '.join(said)} |"


@click.command()
@click.option("--only", default="", help="Networks, comma-separated; all by default.")
@click.option("--shape", "shapes", multiple=True, default=SHAPES, show_default=True, help="CHANNELSxSAMPLES@HZ:HOP.")
@click.option("--time", "timed", is_flag=True, help="Time fused graph and step by turns.")
@click.option("--again", is_flag=True, help="Make rows anew that are there.")
@click.option("--cache", default=str(ROOT / ".zoo-cache"), help="Folder that keeps exports.")
@click.option("-o", "--output", default=str(RESULTS / "streaming.json"), help="Where the rows are kept.")
def main(only: str, shapes: tuple[str, ...], timed: bool, again: bool, cache: str, output: str) -> None:
    """Stream the zoo's convolutional networks."""
    warnings.simplefilter("ignore")
    path = Path(output)
    rows = {tuple(row[k] for k in ("model", "shape", "hop")): row for row in _kept(path)}
    for text in shapes:
        for model in only.split(",") if only else NETWORKS:
            key = (model, text.partition(":")[0], int(text.partition(":")[2]))
            if key in rows and not again and not (timed and "step_us" not in rows[key] and "refused" not in rows[key]):
                continue
            rows[key] = row_of(model, text, Path(cache), timed=timed)
            click.echo(json.dumps(rows[key]))
            whole = {"schema": "rtserve.streaming/1", "environment": environment(), "rows": list(rows.values())}
            write_bytes(path, (json.dumps(whole, indent=1) + "\n").encode(), force=True)
            write_bytes(path.with_suffix(".md"), table(list(rows.values())).encode(), force=True)


def _kept(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["rows"]) if path.is_file() else []


if __name__ == "__main__":
    main()
