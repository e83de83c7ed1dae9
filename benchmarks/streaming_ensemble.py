"""An ensemble with views as one stream, beside one eager forward of one member: a row of ``results/streaming.json``.

    python benchmarks/streaming_ensemble.py [--workload W4] [--time]

CompactRT at 129 x 200 with a hop of 8: five members and five views, fused and streamed (W4 of `workloads.py`). With
``--time`` the row that is there is timed, by turns with one eager forward; only on a machine that does nothing else.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import click
import torch
from streaming import RESULTS, rows_of, write_rows
from streaming_times import calls_of, times_of
from workloads import VIEWS, WORKLOADS, members, window
from zoo_catalogue import ROOT

from rtserve.fusion.fuse import fuse
from rtserve.graphs.macs import count_macs
from rtserve.graphs.warm import shared_start
from rtserve.streaming.build import stream

SHAPE, HOP = "129x200@100", 8


def row_of(workload: str, folder: Path) -> dict[str, Any]:
    """Return what a step of a workload computes; graphs and step stay in the folder."""
    count, views = WORKLOADS[workload]
    networks = members("CompactRT", count)
    graphs = {engine: fuse(list(networks.graphs), views=",".join(VIEWS[:views]), engine=engine)
              for engine in ("onnxruntime", "native", "torch")}  # fmt: skip
    for engine, graph in graphs.items():
        graph.save(folder / f"fused-{engine}.onnx", force=True)
    networks.graphs[0].save(folder / "plain.onnx", force=True)
    start = time.perf_counter()
    step, report = stream(graphs["torch"], hop=HOP)
    built_s = round(time.perf_counter() - start, 1)
    step.save(folder / f"step-{HOP}.onnx", force=True)
    stream(graphs["torch"], hop=HOP, engine="native")[0].save(folder / f"step-{HOP}-native.onnx", force=True)
    fused = graphs["onnxruntime"]
    return {
        "model": f"CompactRT {workload}", "shape": SHAPE, "hop": HOP, "weights": networks.weights,
        "macs_plain": count * views * count_macs(networks.graphs[0].model), "macs_fused": count_macs(fused.model),
        "nodes_fused": fused.model.graph.num_nodes(), "built_s": built_s, "macs_step": report.macs_step,
        "nodes_step": report.nodes_step, "state_numbers": report.state_numbers, "max_err": report.parity.max_error,
        "verdict": report.parity.verdict,
    }  # fmt: skip


def timed_row(row: dict[str, Any], folder: Path, *, seconds: float) -> dict[str, Any]:
    """Return the row with its times; the plain export and the eager forward are one member's."""
    calls, lacks = calls_of(folder / "plain.onnx", folder, HOP)
    module, x = members("CompactRT", 1).modules[0], torch.from_numpy(window(1))
    torch.set_num_threads(1)

    def eager() -> object:
        with torch.inference_mode():
            return module(x)

    kept = {key: value for key, value in row.items() if not key.endswith("_us") and key != "native"}
    return kept | times_of({"eager_us": eager, **calls}, seconds=seconds) | lacks


@click.command()
@click.option("--workload", default="W4", type=click.Choice(list(WORKLOADS)), show_default=True)
@click.option("--time", "timed", is_flag=True, help="Time the row that is there.")
@click.option("--seconds", default=8.0, show_default=True)
@click.option("--cache", default=str(ROOT / ".zoo-cache"), help="Folder that keeps graphs.")
@click.option("-o", "--output", default=str(RESULTS / "streaming.json"), help="Where the rows are kept.")
def main(workload: str, timed: bool, seconds: float, cache: str, output: str) -> None:
    """Stream an ensemble."""
    warnings.simplefilter("ignore")
    path, folder = Path(output), Path(cache) / f"CompactRT-{workload}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_of(path)
    key = (f"CompactRT {workload}", SHAPE, HOP)
    with shared_start():
        rows[key] = timed_row(rows[key], folder, seconds=seconds) if timed else row_of(workload, folder)
    click.echo(json.dumps(rows[key]))
    write_rows(path, rows)


if __name__ == "__main__":
    main()
