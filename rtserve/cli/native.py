"""``rtserve compile``: a graph as native code."""

from __future__ import annotations

from pathlib import Path

import click

from rtserve.cli.output import conclude, emit_json, json_option, working


@click.command(name="compile")
@click.argument("graph", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .so to write.")
@click.option("--threaded", is_flag=True, help="Let several threads compute a window together.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def compile_native(graph: Path, output: Path, threaded: bool, force: bool, as_json: bool) -> None:
    """Compile GRAPH (.onnx) to a shared library, its weights and its description, proven to give its numbers."""
    from rtserve.graphs.native import compile_text, compile_to_file

    with working(f"compiling {graph.name}", quiet=as_json):
        report = compile_to_file(graph, output, force=force, threaded=threaded)
    conclude(compile_text(report), as_json=as_json)
    if as_json:
        emit_json("compile", report)
