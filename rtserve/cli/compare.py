"""``rtserve compare``: two runs, checkpoints, graphs, zips or results side by side."""

from __future__ import annotations

import sys
from typing import Any

import click

from rtserve.cli.output import emit_json, json_option, show, tell, width_of
from rtserve.cli.stated import stated_options

__all__ = ["compare"]


@click.command()
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
@click.option("--data", type=click.Path(), help="Score both again on these windows, each in its own process.")
@click.option("--train", type=click.Path(), help="Windows that were trained on: looked for in --data.")
@click.option("--split", help="Only the windows of --data marked so; by default all, or test where one was trained on.")
@click.option("--exporter", "exporters", multiple=True, help="Of checkpoints; once for both, or twice.")
@click.option("--metric", "metrics", multiple=True, help="As evaluate takes it; by default its own.")
@click.option("--per", metavar="COLUMN[:vote]", help="Score recordings, as evaluate does.")
@click.option("--challenge", help="Which of a zip's networks is scored; by default the one whose target y is.")
@click.option("--profile", help="Contest of a zip; by default what its manifest names, else eeg2025.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option("-o", "--output", type=click.Path(), help="Write the comparison here (.json).")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@stated_options
@json_option
def compare(first: str, second: str, output: str | None, force: bool, as_json: bool, **options: Any) -> None:
    """Compare FIRST and SECOND: settings line by line, and those numbers that mean the same (exit 3 where none do)."""
    from functools import partial

    from rtserve.cli.progress import progress
    from rtserve.errors import NotComparableError
    from rtserve.measure.commands import run_compare
    from rtserve.submission.scoring import predict_zip

    zips = partial(predict_zip, challenge=options.pop("challenge"), profile=options.pop("profile"), assume=tell)
    with progress("comparing", quiet=as_json) as bar:
        result = run_compare(first, second, output=output, force=force, predict_zip=zips, progress=bar, **options)
    if as_json:
        emit_json("comparison", result.to_dict())
    else:
        show("\n".join(result.lines(width_of(sys.stdout))))
    if output:
        tell(f"wrote {output}")
    if not result.comparable:
        raise NotComparableError(f"not comparable: {result.refusals[0]}", hint=result.hint)
