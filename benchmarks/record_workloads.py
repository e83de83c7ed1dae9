"""Measure W1..W4 and their growth, and write ``results/workloads.json`` and ``results/workloads.md``.

    python benchmarks/record_workloads.py [--only CompactRT] [--missing] [--lock FILE]

With one thread the processor's time of the process is taken, so that other work on the machine does not count.
Every row is one interleaved run: all engines by turns, one process, batch and threads as named. Raw medians, ratios with
intervals and the environment are stored; the table is generated from them.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from workloads import FAMILIES, VIEWS, WORKLOADS, Call, calling, members, peers, window
from zoo_lock import held

from rtserve.files import write_bytes
from rtserve.fusion.fuse import fuse
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.measure.results import environment
from rtserve.measure.timing import Timings, interleave, set_threads

RESULTS = Path(__file__).resolve().parent / "results"
UNIT, OURS = "one eager forward", "rtserve, onnxruntime"
BARS = {("CompactRT", "W1"): 0.22, ("CompactRT", "W2"): 0.61, ("CompactRT", "W3"): 0.88, ("CompactRT", "W4"): 2.6,
        ("EEGNeX", "W1"): 1 / 80, ("EEGNeX", "W2"): 1 / 28}  # fmt: skip
"""Ratios asked for at batch 1, one thread; shown beside what was measured."""
COUNTS = (1, 2, 4, 8, 16, 32)
RESTARTS = 7
"""Fresh processes for a row at batch 1 and one thread."""


def conditions(family: str, workload: str) -> list[tuple[int, int]]:
    """Return (batch, threads) to measure; the large products of EEGNeX at batch 1 only."""
    if family == "EEGNeX" and workload in ("W3", "W4"):
        return [(1, 1)]
    return [(1, 1), (16, 1), (64, 1), (1, 2)]


def row(family: str, workload: str, batch: int, threads: int) -> dict[str, Any]:
    """Measure one workload under one condition; where it has a bar, in several fresh processes.

    Where memory happens to lie changes an eager forward by 6 % from one process to the next, and with it every ratio.
    """
    parts = RESTARTS if (batch, threads) == (1, 1) else 1
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        found = [pool.submit(_part, family, workload, batch, threads, k).result() for k in range(parts)]
    marks = tuple(k for k, part in enumerate(found) for _ in part.rounds) if parts > 1 else ()
    rounds = tuple(one for part in found for one in part.rounds)
    timings = Timings(rounds=rounds, threads=threads, restarts=marks)
    return {
        "family": family,
        "workload": workload,
        "weights": members(family).weights,
        "batch": batch,
        "threads": threads,
        "processes": parts,
        "median_us": {name: timings.median_us(name) for name in timings.names},
        "ratio": {name: timings.ratio(name, UNIT) for name in timings.names},
        "noise": {name: list(timings.unstable(name)) for name in (UNIT, OURS)},
    }


def _part(family: str, workload: str, batch: int, threads: int, seed: int) -> Timings:
    """Time all engines by turns in a process of its own."""
    set_threads(threads)
    calls = peers(family, workload, batch=batch, threads=threads, inductor=(batch, threads) == (1, 1))
    for call in calls.values():
        call()  # what compiles does so here, not in a round
    clock = time.process_time_ns if threads == 1 else time.perf_counter_ns
    # the first call of a burst finds the caches full of another engine's weights; of eight, that is a small part
    rounds, least = (6 if family == "CompactRT" else 4, 8) if batch == 1 else (6, 1)
    return interleave(calls, rounds=rounds, min_calls=least, threads=threads, seed=seed, clock=clock)


def growth(family: str, by: str) -> dict[str, Any]:
    """Measure how cost grows with members or views, in units of one plain onnxruntime pass of the single model."""
    found = members(family, max(COUNTS) if by == "members" and family == "CompactRT" else 5)
    counts = COUNTS if len(found.graphs) >= max(COUNTS) or by == "views" else (1, 2, 3, 4, 5)
    x = window(1)
    calls: dict[str, Call] = {"plain": calling(OnnxruntimeRunner(found.graphs[0]), x)}
    for n in counts:
        views = [v for v in _many_views(n)] if by == "views" else ["identity"]
        graphs = found.graphs[:n] if by == "members" else found.graphs[:1]
        calls[str(n)] = calling(OnnxruntimeRunner(fuse(graphs, views=views, parity=False)), x)
    set_threads(1)
    timings = interleave(calls, rounds=24, min_calls=8, threads=1, clock=time.process_time_ns)
    ratios = {name: timings.ratio(name, "plain")[0] for name in calls}
    return {"family": family, "by": by, "ratio_to_plain": ratios, "marginal": _slope(timings, counts)}


def _slope(timings: Timings, counts: Sequence[int]) -> list[float]:
    """Return the median over rounds of the slope over 1 to 8, and the ends of its 95 % bootstrap interval."""
    fitted = [n for n in counts if n <= 8]
    ratios = [timings.blocks_us(str(n)) / timings.blocks_us("plain") for n in fitted]
    slopes = np.polyfit(fitted, np.array(ratios), 1)[0]
    drawn = np.random.default_rng(0).choice(slopes, size=(2000, len(slopes)))
    return [float(v) for v in (np.median(slopes), *np.quantile(np.median(drawn, axis=1), [0.025, 0.975]))]


def _many_views(n: int) -> list[str]:
    names = [*VIEWS, *(f"roll:{k:+d}" for k in range(5, 40, 2)), *(f"scale:{1 + k / 100}" for k in range(3, 30, 2))]
    return names[:n]


def footprint(family: str) -> dict[str, Any]:
    """Return cold start, file size and the process's peak memory for the fused W4."""
    graph = fuse(members(family).graphs, views=VIEWS, parity=False)
    start = time.perf_counter_ns()
    runner = OnnxruntimeRunner(graph)
    runner.infer(window(1))
    return {
        "family": family,
        "cold_start_ms": (time.perf_counter_ns() - start) / 1e6,
        "file_bytes": len(graph.to_bytes()),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


HEAD = """# W1 to W4 against every engine

Generated by `benchmarks/record_workloads.py`. Time in units of one eager forward of the single model in the same
interleaved run; lower is better; medians, 95 % interval for ours. Where several processes are named, median and interval
are over them: where memory happens to lie changes an eager forward by 6 % from one process to the next.
"""


def section(r: dict[str, Any]) -> list[str]:
    """Return one row's part of the page: every engine, fastest first."""
    bar = BARS.get((r["family"], r["workload"])) if (r["batch"], r["threads"]) == (1, 1) else None
    where = f"batch {r['batch']}, threads {r['threads']} ({r['weights']} weights)"
    if r["processes"] > 1:
        where += f", {r['processes']} processes"
    lines = [f"## {r['family']} {r['workload']}, {where}", "", "| engine | ratio | us |", "|--|--|--|"]
    for name, (middle, low, high) in sorted(r["ratio"].items(), key=lambda item: item[1][0]):
        spread = f" [{low:.4f}, {high:.4f}]" if name == OURS else ""
        lines.append(f"| {name} | {middle:.4f}{spread} | {r['median_us'][name]:.0f} |")
    return [*lines, "", *([f"Asked: {bar:.4f}.", ""] if bar else [])]


def table(result: dict[str, Any]) -> str:
    """Return the Markdown page of a result."""
    env = result["environment"]
    lines = [HEAD, f"{env['cpu']}; {', '.join(f'{k} {v}' for k, v in env['versions'].items())}.", ""]
    for r in result["rows"]:
        lines += section(r)
    lines += ["## Growth", "", "In units of one plain onnxruntime pass; slope over 1 to 8, 95 % interval.", ""]
    lines += ["| | per extra |", "|--|--|"]
    for g in result["growth"]:
        middle, low, high = g["marginal"]
        lines.append(f"| {g['family']}, {g['by']} | {middle:.3f} [{low:.3f}, {high:.3f}] |")
    lines += ["", "## Footprint of the fused W4", "", "| | cold start ms | file bytes | peak MiB |", "|--|--|--|--|"]
    for f in result["footprint"]:
        cells = f"{f['cold_start_ms']:.1f} | {f['file_bytes']:,} | {f['peak_memory_mib']:.0f}"
        lines.append(f"| {f['family']} | {cells} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--only", multiple=True, help="Families to measure anew; the other rows are kept.")
@click.option("--lock", help="A lock file to hold while timing.")
@click.option("--batch-one", is_flag=True, help="Batch 1, one thread only.")
@click.option("--missing", is_flag=True, help="Go on with a run that was interrupted: measure only what has no row.")
def main(only: tuple[str, ...], lock: str | None, batch_one: bool, missing: bool) -> None:
    """Measure and write."""
    path = RESULTS / "workloads.json"
    old: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": [], "growth": [], "footprint": []}
    families = [f for f in FAMILIES if not only or f in only]
    kept = {
        key: [r for r in old[key] if missing or r["family"] not in families] for key in ("rows", "growth", "footprint")
    }
    there = {(r["family"], r["workload"], r["batch"], r["threads"]) for r in kept["rows"]}
    for family in families:
        for workload in WORKLOADS:
            for batch, threads in [(1, 1)] if batch_one else conditions(family, workload):
                if (family, workload, batch, threads) in there:
                    continue
                with held(lock):
                    kept["rows"].append(row(family, workload, batch, threads))
                middle, low, high = kept["rows"][-1]["ratio"][OURS]
                where = f"{family} {workload} batch {batch} threads {threads}"
                print(f"{where}: {middle:.4f} [{low:.4f}, {high:.4f}]", file=sys.stderr)
                _write(path, kept)
        for by in ("members", "views"):
            if not any((g["family"], g["by"]) == (family, by) for g in kept["growth"]):
                with held(lock):
                    kept["growth"].append(growth(family, by))
                _write(path, kept)
        if not any(r["family"] == family for r in kept["footprint"]):
            with held(lock):
                kept["footprint"].append(footprint(family))
            _write(path, kept)


def _order(row: dict[str, Any]) -> tuple[int, int, int]:
    """Return where a row stands: by family, workload, and condition."""
    family, workload = row["family"], row["workload"]
    place = conditions(family, workload).index((row["batch"], row["threads"]))
    return list(FAMILIES).index(family), list(WORKLOADS).index(workload), place


def _write(path: Path, kept: dict[str, Any]) -> None:
    """Write what there is so far, whole: an interrupted run keeps its rows."""
    kept["rows"].sort(key=_order)
    for key in ("growth", "footprint"):
        kept[key].sort(key=lambda r: (list(FAMILIES).index(r["family"]), r.get("by", "")))
    result = {"schema": "rtserve.workloads/1", "environment": environment(), **kept}
    write_bytes(path, (json.dumps(result, indent=1) + "\n").encode(), force=True)
    write_bytes(path.with_suffix(".md"), table(result).encode(), force=True)


if __name__ == "__main__":
    main()
