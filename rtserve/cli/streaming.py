"""``rtserve stream`` and ``rtserve run``: the commands of the room streaming."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rtserve.cli.choice import OneOf
from rtserve.cli.engine import EngineChoice
from rtserve.cli.output import conclude, emit_json, json_option, tell, width_of, working
from rtserve.graphs.engines import LAYOUTS

if TYPE_CHECKING:
    import numpy as np


@click.command()
@click.argument("graph", type=click.Path(path_type=Path))
@click.option("--hop", required=True, type=int, metavar="N", help="New samples from one answer to the next.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The step graph to write (.onnx).")
@click.option(
    "--engine", type=EngineChoice(LAYOUTS), default="onnxruntime", show_default=True,
    help="Lay the step out for this engine; the numbers are the same in every one.",
)  # fmt: skip
@click.option("--explain", is_flag=True, help="Say for every layer what is shared, what is computed anew, and why.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def stream(graph: Path, hop: int, output: Path, engine: str, explain: bool, force: bool, as_json: bool) -> None:
    """Turn a window's GRAPH into a step that takes N new samples and gives the same answers."""
    from rtserve.streaming.report import stream_text, stream_to_file

    with working(f"streaming {graph.name}", quiet=as_json):
        report = stream_to_file(graph, output, hop=hop, engine=engine, force=force)
    conclude(stream_text(report, explain=explain, width=width_of(sys.stderr)), as_json=as_json)
    if as_json:
        emit_json("stream", report)


_UNITS = OneOf(["V", "mV", "uV"])


@click.command()
@click.argument("graph", type=click.Path(path_type=Path))
@click.option(
    "--source", required=True, metavar="FILE|lsl:NAME|synthetic", help="A recording, a stream, or made-up EEG."
)
@click.option("--hop", type=int, metavar="N", help="For a window's graph: new samples from one answer to the next.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the answers here (.csv).")
@click.option(
    "--outlet", default="", metavar="NAME", help="Send the answers as a Lab Streaming Layer stream of this name."
)
@click.option(
    "--for", "seconds", type=click.FloatRange(0, min_open=True), help="Seconds of samples; else until Ctrl-C."
)
@click.option("--verify-every", type=click.IntRange(1), metavar="N", help="Compare every N-th answer with the window.")
@click.option(
    "--window", type=click.Path(path_type=Path), help="The graph that a step graph was made of, to compare with."
)
@click.option("--unit", type=_UNITS, help="Unit of the graph's windows, where it does not say it.")
@click.option("--source-unit", type=_UNITS, help="Unit of the stream, where it does not say it.")
@click.option("--filtered", is_flag=True, help="The samples had what the graph's windows had.")
@click.option("--fast", is_flag=True, help="Synthetic samples as fast as they are taken.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def run(graph: Path, source: str, as_json: bool, **options: Any) -> None:
    """Run a recording or a live stream through GRAPH, a step graph, hop after hop; print its answers."""
    from rtserve.streaming.running import Running, run_source, run_text

    options |= {key: options[key] or "" for key in ("unit", "source_unit")}
    quiet = as_json or options["output"] is not None or bool(options["outlet"])
    report = run_source(graph, source, Running(**options), told=None if quiet else _answer, said=tell)
    conclude(run_text(report), as_json=as_json)
    if as_json:
        emit_json("run", report)


def _answer(end_s: float, y: np.ndarray) -> None:
    """Print an answer and where its window ends."""
    click.echo(f"{end_s:.3f} s  " + " ".join(f"{value:.6g}" for value in y.tolist()))
