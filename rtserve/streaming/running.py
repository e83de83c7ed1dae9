"""Running a source as the command line does it: a recording, a stream of a device, or none of anybody's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import InputError
from rtserve.files import check_writable, readable_file
from rtserve.graphs.graph import STREAM_KEY, Graph, read_proto
from rtserve.streaming.build import stream
from rtserve.streaming.live.fitting import fitting_for
from rtserve.streaming.live.loop import Told, run_loop
from rtserve.streaming.live.synthetic import SyntheticSource
from rtserve.streaming.live.table import writing
from rtserve.streaming.runner import StepRunner
from rtserve.streaming.step_graph import StepGraph
from rtserve.streaming.verify import VerifiedRunner

if TYPE_CHECKING:
    from rtserve.streaming.live.source import Source

__all__ = ["LSL", "SYNTHETIC", "Running", "run_source", "run_text", "step_of"]

LSL, SYNTHETIC = "lsl:", "synthetic"


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a source is run.

    Parameters
    ----------
    hop : int or None
        New samples of a step; of a step graph it is the graph's.
    output : Path or None
        Where the answers go (.csv).
    outlet : str
        Name of a Lab Streaming Layer stream that the answers become; empty for none.
    window : Path or None
        The graph that a step graph was made of, for `verify_every`.
    verify_every : int or None
        Compare every so many answers with the window's graph.
    unit, source_unit : str
        Of the graph's windows, and of the source, where they do not say it.
    filtered : bool
        Whether the samples had what the graph says was done to its windows.
    seconds : float or None
        How many seconds of samples; None until the source ends, or Ctrl-C.
    fast : bool
        Whether synthetic samples come as fast as they are taken.
    force : bool
        Replace an existing output.
    """

    hop: int | None = None
    output: Path | None = None
    outlet: str = ""
    window: Path | None = None
    verify_every: int | None = None
    unit: str = ""
    source_unit: str = ""
    filtered: bool = False
    seconds: float | None = None
    fast: bool = False
    force: bool = False


def run_source(
    graph: Path,
    source: str,
    how: Running,
    *,
    told: Told | None = None,
    said: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run a source through a graph and return the report as JSON values.

    Parameters
    ----------
    graph : Path
        A step graph, or a window's graph with a hop.
    source : str
        A recording, ``lsl:NAME``, or ``synthetic``.
    how : Running
        The rest.
    told : callable, optional
        Called with each answer as it comes.
    said : callable, optional
        Called with what is worth saying before the first answer, and with whatever breaks the order of samples.

    Raises
    ------
    RtserveError
        Where the two do not fit, a comparison fails, or the output may not be written.
    """
    if how.output is not None:
        check_writable(how.output, force=how.force)
    step, whole = step_of(graph, how.hop, how.window)
    runner = _runner(step, whole, how.verify_every)
    with contextlib.ExitStack() as held:
        feed = _source(step, source, how)
        held.callback(feed.close)
        fitting = fitting_for(step, feed.about, unit=how.unit, source_unit=how.source_unit, filtered=how.filtered)
        notes = [*feed.notes, *fitting.causal.said]
        for note in notes:
            said(note)
        tells = [told] if told is not None else []
        if how.output is not None:
            tells.append(held.enter_context(writing(how.output, step.output_spec.n_outputs, force=how.force)))
        if how.outlet:
            from rtserve.streaming.live.lsl import LslOutlet

            tells.append(held.enter_context(contextlib.closing(LslOutlet(how.outlet, step, feed.about.sfreq))))
        lap = run_loop(
            runner, feed, fitting, told=tells, until_s=how.seconds, broken=lambda at, why: said(f"{at:.3f} s: {why}")
        )
    return {
        "graph": str(graph),
        "source": source,
        "hop": step.hop,
        "window": step.input_spec.n_times,
        "sfreq": feed.about.sfreq,
        "answers": lap.answers,
        "steps": lap.steps,
        "streams": lap.streams,
        "breaks": dict(lap.breaks),
        "samples_left": lap.left,
        "compared": runner.ever_compared if isinstance(runner, VerifiedRunner) else 0,
        "latency_us": lap.step_us.to_dict(),
        "answer_us": lap.answer_us.to_dict(),
        "late": lap.misses,
        "output": str(how.output) if how.output is not None else None,
        "outlet": how.outlet or None,
        "notes": notes,
    }


def _runner(step: StepGraph, whole: Graph | None, every: int | None) -> StepRunner | VerifiedRunner:
    if every is None:
        return StepRunner(step)
    if whole is None:
        raise InputError("there is no window's graph to compare with", hint="name it: --window F.onnx")
    return VerifiedRunner(step, whole, every=every)


def _source(step: StepGraph, text: str, how: Running) -> Source:
    """Return what is run."""
    if text == SYNTHETIC:
        return SyntheticSource(step, seconds=how.seconds, paced=not how.fast)
    if how.fast:
        raise InputError(f"--fast is of the synthetic source, not of {text}", hint="leave it out")
    if text.startswith(LSL):
        from rtserve.streaming.live.lsl import LslSource

        return LslSource(text.removeprefix(LSL))
    from rtserve.streaming.live.recorded import RecordedSource
    from rtserve.streaming.recording import signal_for, volts_to

    volts_to(step.input_spec, how.unit, Path(text).name)  # a unit that is not known is refused before anything is read
    return RecordedSource(signal_for(step, Path(text)), step.hop)


def step_of(path: Path, hop: int | None, window: Path | None) -> tuple[StepGraph, Graph | None]:
    """Return the step that a file is or that is made of it, and the window's graph where it is known."""
    whole = Graph.load(window) if window is not None else None
    if not _is_step(path):
        if hop is None:
            readable_file(path, "graph")
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


def run_text(report: dict[str, Any]) -> str:
    """Return the report as a few lines for a person; what was said before is not said again."""
    n, every = report["streams"], report["hop"] / report["sfreq"]
    breaks = ", ".join(f"{count} x {kind}" for kind, count in report["breaks"].items())
    lines = [f"{report['source']}: {report['answers']} answers in {report['steps']} steps of {1e3 * every:g} ms"]
    if report["steps"] and not report["answers"]:
        lines.append(f"  a window is {report['window']} samples: no stretch was that long")
    lines += [f"  streams {n}, each begun anew: {breaks}"] if n > 1 else []
    lines += [f"  left    {report['samples_left']} samples that make no whole hop"] if report["samples_left"] else []
    lines += [f"  a step  {_times(report['latency_us'])}"] if report["latency_us"] else []
    if report["answer_us"]:
        lines.append(f"  answers {_times(report['answer_us'])} from a window's last sample")
    lines += [f"  late    {report['late']} of {report['steps']}: later than a hop"] if report["steps"] else []
    lines += [f"  compared with the window {report['compared']} times: the same"] if report["compared"] else []
    lines += [f"  wrote   {report['output']}"] if report["output"] else []
    return "\n".join(lines)


def _times(us: dict[str, float]) -> str:
    shown = ", ".join(f"{name} {us[name]:.0f}" for name in ("p50", "p99", "p99.9"))
    return f"{shown}, jitter (std) {us['jitter']:.0f}, longest {us['max']:.0f} us"
