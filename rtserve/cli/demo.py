"""``rtserve demo``: the whole path in one command."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

import click

from rtserve.cli.output import emit_json, json_option, moves, show, tell
from rtserve.cli.progress import progress

__all__ = ["demo"]


@click.command()
@click.option("-o", "--output", default="rtserve-demo", show_default=True, type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Every step in a fraction of the size; the scores mean little.")
@click.option("--jobs", type=click.IntRange(1), help="Seeds trained at a time; 2 where there are two cores.")
@click.option("--force", is_flag=True, help="Start anew where OUTPUT holds a demo with other settings.")
@click.option("--live", is_flag=True, help="Run the graph of a demo that is there on made-up EEG, in the terminal.")
@click.option(
    "--for", "seconds", type=click.FloatRange(0, min_open=True), help="With --live: seconds; else until Ctrl-C."
)
@json_option
def demo(
    output: Path, quick: bool, jobs: int | None, force: bool, live: bool, seconds: float | None, as_json: bool
) -> None:
    """Simulate, train, export, fuse, score, time, build and check: the whole path on this machine, no download."""
    if live:
        unused = next((name for name, given in (("quick", quick), ("jobs", jobs), ("force", force)) if given), None)
        if unused:
            raise click.UsageError(f"--{unused} is not of --live")
        _live(output, seconds, as_json=as_json)
        return
    if seconds is not None:
        raise click.UsageError("--for is of --live")
    from rtserve.demo import QUICK, DemoSettings, run_demo

    settings = QUICK if quick else DemoSettings()
    outcome = run_demo(
        output, settings=settings, force=force, n_jobs=jobs, tell=tell, bar=partial(progress, quiet=as_json)
    )
    if as_json:
        emit_json("demo", outcome.to_dict())
    else:
        show("\n".join(outcome.lines(shutil.get_terminal_size().columns)))
    if outcome.facts["verdict"] == "failed":
        raise click.exceptions.Exit(1)


def _live(output: Path, seconds: float | None, *, as_json: bool) -> None:
    """Show the demo's graph at work: in place on a terminal, a line a second elsewhere."""
    from rtserve.demo.live import BLOCKS, PLAIN, watch_live

    encoding = sys.stdout.encoding or "utf-8"
    try:
        BLOCKS.encode(encoding)
        levels = BLOCKS
    except UnicodeEncodeError:
        levels = PLAIN
    columns = shutil.get_terminal_size().columns
    width = max(20, min(100, columns - 24))
    if moves(sys.stdout) and not as_json:
        from rich.live import Live
        from rich.text import Text

        with Live(refresh_per_second=10, transient=True) as picture:
            report = watch_live(
                output, show=lambda lines: picture.update(Text("\n".join(lines))), width=width, levels=levels,
                seconds=seconds,
            )  # fmt: skip
    else:
        report = watch_live(
            output, width=width, levels=levels, seconds=seconds, every_s=1.0,
            show=lambda lines: None if as_json else click.echo(lines[2]),
        )  # fmt: skip
    if as_json:
        emit_json("live", report)
    else:
        show("\n".join(report["lines"]))
