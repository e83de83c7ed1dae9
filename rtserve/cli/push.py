"""``rtserve push``: a graph and its card as the Hugging Face hub takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rtserve.cli.output import conclude, emit_json, json_option, tell

__all__ = ["push"]


@click.command()
@click.argument("graph", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to write into.")
@click.option(
    "--bench", multiple=True, type=click.Path(path_type=Path), help="Result of bench -o for GRAPH; repeatable."
)
@click.option("--title", default="", help="Heading of the card.")
@click.option("--license", "licence", default="", help="As the hub spells it: mit, cc-by-4.0.")
@click.option("--use", default="", metavar="TEXT", help="What it is meant for.")
@click.option("--upload", default="", metavar="ORG/NAME", help="Upload it there (extra hub).")
@click.option("--private", is_flag=True, help="A model that is new there is private.")
@click.option("--force", is_flag=True, help="Replace existing files, and a model that is there.")
@json_option
def push(graph: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Write GRAPH and a card that says what it is, what was proven and measured, and what nobody knows."""
    from rtserve.report.push import push as write

    report = write(graph, output, **options)
    tell(f"wrote {', '.join(str(output / name) for name in report['files'])}")
    conclude(
        f"uploaded to {report['uploaded']}" if report["uploaded"] else "not uploaded: --upload ORG/NAME does that",
        as_json=as_json,
    )
    if as_json:
        emit_json("push", report)
