"""Native code against the engines that people have, on graphs that rtserve fused: ``results/native.json`` and ``.md``.

    python benchmarks/native.py [--only NAME,...] [--processes 5]
    python benchmarks/native.py --threads 2 --only "CompactRT W4" -o benchmarks/results/native_threads.json
    python benchmarks/native.py --avx2 --only "CompactRT W1,..." -o benchmarks/results/native_avx2.json

Each plan is exported and fused for every engine once, and timed by turns: native code, onnxruntime and OpenVINO each on the
graph made for it, and one eager forward where it is one of `workloads`; the others are the zoo's networks by themselves.
One thread, in several fresh processes; times are those of the processor, so that other work on the machine counts little.
With `--threads` native code on so many is timed by the clock against the eager forward on one, and needs a machine that
does nothing else. Rows that are there are kept: an interrupted run goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from measured_code import code_digest
from native_zoo import plain_graph
from workloads import FAMILIES, VIEWS, WORKLOADS, first_module, members
from zoo_catalogue import Shape, catalogue

from rtserve.errors import ExportError, RtserveError
from rtserve.files import write_bytes
from rtserve.fusion.fuse import fuse
from rtserve.graphs.graph import Graph
from rtserve.graphs.native import compile_graph
from rtserve.graphs.runners import make_runner
from rtserve.measure.results import environment
from rtserve.measure.timing import Timings, interleave, set_threads
from rtserve.native.build import HERE, save
from rtserve.native.compiler import Level, best_level, levels_here
from rtserve.native.load import NativeModule

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SHAPE = Shape.parse("129x200@100")
ENGINES = ("native", "onnxruntime", "openvino")
EAGER = "one eager forward"


def plans() -> dict[str, tuple[str, str]]:
    """Return every row's name, family and workload (empty for a network of braindecode)."""
    rows = {f"{family} {workload}": (family, workload) for family in FAMILIES for workload in WORKLOADS}
    return rows | {entry.model: (entry.model, "") for entry in catalogue(SHAPE, {})}


@dataclass(frozen=True, kw_only=True)
class Run:
    """How rows are measured: batches, processes, threads and instruction set of native code, and where graphs are kept."""

    batches: tuple[int, ...]
    processes: int
    threads: int
    level: Level
    folder: Path

    @property
    def engines(self) -> tuple[str, ...]:
        """Whom native code is timed against: nobody on threads; who can be capped alike with a lesser instruction set."""
        if self.threads > 1:
            return ("native",)
        return ENGINES if self.level == best_level() else ("native", "openvino")

    def graph(self, family: str, workload: str, engine: str) -> Path:
        """Return where a row's graph for an engine is kept, as today's compiler leaves it."""
        return self.folder / f"{family}{workload}.{engine}.{_fusing()}.onnx"

    def code(self, family: str, workload: str) -> Path:
        """Return where its native code is kept, as today's generator writes it."""
        return self.folder / f"{family}{workload}.{self.level.suffix}.{self.threads}.{_fusing()}.{_generating()}.so"


@cache
def _fusing() -> str:
    return code_digest(["rtserve.fusion.fuse"])


@cache
def _generating() -> str:
    headers = sorted(file for file in HERE.iterdir() if file.suffix in (".c", ".h"))
    kernels = hashlib.sha256(b"".join(file.read_bytes() for file in headers)).hexdigest()[:12]
    return f"{code_digest(['rtserve.native.generate'])}.{kernels}"


def prepared(family: str, workload: str, run: Run) -> int:
    """Write a row's graphs and its native code unless they are there; return native's multiply-adds."""
    paths = {engine: run.graph(family, workload, engine) for engine in run.engines}
    if not all(path.exists() for path in paths.values()):
        graphs, views = _plan(family, workload, run.folder)
        for engine, path in paths.items():
            fuse(graphs, views=views, engine=engine).save(path, force=True)
    code = run.code(family, workload)
    if not code.exists():
        compiled = compile_graph(Graph.load(paths["native"]), levels=[run.level], threads=run.threads)
        save(compiled.built, code, {"macs": compiled.macs}, force=True)
    return int(json.loads(code.with_suffix(".json").read_text())["macs"])


def _plan(family: str, workload: str, folder: Path) -> tuple[Sequence[Graph], Sequence[str]]:
    if workload:
        n_members, n_views = WORKLOADS[workload]
        return members(family).graphs[:n_members], VIEWS[:n_views]
    return [_exported(family, folder)], ["identity"]


def _exported(name: str, folder: Path) -> Graph:
    entry = next(entry for entry in catalogue(SHAPE, {}) if entry.model == name)
    graph = plain_graph(entry, folder)
    if isinstance(graph, str):
        raise ExportError(graph, hint="it is no row")
    return graph


def measure(family: str, workload: str, run: Run) -> dict[str, Any]:
    """Return one row: multiply-adds, and for every batch medians and ratios over fresh processes."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        macs = pool.submit(prepared, family, workload, run).result()
        found = [pool.submit(_process, family, workload, k, run).result() for k in range(run.processes)]
    return {"macs": macs, "parts": [_part(batch, [one[batch] for one in found], run.threads) for batch in run.batches]}


def _part(batch: int, parts: Sequence[Timings], threads: int) -> dict[str, Any]:
    marks = tuple(k for k, part in enumerate(parts) for _ in part.rounds) if len(parts) > 1 else ()
    timings = Timings(rounds=tuple(r for part in parts for r in part.rounds), threads=threads, restarts=marks)
    return {
        "batch": batch,
        "processes": len(parts),
        "median_us": {name: timings.median_us(name) for name in timings.names},
        "ratio": {name: list(timings.ratio("native", name)) for name in timings.names if name != "native"},
    }


def _process(family: str, workload: str, seed: int, run: Run) -> dict[int, Timings]:
    """Return what one fresh process timed, by batch."""
    set_threads(1)
    infer: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    infer["native"] = NativeModule.open(run.code(family, workload), threads=run.threads).infer
    for engine in run.engines[1:]:
        infer[engine] = make_runner(Graph.load(run.graph(family, workload, engine)), engine).infer
    spec = Graph.load(run.graph(family, workload, "native")).input_spec
    eager = family if workload else ""
    return {
        batch: _timed(infer, eager, _windows(batch, spec.n_chans, spec.n_times), seed, run.threads)
        for batch in run.batches
    }


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

Generated by `benchmarks/native.py`. Code for {level}. {threads}; every engine on the graph made for it, by turns;
medians over {processes} fresh processes with their 95 % interval. Below 1 native code is faster. Weights of the zoo's
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
    text = HEAD.format(processes=result["processes"], cpu=env["cpu"], threads=threads, level=result["level"],
                       versions=", ".join(f"{k} {v}" for k, v in env["versions"].items()))  # fmt: skip
    best: dict[str, list[float]] = {"workloads": [], "networks of the zoo": []}
    for name, row in result["rows"].items():
        if "refused" in row:
            text += f"| {name} | | | {row['refused']} | | | |\n"
            continue
        for part in row["parts"]:
            cells = [_cell(part["ratio"].get(key)) for key in ("onnxruntime", "openvino", EAGER)]
            text += f"| {name} | {part['batch']} | {part['median_us']['native']:.1f} | {' | '.join(cells)} "
            text += f"| {row['macs'] / 1e6:.2f} M |\n"
            others = [part["ratio"][key][0] for key in ("onnxruntime", "openvino") if key in part["ratio"]]
            if part["batch"] == 1 and others:
                best["workloads" if " W" in name else "networks of the zoo"].append(max(others))
    for kind, ratios in best.items():
        if ratios:
            mean = float(np.exp(-np.mean(np.log(ratios))))
            text += (
                f"\nAt batch 1 {mean:.2f} times faster than the better of both: geometric mean, {len(ratios)} {kind}.\n"
            )
    return text


def _cell(ratio: list[float] | None) -> str:
    return f"{ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}]" if ratio else "-"


@click.command()
@click.option("--only", help="Names of rows, comma-separated.")
@click.option("--processes", default=5, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Of native code; see above.")
@click.option("--batches", default="1,16,64", show_default=True, help="Windows at once, comma-separated.")
@click.option("--avx2", is_flag=True, help="Native code without AVX-512, against OpenVINO without it.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where exports are kept for a later run.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS / "native.json", show_default=False)
def main(
    only: str | None, processes: int, threads: int, batches: str, avx2: bool, folder: Path | None, output: Path
) -> None:
    """Measure what has no row yet, and write."""
    old = json.loads(output.read_text())["rows"] if output.exists() else {}
    chosen = only.split(",") if only else list(plans())
    folder = folder or Path(tempfile.mkdtemp(prefix="rtserve-native-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    level = next(one for one in levels_here() if one.name == "x86-64-v3") if avx2 else best_level()
    if avx2:
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"  # read by OpenVINO's kernels when a child starts
    run = Run(
        batches=tuple(map(int, batches.split(","))), processes=processes, threads=threads, level=level, folder=folder
    )
    for name in [name for name in plans() if name in chosen and name not in old]:
        family, workload = plans()[name]
        try:
            old[name] = measure(family, workload, run)
            ratios = old[name]["parts"][0]["ratio"]
            click.echo(f"{name}: " + ", ".join(f"{_cell(ratio)} of {key}" for key, ratio in ratios.items()), err=True)
        except RtserveError as error:
            old[name] = {"refused": error.message}
            click.echo(f"{name}: {error.message}", err=True)
        result = {"schema": "rtserve.native-bench/1", "environment": environment(threads=threads), "processes": processes,
                  "threads": threads, "level": level.name, "rows": old}  # fmt: skip
        write_bytes(output, (json.dumps(result, indent=1) + "\n").encode(), force=True)
        write_bytes(output.with_suffix(".md"), page(result).encode(), force=True)


if __name__ == "__main__":
    main()
