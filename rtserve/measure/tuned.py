"""Which engine is fastest here: every engine that this machine has, by turns, and the answer in a file beside the graph.

The answer holds for one graph, one processor, a batch size and a number of threads; asked for another it is refused.
onnxruntime is what a graph travels in: another engine is the answer only where the whole interval of its ratio says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError, RtserveError
from rtserve.files import check_writable, read_json, write_bytes
from rtserve.graphs.engines import ENGINE_NAMES
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import Runner, make_runner
from rtserve.measure.machine import watched
from rtserve.measure.results import environment
from rtserve.measure.timing import Timings, interleave, set_threads
from rtserve.measure.vetting import vet
from rtserve.tables import fitting

__all__ = ["TIMED", "Tuned", "place_of", "side_by_side", "tune", "tuned_engine"]

SCHEMA = "rtserve.tuned/1"
TIMED = tuple(name for name in ENGINE_NAMES if name != "reference")
"""Engines that are tried: all but the evaluator that says what a graph means."""
USUAL = "onnxruntime"


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What was found.

    Parameters
    ----------
    graph : str
        Digest of the graph.
    machine : dict
        `rtserve.measure.results.environment`.
    batch, threads : int
        Windows per call, and threads of an engine.
    best : str
        The engine to take.
    median_us : dict of str to float
        Median of a call, by engine.
    ratio : dict of str to tuple of float
        To onnxruntime: median, and the ends of its 95 % interval.
    left_out : dict of str to str
        Engines that were not timed, and why.
    loaded : tuple of str
        What else kept the machine busy meanwhile.
    """

    graph: str
    machine: dict[str, Any]
    batch: int
    threads: int
    best: str
    median_us: dict[str, float]
    ratio: dict[str, tuple[float, float, float]]
    left_out: dict[str, str]
    loaded: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"schema": SCHEMA, **{name: getattr(self, name) for name in self.__dataclass_fields__}}

    def lines(self, width: int | None = None) -> list[str]:
        """Return the result for a person, the fastest first; `width` are a terminal's columns."""
        said = [f"{self.best} is taken: batch {self.batch}, {self.threads} thread{'s' * (self.threads > 1)} on"
                f" {self.machine['cpu']}"]  # fmt: skip
        lines, records = [], []
        for name in sorted(self.median_us, key=lambda name: self.median_us[name]):
            middle, low, high = self.ratio[name]
            ratio = "" if name == USUAL else f"{middle:.3f} [{low:.3f}, {high:.3f}]"
            beside = f"  {ratio} of {USUAL}" if ratio else ""
            lines.append(f"  {name:<12} {self.median_us[name]:9.1f} us a call{beside}")
            records.append((name, [("a call", f"{self.median_us[name]:.1f} us"), (f"of {USUAL}", ratio)]))
        said += fitting(lines, records, width, indent=2)
        said += [f"  {name:<12} not timed: {why}" for name, why in self.left_out.items()]
        return said + [f"note: a loaded machine: {'; '.join(self.loaded)}"] * bool(self.loaded)


def place_of(graph: str | Path) -> Path:
    """Return where the answer for a graph's file is kept."""
    return Path(graph).with_suffix(".tuned.json")


def tune(path: str | Path, *, force: bool = False, **options: Any) -> Tuned:
    """Time a graph in every engine that is here, and write the answer beside it.

    Parameters
    ----------
    path : str or Path
        The .onnx.
    force : bool
        Replace an answer that is there.
    **options
        As `side_by_side` takes them.

    Raises
    ------
    InputError
        Where an answer is there and `force` is not given, or as `side_by_side`.
    RtserveError
        As `side_by_side`.
    """
    check_writable(place_of(path), force=force)
    found = side_by_side(path, **options)
    write_bytes(place_of(path), (json.dumps(found.to_dict(), indent=1) + "\n").encode(), force=force)
    return found


def side_by_side(
    path: str | Path,
    *,
    batch: int = 1,
    threads: int = 1,
    rounds: int = 54,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Time a graph in every engine that is here, by turns; nothing is written.

    Parameters
    ----------
    path : str or Path
        The .onnx.
    batch, threads : int
        Windows per call; threads of an engine.
    rounds : int
        Rounds by turns; see `rtserve.measure.timing.interleave`.
    seed : int
        Of the windows and of the order.
    progress : callable, optional
        Called with (rounds done, rounds in all).

    Raises
    ------
    InputError
        Where the graph's answers depend on the batch and it is one.
    RtserveError
        Where onnxruntime cannot run the graph: there is nothing to compare with.
    """
    graph = Graph.load(path)
    set_threads(threads)
    runners, left_out = _ready(graph, Path(path).name, threads)
    if graph.output_spec.coupled and batch == 1:
        raise InputError(
            f"the answers of {Path(path).name} depend on the batch: there is a fastest engine for every batch size",
            hint="choose one with --batch, as it will be called",
        )
    spec = graph.input_spec
    x = np.random.default_rng(seed).standard_normal((batch, spec.n_chans, spec.n_times)).astype(np.float32)
    calls = {name: (lambda runner=runner: runner.infer(x)) for name, runner in runners.items()}
    with watched() as load:
        timings = interleave(calls, rounds=rounds, threads=threads, seed=seed, progress=progress)
    return Tuned(
        graph=graph.digest, machine=environment(threads=threads), batch=batch, threads=threads,
        best=_best(timings), left_out=left_out, loaded=load.loaded,
        median_us={name: timings.median_us(name) for name in timings.names},
        ratio={name: timings.ratio(name, USUAL) for name in timings.names},
    )  # fmt: skip


def _ready(graph: Graph, name: str, threads: int) -> tuple[dict[str, Runner], dict[str, str]]:
    """Return the engines that give the graph's numbers here, and why the others are left out."""
    runners: dict[str, Runner] = {}
    left_out: dict[str, str] = {}
    for engine in TIMED:
        try:
            runner = make_runner(graph, engine, threads=threads)
            vet(graph, runner.infer, engine=engine, name=name)
            runners[engine] = runner
        except RtserveError as error:
            if engine == USUAL:
                raise
            left_out[engine] = error.message
    return runners, left_out


def _best(timings: Timings) -> str:
    """Return the engine with the lowest median of those whose whole interval is below onnxruntime's; else onnxruntime."""
    faster = [name for name in timings.names if name != USUAL and timings.ratio(name, USUAL)[2] < 1.0]
    return min(faster, key=timings.median_us, default=USUAL)


def tuned_engine(path: str | Path, *, batch: int | None = None, threads: int = 1) -> str:
    """Return the engine that `tune` found for a graph on this machine.

    Raises
    ------
    InputError
        Where it was not asked, or for another graph, processor, batch size or number of threads.
    """
    place = place_of(path)
    again = f"rtserve tune {path}{f' --batch {batch}' if batch else ''}{f' --threads {threads}' if threads > 1 else ''}"
    if not place.is_file():
        raise InputError(f"which engine is fastest for {path} here is not known: no {place.name}", hint=again)
    told = read_json(place, "answer of a tuning", hint=f"{again} --force")
    if not isinstance(told, dict) or told.get("schema") != SCHEMA or told.get("best") not in TIMED:
        raise InputError(f"{place} is no answer of rtserve tune", hint=f"{again} --force")
    digest = Graph.load(path).digest
    asked = {"graph": digest[:12], "cpu": environment()["cpu"], "threads": threads} | (
        {"batch": batch} if batch else {}
    )
    known = {"graph": str(told.get("graph"))[:12], "cpu": (told.get("machine") or {}).get("cpu"),
             "threads": told.get("threads"), "batch": told.get("batch")}  # fmt: skip
    for key, value in asked.items():
        if known[key] != value:
            raise InputError(f"{place.name} is for {key} {known[key]}, asked is {value}", hint=f"{again} --force")
    return str(told["best"])
