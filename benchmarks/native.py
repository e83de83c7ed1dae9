"""Native code against the engines that people have, on graphs that rtserve fused: ``results/native.json`` and ``.md``.

    python benchmarks/native.py [--only NAME,...] [--processes 5]
    python benchmarks/native.py --threads 2 --only "CompactRT W4" -o benchmarks/results/native_threads.json

Each network is exported once, fused for every engine, and timed by turns: native code, onnxruntime and OpenVINO each on the
graph made for it, and one eager forward where the network is one of `workloads.FAMILIES`. One thread, in several fresh
processes; times are those of the processor, so that other work on the machine counts little. With `--threads` native code
on so many is timed by the clock against the eager forward on one, and needs a machine that does nothing else. Rows that are
there are kept: an interrupted run goes on.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from workloads import FAMILIES, VIEWS, WORKLOADS, first_module, members

from rtserve.errors import ExportError
from rtserve.files import write_bytes
from rtserve.fusion.fuse import fuse
from rtserve.graphs.export import export
from rtserve.graphs.graph import Graph
from rtserve.graphs.native import compile_graph, generate_graph
from rtserve.graphs.runners import make_runner
from rtserve.measure.results import environment
from rtserve.measure.timing import Timings, interleave, set_threads
from rtserve.native.build import save
from rtserve.native.compiler import best_level
from rtserve.native.load import NativeModule

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SHAPE = {"n_chans": 129, "n_times": 200, "sfreq": 100, "n_outputs": 1}
NETWORKS = (
    "EEGNet", "EEGConformer", "Deep4Net", "ShallowFBCSPNet", "EEGNeX", "EEGTCNet", "ATCNet", "SCCNet", "TIDNet",
    "EEGInceptionMI", "EEGSimpleConv", "BDTCN", "AttentionBaseNet", "SincShallowNet", "TSception", "MSVTNet",
)  # fmt: skip
"""Classes of braindecode.models, at 129 x 200 with random weights."""
BATCHES = (1, 16, 64)
ENGINES = ("native", "onnxruntime", "openvino")
EAGER = "one eager forward"


def plans() -> dict[str, tuple[str, str]]:
    """Return every row's name, family and workload (empty for a network of braindecode)."""
    rows = {f"{family} {workload}": (family, workload) for family in FAMILIES for workload in WORKLOADS}
    return rows | {name: (name, "") for name in NETWORKS}


def prepared(family: str, workload: str, folder: Path, threads: int) -> int:
    """Write a row's graphs, and its native code, into `folder` unless they are there; return native's multiply-adds."""
    engines = ENGINES if threads == 1 else ENGINES[:1]
    paths = {engine: folder / f"{family}{workload}.{engine}.onnx" for engine in engines}
    if not all(path.exists() for path in paths.values()):
        for engine, path in paths.items():
            graphs, views = _plan(family, workload, folder)
            fuse(graphs, views=views, engine=engine).save(path, force=True)
    graph, code = Graph.load(paths["native"]), _code(folder, family, workload, threads)
    if not code.exists():
        save(compile_graph(graph, levels=[best_level()], threads=threads).built, code, {}, force=True)
    return generate_graph(graph).macs


def _plan(family: str, workload: str, folder: Path) -> tuple[Sequence[Graph], Sequence[str]]:
    if workload:
        n_members, n_views = WORKLOADS[workload]
        return members(family).graphs[:n_members], VIEWS[:n_views]
    return [_exported(family, folder)], ["identity"]


def _code(folder: Path, family: str, workload: str, threads: int) -> Path:
    return folder / f"{family}{workload}.{threads}.so"


def _exported(name: str, folder: Path) -> Graph:
    path = folder / f"{name}.onnx"
    if not path.exists():
        export(None, exporter=f"{ROOT}/exporters/braindecode_models.py:{name}", settings=dict(SHAPE)).save(path)
    return Graph.load(path)


def measure(family: str, workload: str, processes: int, folder: Path, threads: int = 1) -> dict[str, Any]:
    """Return one row: multiply-adds, and for every batch medians and ratios over fresh processes."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        macs = pool.submit(prepared, family, workload, folder, threads).result()
        found = [pool.submit(_process, family, workload, k, folder, threads).result() for k in range(processes)]
    return {"macs": macs, "parts": [_part(batch, [one[batch] for one in found], threads) for batch in BATCHES]}


def _part(batch: int, parts: Sequence[Timings], threads: int) -> dict[str, Any]:
    marks = tuple(k for k, part in enumerate(parts) for _ in part.rounds) if len(parts) > 1 else ()
    timings = Timings(rounds=tuple(r for part in parts for r in part.rounds), threads=threads, restarts=marks)
    return {
        "batch": batch,
        "processes": len(parts),
        "median_us": {name: timings.median_us(name) for name in timings.names},
        "ratio": {name: list(timings.ratio("native", name)) for name in timings.names if name != "native"},
    }


def _process(family: str, workload: str, seed: int, folder: Path, threads: int) -> dict[int, Timings]:
    """Return what one fresh process timed, by batch."""
    set_threads(1)
    infer: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    infer["native"] = NativeModule.open(_code(folder, family, workload, threads), threads=threads).infer
    for engine in ENGINES[1:] if threads == 1 else ():
        infer[engine] = make_runner(Graph.load(folder / f"{family}{workload}.{engine}.onnx"), engine).infer
    spec = Graph.load(folder / f"{family}{workload}.native.onnx").input_spec
    return {batch: _timed(infer, family if workload else "", _windows(batch, spec.n_chans, spec.n_times), seed, threads)
            for batch in BATCHES}  # fmt: skip


def _timed(infer: Mapping[str, Any], family: str, x: np.ndarray, seed: int, threads: int) -> Timings:
    calls = {name: partial(one, x) for name, one in infer.items()}
    if family:
        calls[EAGER] = _eager(family, x)
    rounds, least = (6, 8) if len(x) == 1 else (4, 1)
    clock = time.process_time_ns if threads == 1 else time.perf_counter_ns
    return interleave(calls, rounds=rounds, min_calls=least, threads=threads, seed=seed, clock=clock)


def _windows(batch: int, n_chans: int, n_times: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, n_chans, n_times)).astype(np.float32)


def _eager(family: str, x: np.ndarray) -> Any:
    import torch

    module, tensor = first_module(family), torch.from_numpy(x)

    def call() -> object:
        with torch.inference_mode():
            return module(tensor)

    return call


HEAD = """# Native code against engines, on fused graphs

Generated by `benchmarks/native.py`. {threads}, every engine on the graph that was made for it, by turns;
medians over {processes} fresh processes with their 95 % interval. Below 1 native code is faster. Weights of braindecode's
networks are random; they are single networks at 129 x 200. Multiply-adds are those that native code does.

{cpu}; {versions}.

| plan | batch | native us | of onnxruntime | of OpenVINO | of one eager forward | multiply-adds |
|--|--:|--:|--|--|--|--:|
"""


def page(result: dict[str, Any]) -> str:
    """Return the Markdown page."""
    env = result["environment"]
    n = result.get("threads", 1)
    threads = "One thread, processor time" if n == 1 else f"Native code on {n} threads, eager on one, the clock's time"
    text = HEAD.format(processes=result["processes"], cpu=env["cpu"], threads=threads,
                       versions=", ".join(f"{k} {v}" for k, v in env["versions"].items()))  # fmt: skip
    best = []
    for name, row in result["rows"].items():
        if "refused" in row:
            text += f"| {name} | | | {row['refused']} | | | |\n"
            continue
        for part in row["parts"]:
            cells = [_cell(part["ratio"].get(key)) for key in ("onnxruntime", "openvino", EAGER)]
            text += f"| {name} | {part['batch']} | {part['median_us']['native']:.1f} | {' | '.join(cells)} "
            text += f"| {row['macs'] / 1e6:.2f} M |\n"
            if part["batch"] == 1 and {"onnxruntime", "openvino"} & set(part["ratio"]):
                best.append(max(part["ratio"][key][0] for key in ("onnxruntime", "openvino") if key in part["ratio"]))
    if best:
        mean = float(np.exp(-np.mean(np.log(best))))
        text += (
            f"\nGeometric mean at batch 1 over {len(best)} plans, of the better of the two: {mean:.2f} times faster.\n"
        )
    return text


def _cell(ratio: list[float] | None) -> str:
    return f"{ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}]" if ratio else "-"


@click.command()
@click.option("--only", help="Names of rows, comma-separated.")
@click.option("--processes", default=5, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Of native code; see above.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where exports are kept for a later run.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS / "native.json", show_default=False)
def main(only: str | None, processes: int, threads: int, folder: Path | None, output: Path) -> None:
    """Measure what has no row yet, and write."""
    old = json.loads(output.read_text())["rows"] if output.exists() else {}
    chosen = only.split(",") if only else list(plans())
    folder = folder or Path(tempfile.mkdtemp(prefix="rtserve-native-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    for name in [name for name in plans() if name in chosen and name not in old]:
        family, workload = plans()[name]
        try:
            old[name] = measure(family, workload, processes, folder, threads)
            key = "onnxruntime" if threads == 1 else EAGER
            click.echo(f"{name}: {_cell(old[name]['parts'][0]['ratio'].get(key))} of {key}", err=True)
        except ExportError as error:
            old[name] = {"refused": error.message}
            click.echo(f"{name}: {error.message}", err=True)
        result = {"schema": "rtserve.native-bench/1", "environment": environment(threads=threads), "processes": processes,
                  "threads": threads, "rows": old}  # fmt: skip
        write_bytes(output, (json.dumps(result, indent=1) + "\n").encode(), force=True)
        write_bytes(output.with_suffix(".md"), page(result).encode(), force=True)


if __name__ == "__main__":
    main()
