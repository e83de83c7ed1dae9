"""Stalls of 5 ms planted in real time: how often calls at the pace of a hop show them, and at the hop where they are.

``python benchmarks/planted_stalls.py [--streams 20] [--graph M.onnx] [-o benchmarks/results/planted_stalls.json]`` calls
a graph's runner once per hop as ``rtserve bench --hop-ms`` does. In each of so many streams one call, at a hop drawn by
chance, sleeps 5 ms before it answers; as many streams have none. A stall is found where the answer of its own hop is
counted as one. All must be found, exit 1 otherwise; what streams without a planted stall show is the machine's own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from measured_code import code_digest
from null_pairs import default_graph

ROOT = Path(__file__).resolve().parent.parent
MARGIN = 20
"""Hops at the begin and at the end of a stream that get no stall."""


@dataclass(kw_only=True)
class Stalling:
    """A call that sleeps when it is made for the time `at`, counted from 0 with the warm-up of `stream`."""

    infer: Callable[[], Any]
    at: int
    stall_ms: float
    sleep: Callable[[float], None] = time.sleep
    made: int = -1

    def __call__(self) -> Any:
        self.made += 1
        if self.made == self.at:
            self.sleep(self.stall_ms / 1e3)
        return self.infer()


def one_stream(
    infer: Callable[[], Any],
    planted: int | None,
    *,
    hop_ms: float,
    hops: int,
    stall_ms: float,
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Call once per hop, stall at hop `planted`, and return what the summary says."""
    from rtserve.measure.hops import WARM_CALLS, stream
    from rtserve.measure.machine import watched
    from rtserve.measure.timing import collector_paused

    at = -1 if planted is None else planted + WARM_CALLS
    call = Stalling(infer=infer, at=at, stall_ms=stall_ms, sleep=sleep)
    with watched() as machine, collector_paused():
        times = stream(call, hop_ms=hop_ms, hops=hops, clock=clock, sleep=sleep)
    found = times.summary()
    return {
        "planted": planted,
        "found": planted is not None and bool(times.stalled[planted]),
        "first": found["stalls"]["first"],
        "stalls": found["stalls"]["count"],
        "p50_us": found["answer_us"]["p50"],
        "p99.9_us": found["answer_us"]["p99.9"]["value"],
        "max_us": found["answer_us"]["max"],
        "missed": found["misses"]["count"],
        "loaded": list(machine.loaded),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the counts of streams with and without a planted stall."""
    planted = [row for row in rows if row["planted"] is not None]
    without = [row for row in rows if row["planted"] is None]
    return {
        "streams": len(planted),
        "found": sum(row["found"] for row in planted),
        "found_first": sum(row["first"] == row["planted"] for row in planted),
        "without": len(without),
        "without_shows_a_stall": sum(row["stalls"] > 0 for row in without),
        "loaded": sum(bool(row["loaded"]) for row in rows),
    }


@click.command()
@click.option("--streams", type=click.IntRange(1), default=20, show_default=True)
@click.option("--hop-ms", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True)
@click.option("--hops", type=click.IntRange(2 * MARGIN + 1), default=300, show_default=True)
@click.option("--stall-ms", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--graph", type=click.Path(), help="Any graph; CompactRT with seeded weights by default.")
@click.option("-o", "--output", type=click.Path(), default=str(ROOT / "benchmarks" / "results" / "planted_stalls.json"))
def main(streams: int, hop_ms: float, hops: int, stall_ms: float, seed: int, graph: str | None, output: str) -> None:
    """Plant a stall in every other stream, write what was seen, and say how many were found."""
    from rtserve.graphs.graph import Graph
    from rtserve.graphs.runners import make_runner
    from rtserve.measure.bench import bench_input
    from rtserve.measure.results import environment, save_result

    subject = Graph.load(graph) if graph else default_graph()
    infer, x = make_runner(subject, "onnxruntime", threads=1).infer, bench_input(subject.input_spec, batch=1)
    rng, rows = np.random.default_rng(seed), []
    settings = {"hop_ms": hop_ms, "hops": hops, "stall_ms": stall_ms}
    for _ in range(streams):
        at = int(rng.integers(MARGIN, hops - MARGIN))
        rows += [one_stream(lambda: infer(x), planted, **settings) for planted in (at, None)]
    found = summary(rows)
    document = found | settings | {"seed": seed, "graph_sha256": subject.digest, "rows": rows}
    save_result(
        output,
        "planted_stalls",
        document | {"code": code_digest(["rtserve.measure.bench"]), "environment": environment(threads=1)},
        force=True,
    )
    click.echo(
        f"{found['found']} of {streams} planted stalls of {stall_ms:g} ms found at their hop ({found['found_first']} as the"
        f" first of their stream); {found['without_shows_a_stall']} of {streams} streams without one show one of the"
        f" machine's own; it was loaded in {found['loaded']} of {len(rows)}; wrote {output}"
    )
    sys.exit(found["found"] < streams)


if __name__ == "__main__":
    main()
