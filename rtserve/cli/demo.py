"""``rtserve demo``: the whole path in one command."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from rtserve.cli.output import emit_json, json_option, tell
from rtserve.cli.progress import progress

__all__ = ["demo"]


@click.command()
@click.option("-o", "--output", default="rtserve-demo", show_default=True, type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Every step in a fraction of the size; the scores mean little.")
@click.option("--jobs", type=click.IntRange(1), help="Seeds trained at a time; 2 where there are two cores.")
@click.option("--force", is_flag=True, help="Start anew where OUTPUT holds a demo with other settings.")
@json_option
def demo(output: Path, quick: bool, jobs: int | None, force: bool, as_json: bool) -> None:
    """Simulate, train, export, fuse, score, time, build and check: the whole path on this machine, no download."""
    from rtserve.demo import QUICK, DemoSettings, run_demo

    settings = QUICK if quick else DemoSettings()
    outcome = run_demo(output, settings=settings, force=force, n_jobs=jobs, tell=tell, bar=progress)
    if as_json:
        emit_json("demo", outcome.to_dict())
    else:
        click.echo("\n".join(outcome.lines(shutil.get_terminal_size().columns)))
    if outcome.facts["verdict"] == "failed":
        raise click.exceptions.Exit(1)
