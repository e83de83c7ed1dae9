"""``rtserve stream``: the command of the room streaming."""

from __future__ import annotations

from pathlib import Path

import click

from rtserve.cli.output import emit_json, json_option, tell, working


@click.command()
@click.argument("graph", type=click.Path(path_type=Path))
@click.option("--hop", required=True, type=int, metavar="N", help="New samples from one answer to the next.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The step graph to write (.onnx).")
@click.option("--explain", is_flag=True, help="Say for every layer what is shared, what is computed anew, and why.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def stream(graph: Path, hop: int, output: Path, explain: bool, force: bool, as_json: bool) -> None:
    """Turn a window's GRAPH into a step that takes N new samples and gives the same answers."""
    from rtserve.streaming.report import stream_text, stream_to_file

    with working(f"streaming {graph.name}"):
        report = stream_to_file(graph, output, hop=hop, force=force)
    tell(stream_text(report, explain=explain))
    if as_json:
        emit_json("stream", report)
