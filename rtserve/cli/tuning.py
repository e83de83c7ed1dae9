"""``rtserve tune``: which engine is fastest for a graph on this machine."""

from __future__ import annotations

import sys
from typing import Any

import click

from rtserve.cli.output import emit_json, json_option, show, tell, width_of


@click.command()
@click.argument("graph", type=click.Path())
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Windows per call.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=54, show_default=True, help="Rounds by turns.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of input and order.")
@click.option("--force", is_flag=True, help="Replace an answer that is there.")
@json_option
def tune(graph: str, as_json: bool, **options: Any) -> None:
    """Time GRAPH in every engine that is here, by turns, and write GRAPH's .tuned.json for `--engine auto`."""
    from rtserve.cli.progress import progress
    from rtserve.measure.tuned import place_of
    from rtserve.measure.tuned import tune as find

    with progress("timing", quiet=as_json) as callback:
        found = find(graph, progress=callback, **options)
    if as_json:
        emit_json("tuned", found.to_dict())
    else:
        show("\n".join(found.lines(width_of(sys.stdout))))
    tell(f"wrote {place_of(graph)}")
