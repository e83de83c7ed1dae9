"""``rtserve search``: members, views and weights under a latency budget."""

from __future__ import annotations

import sys
from typing import Any

import click

from rtserve.cli.choice import OneOf
from rtserve.cli.output import emit_json, json_option, show, tell, width_of
from rtserve.cli.stated import stated_options

__all__ = ["search"]


@click.command()
@click.argument("graphs", nargs=-1, type=click.Path())
@click.option("--members", multiple=True, type=click.Path(), help="Graphs to choose from; same as GRAPHS.")
@click.option("--views", default="identity", show_default=True, help="Comma-separated; the first is the plain one.")
@click.option("--also", multiple=True, type=click.Path(), help="Graphs that compete as they are, e.g. a soup.")
@click.option("--data", required=True, type=click.Path(), help="Validation windows that no member was trained on.")
@click.option("--split", default="all", show_default=True, help="Choose on the windows marked so; test is told on.")
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.4,
    show_default=True,
    help="Share of subjects set aside.",
)
@click.option("--budget-us", type=click.FloatRange(0, min_open=True), default=float("inf"), help="Per window, here.")
@click.option("--metric", help="To be best in, as evaluate takes it; by default NRMSE, or balanced accuracy.")
@click.option("--average", type=OneOf(["logits", "probabilities"]), help="What a merge of classifiers is of.")
@click.option("--weights/--no-weights", default=True, help="Also fit weights of branches.")
@click.option("--calibrate/--no-calibrate", default=True, help="Also fit a scale and offset.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Processes for the predictions; -1 for all cores.")
@click.option("--backend", default="loky", show_default=True, help="joblib's backend: loky, threading, dask.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--challenge", default="1", show_default=True, help="Which challenge the recipe is for.")
@click.option("--profile", default="eeg2025", show_default=True)
@click.option("--base", type=click.Path(), help="Recipe whose other challenges are kept.")
@click.option("-o", "--output", type=click.Path(), help="Write the choice here (.toml), the report beside it (.json).")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
@stated_options
@json_option
def search(graphs: tuple[str, ...], members: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Choose members of GRAPHS, views and weights under a budget; the gain is told on subjects without a say."""
    from rtserve.cli.progress import progress
    from rtserve.measure.commands import run_search
    from rtserve.submission.ranking import named_metrics

    if options["metric"]:
        profile = options["profile"]
        named = profile if "/" in profile else f"{profile}/{options['challenge']}"
        (options["metric"],) = named_metrics([options["metric"]], named)
    options["average"] = options["average"] or ""
    with progress("fusing and timing", quiet=as_json) as callback:
        report, written = run_search((*graphs, *members), progress=callback, **options)
    if as_json:
        emit_json("search", report.to_dict())
    else:
        show("\n".join(report.lines(width_of(sys.stdout))))
    for path in written:
        tell(f"wrote {path}")
