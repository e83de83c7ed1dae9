"""What a graph costs: latency and throughput beside another's, by turns in one run, with the noise of this machine.

The ratio to another graph is what carries over to other machines; the microseconds are of this one. The reference is
timed as two sessions under two names (A/A): how far those are apart is what this machine, in this run, cannot tell
apart. Every session is built anew several times, because where its weights lie in memory changes its speed a little.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path

import numpy as np

from rtserve.errors import InputError
from rtserve.files import file_names
from rtserve.graphs.graph import Graph
from rtserve.graphs.parity import probe_inputs
from rtserve.measure.bench_report import AGAIN, BenchReport, Contender
from rtserve.measure.hops import HopTimes, stream
from rtserve.measure.machine import watched
from rtserve.measure.predict import as_graph, make_runner
from rtserve.measure.timing import P99_MIN, RESTARTS, Call, Factory, collector_paused, repeat, set_threads
from rtserve.measure.vetting import require_batch, vet
from rtserve.spec import UNITS, InputSpec, require_same_input, require_same_target

__all__ = ["BenchReport", "Contender", "bench"]

_P99_BUDGET_S = 10.0
_ROUND_MS, _MIN_HOPS, _MAX_HOPS = 200.0, 5, 20_000


def bench(
    graph: Graph | str | Path,
    against: Graph | str | Path | Sequence[Graph | str | Path] = (),
    *,
    engine: str = "onnxruntime",
    against_engine: str | None = None,
    batch: int | None = None,
    threads: int = 1,
    loop: int = 1,
    rounds: int = 54,
    hop_ms: float | None = None,
    hops: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> BenchReport:
    """Time a graph, and others by turns with it.

    Parameters
    ----------
    graph : Graph or path
        On trial.
    against : Graph, path or sequence of them
        What it is compared with.
    engine, against_engine : str
        From `rtserve.measure.predict.ENGINES`; the others' is the same by default.
    batch, threads : int
        Windows per call (1, the single-stream scenario, by default), threads of the engine. A graph whose answers depend
        on the batch is not timed at one that nobody chose.
    loop : int
        Runs of each other graph per timed call: 25 for "one session per branch, 25 branches".
    rounds : int
        Rounds of bursts in all, spread over restarts; see `rtserve.measure.timing.repeat`.
    hop_ms : float, optional
        Deadline per call: each graph is also called once per hop, and jitter, p99.9 and misses are reported.
    hops : int, optional
        How many of those calls; by default as many as take 0.2 s per round.
    seed : int
        Of the input and of the order.
    progress : callable, optional
        Called with (restarts done, restarts in all).

    Returns
    -------
    BenchReport

    Raises
    ------
    InputError
        Where a graph cannot be read, or a number is impossible.
    SpecMismatchError
        Where two graphs say that they take other windows, or predict something else: their ratio would be of two jobs.
    """
    counts = {"batch": batch, "threads": threads, "loop": loop, "rounds": rounds, "hops": hops}
    for name, value in counts.items():
        if value is not None and not isinstance(value, Integral):
            raise InputError(f"{name} {value!r} is no whole number", hint="all counts are whole numbers of at least 1")
    if min(1 if batch is None else batch, threads, loop, rounds, hops or 1) < 1 or (hop_ms is not None and hop_ms <= 0):
        raise InputError(
            f"batch {batch}, threads {threads}, loop {loop}, rounds {rounds}, hop {hop_ms} ms",
            hint="all are at least 1, the hop above 0",
        )
    others = list(against) if isinstance(against, Sequence) and not isinstance(against, str) else [against]
    names = _names([graph, *others])
    graphs = [as_graph(g) for g in (graph, *others)]
    chosen, batch = batch, _batch(graphs, names, batch)
    engines = [engine] + [against_engine or engine] * len(others)
    spec, assumed = _common_input(graphs, names)
    set_threads(threads)
    contenders, factories, outputs = [], {}, []
    for name, g, kind, times in zip(names, graphs, engines, [1] + [loop] * len(others), strict=True):
        found = vet(g, make_runner(g, kind, threads=threads).infer, engine=kind, name=name)
        require_batch(found, g.fixed_batch or chosen, name=name)
        factories[name] = _factory(g, kind, spec, batch=batch, threads=threads, loop=times, seed=seed)
        outputs.append(np.asarray(factories[name]()()))
        passes = len(g.provenance.details.get("passes", ()))
        contenders.append(
            Contender(name=name, digest=g.digest, engine=kind, loop=times, branches=n_branches(g), passes=passes)
        )
    if others:
        factories[AGAIN] = factories[names[1]]
    restarts = max(1, min(RESTARTS, rounds // 2))
    with watched() as machine:
        timings = repeat(
            factories,
            restarts=restarts,
            rounds=math.ceil(rounds / restarts),
            min_calls=_min_calls(factories, rounds),
            threads=threads,
            seed=seed,
            progress=progress,
        )
        paced = _paced({name: factories[name] for name in names}, hop_ms, hops, rounds) if hop_ms else {}
    return BenchReport(
        contenders=tuple(contenders),
        timings=timings,
        batch=batch,
        threads=threads,
        max_difference={
            n: float(np.abs(y - outputs[0]).max()) if y.shape == outputs[0].shape else None
            for n, y in zip(names[1:], outputs[1:], strict=True)
        },
        hop_ms=hop_ms,
        hops=paced,
        machine=machine,
        assumed=assumed,
    )


def _batch(graphs: Sequence[Graph], names: Sequence[str], chosen: int | None) -> int:
    """Return the windows per call: those chosen, or that a graph's fixed batch asks for, or one.

    Raises
    ------
    InputError
        Where a graph's fixed batch is another.
    """
    batch = chosen or next((graph.fixed_batch for graph in graphs if graph.fixed_batch), 1)
    for name, graph in zip(names, graphs, strict=True):
        if graph.fixed_batch not in (0, batch):
            raise InputError(
                f"{name} takes {graph.fixed_batch} windows per call, not {batch}",
                hint=f"--batch {graph.fixed_batch}, or make it take any batch: rtserve annotate {name} -o NEW.onnx",
            )
    return batch


def _common_input(graphs: Sequence[Graph], names: Sequence[str]) -> tuple[InputSpec, tuple[str, ...]]:
    """Return the windows that all of the graphs take, and what of them was assumed for a graph that does not say.

    Raises
    ------
    SpecMismatchError
        Where two contradict each other.
    """
    spec, notes = graphs[0].input_spec, []
    for index, (name, graph) in enumerate(zip(names, graphs, strict=True)):
        for other, earlier in zip(names[:index], graphs[:index], strict=True):
            require_same_input(earlier.input_spec, graph.input_spec, names=(other, name))
            require_same_target(
                earlier.output_spec.target, graph.output_spec.target, names=(other, name),
                hint="a ratio is of two graphs for one job",
            )  # fmt: skip
        spec = spec.completed_by(graph.input_spec)
    for name, graph in zip(names, graphs, strict=True):
        if graph.input_spec.unit is None:
            scale = f"windows in {spec.unit}, as the others take" if spec.unit else "windows of size 1"
            notes.append(f"{name} does not state its unit: it was timed on {scale}")
    return spec, tuple(notes)


def _paced(factories: dict[str, Factory], hop_ms: float, hops: int | None, rounds: int) -> dict[str, HopTimes]:
    """Call each at the pace of the hop, one after the other."""
    count = hops or max(_MIN_HOPS, min(_MAX_HOPS, math.ceil(rounds * _ROUND_MS / hop_ms)))
    with collector_paused():
        return {name: stream(factory(), hop_ms=hop_ms, hops=count) for name, factory in factories.items()}


def n_branches(graph: Graph) -> int:
    """Return how many member x view pairs a graph says it holds; 1 where it was not fused."""
    details = graph.provenance.details
    if graph.provenance.kind != "fuse":
        return 1
    views = details.get("plan", {}).get("views", ())
    return max(1, len(details.get("members", ()))) * max(1, len(views))


def bench_input(spec: InputSpec, *, batch: int, seed: int = 0) -> np.ndarray:
    """Return window-shaped noise (batch, n_chans, n_times) at the size EEG has in the spec's unit, float32."""
    scale = 1.0 if spec.unit in (None, "1") else 1e-5 / UNITS[spec.unit]
    return probe_inputs(spec, batches=(batch,), scales=(scale,), seed=seed)[1][1]


def _factory(graph: Graph, engine: str, spec: InputSpec, *, batch: int, threads: int, loop: int, seed: int) -> Factory:
    def fresh() -> Call:
        infer = make_runner(graph, engine, threads=threads).infer
        x = bench_input(spec, batch=batch, seed=seed)
        if loop == 1:
            return lambda: infer(x)

        def repeated() -> np.ndarray:
            for _ in range(loop - 1):
                infer(x)
            return infer(x)

        return repeated

    return fresh


def _names(graphs: Sequence[Graph | str | Path]) -> list[str]:
    """Return one distinct name each: the file's, or "graph"; the second of a name gets a number."""
    named = iter(file_names([g for g in graphs if isinstance(g, str | Path)]))
    plain = [next(named) if isinstance(g, str | Path) else "graph" for g in graphs]
    return [
        name if plain.index(name) == i else f"{name} ({plain[: i + 1].count(name)})" for i, name in enumerate(plain)
    ]


def _min_calls(factories: dict[str, Factory], rounds: int) -> int:
    """Return recorded calls per burst: enough for a p99 where that costs at most `_P99_BUDGET_S`, else 3."""
    calls = [factory() for factory in factories.values()]
    start = time.perf_counter_ns()
    for call in calls:
        call()
    once_s = (time.perf_counter_ns() - start) / 1e9
    return max(3, math.ceil(P99_MIN / rounds)) if once_s * P99_MIN <= _P99_BUDGET_S else 3
