"""Running a recording as the command line does it: the step's own answers, in a table, with what each step took."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import check_writable, write_bytes
from rtserve.graphs.graph import STREAM_KEY, Graph, read_proto
from rtserve.streaming.build import stream
from rtserve.streaming.recording import Run, open_for, run_through
from rtserve.streaming.runner import StepRunner
from rtserve.streaming.step_graph import StepGraph
from rtserve.streaming.verify import VerifiedRunner

__all__ = ["run_file", "run_text", "step_of"]


def run_file(
    graph: Path,
    source: Path,
    *,
    hop: int | None = None,
    output: Path | None = None,
    window: Path | None = None,
    verify_every: int | None = None,
    unit: str = "",
    filtered: bool = False,
    force: bool = False,
    told: Callable[[float, np.ndarray], None] | None = None,
) -> dict[str, Any]:
    """Run a recording through a graph and return the report as JSON values; the answers go to `output` (.csv).

    Parameters
    ----------
    graph : Path
        A step graph, or a window's graph with `hop`.
    source : Path
        A recording.
    hop : int, optional
        New samples of a step; of a step graph it is the graph's.
    window : Path, optional
        The graph that a step graph was made of, for `verify_every`.
    verify_every : int, optional
        Compare every so many answers with the window's graph.
    unit, filtered
        As `rtserve.streaming.recording.open_for`.
    told : callable, optional
        Called with each answer as it comes.

    Raises
    ------
    RtserveError
        Where the two do not fit, a comparison fails, or the output may not be written.
    """
    if output is not None:
        check_writable(output, force=force)
    step, whole = step_of(graph, hop, window)
    runner: StepRunner | VerifiedRunner
    if verify_every is None:
        runner = StepRunner(step)
    elif whole is None:
        raise InputError("there is no window's graph to compare with", hint="name it: --window F.onnx")
    else:
        runner = VerifiedRunner(step, whole, every=verify_every)
    signal, factor = open_for(step, source, unit=unit, filtered=filtered)
    run = run_through(runner, signal, factor, told=told)
    if output is not None:
        write_bytes(output, _csv(run).encode(), force=force)
    us = run.latency_us
    return {
        "graph": str(graph),
        "source": str(source),
        "hop": step.hop,
        "window": step.input_spec.n_times,
        "sfreq": signal.clock.sfreq,
        "answers": len(run.answers),
        "steps": len(us),
        "streams": run.streams,
        "samples_left": run.left,
        "compared": runner.ever_compared if isinstance(runner, VerifiedRunner) else 0,
        "latency_us": {f"p{q:g}": float(np.percentile(us, q)) for q in (50, 99, 99.9)} if len(us) else {},
        "late": int((us > 1e6 * step.hop / signal.clock.sfreq).sum()),
        "output": str(output) if output is not None else None,
        "notes": signal.notes.lines(),
    }


def step_of(path: Path, hop: int | None, window: Path | None) -> tuple[StepGraph, Graph | None]:
    """Return the step that a file is or that is made of it, and the window's graph where it is known."""
    whole = Graph.load(window) if window is not None else None
    if not _is_step(path):
        if hop is None:
            raise InputError(f"{path} is a window's graph: its hop is open", hint="give it with --hop")
        graph = Graph.load(path)
        return stream(graph, hop=hop)[0], whole or graph
    step = StepGraph.load(path)
    if hop is not None and hop != step.hop:
        raise InputError(
            f"{path} takes {step.hop} samples at a time, not {hop}", hint="leave --hop out, or make the step anew"
        )
    return step, whole


def _is_step(path: Path) -> bool:
    """Whether a file says that it is a step; what cannot be read is a window's graph, whose loading says why."""
    try:
        proto = read_proto(path.read_bytes(), path.parent)
    except Exception:
        return False
    return any(prop.key == STREAM_KEY for prop in proto.metadata_props)


def _csv(run: Run) -> str:
    """Return the answers as a table: the end of the window in s, then its numbers."""
    text = io.StringIO()
    print("end_s", *(f"y{k}" for k in range(run.answers.shape[1])), sep=",", file=text)
    for end, answer in zip(run.end_s.tolist(), run.answers, strict=True):
        print(f"{end:.6f}", *(f"{value:.9g}" for value in answer.tolist()), sep=",", file=text)
    return text.getvalue()


def run_text(report: dict[str, Any]) -> str:
    """Return the report as a few lines for a person."""
    us, n = report["latency_us"], report["streams"]
    took = ", ".join(f"{name} {value:.0f} us" for name, value in us.items())
    every = report["hop"] / report["sfreq"]
    return "\n".join(
        [
            *report["notes"],
            f"{report['source']}: {report['answers']} answers in {report['steps']} steps of {1e3 * every:g} ms",
            *([f"  streams {n}: the recording has gaps, and each stretch begins anew"] if n > 1 else []),
            *([f"  left    {report['samples_left']} samples that make no whole hop"] if report["samples_left"] else []),
            *([f"  a step  {took}; {report['late']} took longer than a hop"] if us else []),
            *([f"  compared with the window {report['compared']} times: the same"] if report["compared"] else []),
            *([f"  wrote   {report['output']}"] if report["output"] else []),
        ]
    )
