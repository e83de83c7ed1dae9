"""``rtserve report``: one page from results, runs and zips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rtserve.cli.output import emit_json, json_option, tell
from rtserve.cli.progress import Bar, progress

__all__ = ["report"]

TITLE = "What the networks are worth, and what they cost"


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o", "--output", "outputs", multiple=True, required=True, type=click.Path(), help=".html or .md; repeat."
)
@click.option("--title", default=TITLE, show_default=True)
@click.option("--leaderboard", type=click.Path(), help="CSV or JSON with scores: adds the rank.")
@click.option("--column", help="The leaderboard's column of scores.")
@click.option("--score", type=float, help="To place on it; that of an overall result by default.")
@click.option("--higher-is-better", is_flag=True, help="Direction of the leaderboard.")
@click.option("--causes", type=click.Path(), help="JSON or CSV: name and what was found to be the cause.")
@click.option("--index", is_flag=True, help="A page for each of RUNS beside the output, which lists them.")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
@json_option
def report(
    runs: tuple[str, ...], outputs: tuple[str, ...], index: bool, force: bool, as_json: bool, **options: Any
) -> None:
    """Write a report of RUNS: results (.json), run folders, checkpoints, graphs, zips, or folders of them."""
    with progress("reading", quiet=as_json) as bar:
        if index:
            written = _index(runs, outputs, force=force, bar=bar, **options)
        else:
            from rtserve.report.build import write_report

            written = write_report(runs, outputs, force=force, progress=bar, **options)
    for path in written:
        tell(f"wrote {path}")
    if as_json:
        emit_json("report", {"written": [str(path) for path in written]})


def _index(
    runs: tuple[str, ...], outputs: tuple[str, ...], *, title: str, force: bool, bar: Bar, **others: Any
) -> list[Path]:
    """Write an index for each output; what is about one page alone is refused."""
    from rtserve.report.index import write_index

    given = [f"--{name.replace('_', '-')}" for name, value in others.items() if value not in (None, False)]
    if given:
        raise click.UsageError(f"--index takes no {', '.join(given)}: each page is of its own")
    own = {} if title == TITLE else {"title": title}
    return [path for output in outputs for path in write_index(runs, output, force=force, progress=bar, **own)]
