"""Commands that measure: what a graph is worth, and what it costs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from rtserve.cli.engine import EngineChoice
from rtserve.cli.output import emit_json, json_option, show, tell, width_of
from rtserve.cli.stated import stated_options
from rtserve.graphs.engines import ENGINES

if TYPE_CHECKING:
    from rtserve.measure.continuous import Continuous

__all__ = ["bench", "evaluate"]

_METRICS = (
    "nrmse, rmse, mse, mae, smooth_l1, pearson, nrmse:range, nrmse:iqr, nrmse:mean,"
    " binned_mae:edges=A,B,..[:weights=..][:by=recording][:groups=COLUMN];"
    " of classes balanced_accuracy, accuracy, kappa, f1, auc, log_loss, cell_balanced_accuracy:by=COLUMNS;"
    " of vectors retrieval[:top=5][:average=subject], angular_mae[:unit=deg]"
)
_ENGINES = EngineChoice(ENGINES)
_WITH_AUTO = EngineChoice((*ENGINES, "auto"))
_WITH_ALL = EngineChoice((*ENGINES, "auto", "all"))


@click.command()
@click.argument("graph", required=False, type=click.Path())
@click.option("--data", type=click.Path(), help="Window set (.npz, .h5) to score GRAPH on.")
@click.option("--c1", nargs=2, type=click.Path(), metavar="GRAPH DATA", help="Graph and windows of challenge 1.")
@click.option("--c2", nargs=2, type=click.Path(), metavar="GRAPH DATA", help="Graph and windows of challenge 2.")
@click.option("--metric", "metrics", multiple=True, help=f"May be repeated: {_METRICS}; or profile, the contest's own.")
@click.option(
    "--profile", metavar="NAME[/CHALLENGE]",
    help="Whose metric and weights; by default what a zip's manifest names, else eeg2025.",
)  # fmt: skip
@click.option(
    "--split", help="Only the windows marked so; by default all, or test where GRAPH was trained on the rest."
)
@click.option("--per", metavar="COLUMN[:vote]", help="Score recordings: the mean of their windows' answers, or a vote.")
@click.option("--tables", is_flag=True, help="Also print the confusion matrix, each class and each subject.")
@click.option(
    "--engine", type=_WITH_AUTO, default="onnxruntime", show_default=True, help="auto: as rtserve tune found."
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--batch", type=click.IntRange(1), help="Windows per call; by default what fits in 2 MiB.")
@click.option("--continuous", type=click.Path(), metavar="RAW", help="Score GRAPH (its step) on all of a recording.")
@click.option("--hop", type=click.IntRange(1), metavar="N", help="With --continuous and a window's GRAPH: new samples.")
@click.option("--band", metavar="LOW,HIGH", help="With --continuous: filter to this band in Hz, 0 for an open end.")
@click.option("--filtered", is_flag=True, help="With --continuous: RAW had what the graph's windows had.")
@click.option("--elsewhere", default="", metavar="CLASS", help="With --continuous: class of what is in no segment.")
@click.option("--by", help="Put branches of a fused GRAPH on trial: view, member, or view,member.")
@click.option("--members", multiple=True, type=click.Path(), help="Its member graphs, where not beside it.")
@click.option("--cost/--no-cost", default=True, help="With --by: also time GRAPH without each branch.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option("-o", "--output", type=click.Path(), help="Write scores and raw predictions here (.json).")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@stated_options
@json_option
def evaluate(
    graph: str | None, data: str | None, c1: tuple[str, str] | None, c2: tuple[str, str] | None, **options: Any
) -> None:
    """Score GRAPH on windows: NRMSE = RMSE / std(y), RMSE and MSE beside the constant baseline.

    A zip is scored through its entry point, in the sandbox, as the challenge of --profile whose target y is.
    With --c1 and --c2 the overall score of the profile is given: 0.3 C1 + 0.7 C2 of eeg2025.
    With --continuous every window of a recording is scored that lies in a segment (an annotation with a duration).
    """
    from functools import partial

    from rtserve.cli.progress import progress
    from rtserve.measure.commands import run_evaluate
    from rtserve.submission.ranking import contest_of, named_metrics, weights_of
    from rtserve.submission.scoring import predict_zip

    output, as_json, tables = options["output"], options.pop("as_json"), options.pop("tables")
    profile = contest_of(graph, options.pop("profile"))
    options["metrics"] = named_metrics(options["metrics"], profile)
    streamed = {key: options.pop(key) for key in ("continuous", "hop", "band", "filtered", "elsewhere")}
    if streamed["continuous"]:
        given = {"data": data, "c1": c1, "c2": c2} | {key: options[key] for key in ("per", "by", "members", "batch")}
        given["threads"] = options["threads"] > 1
        result: Any = _continuous(graph, streamed, given, options, as_json=as_json)
    else:
        _require_unused(streamed)
        options["weights"] = weights_of(profile) if c1 and c2 else None
        _settle_engine(graph, options)
        with progress("scoring and timing" if options["by"] else "scoring", quiet=as_json) as callback:
            zips = partial(predict_zip, profile=profile)
            result = run_evaluate(graph, data, c1, c2, progress=callback, predict_zip=zips, **options)
    if as_json:
        emit_json("overall" if c1 else "evaluation", result.to_dict(raw=False))
    else:
        show("\n".join(result.lines() + (result.table_lines(width_of(sys.stdout)) if tables else [])))
    if output:
        tell(f"wrote {output}")


@click.command()
@click.argument("graph", type=click.Path())
@click.option("--against", multiple=True, type=click.Path(), help="Graph to compare with; may be repeated.")
@click.option(
    "--engine",
    type=_WITH_ALL,
    default="onnxruntime",
    show_default=True,
    help="auto: as rtserve tune found; all: every one that is here, side by side.",
)
@click.option("--against-engine", type=_ENGINES, help="Engine of the others; the same by default.")
@click.option("--batch", type=click.IntRange(1), show_default="1", help="Windows per call.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--loop", type=click.IntRange(1), default=1, show_default=True, help="Runs of each other per call.")
@click.option("--rounds", type=click.IntRange(1), default=54, show_default=True, help="Rounds by turns.")
@click.option("--hop-ms", type=click.FloatRange(0, min_open=True), help="One call per hop: jitter, p99.9, misses.")
@click.option("--hops", type=click.IntRange(1), help="How many; by default 0.2 s of them per round.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of input and order.")
@click.option("-o", "--output", type=click.Path(), help="Write summary and raw times here (.json).")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def bench(graph: str, output: str | None, force: bool, as_json: bool, **options: Any) -> None:
    """Time GRAPH: latency per window p50/p90/p99 and throughput, and its ratio to others by turns with it."""
    from rtserve.cli.progress import progress
    from rtserve.measure.commands import run_bench, run_bench_engines

    every = options["engine"] == "all"
    _settle_engine(graph, options)
    with progress("timing", quiet=as_json) as callback:
        run = run_bench_engines if every else run_bench
        report = run(graph, output=output, force=force, progress=callback, **options)
    if as_json:
        emit_json("tuned" if every else "bench", report.to_dict() if every else report.to_dict(raw=False))
    else:
        show("\n".join(report.lines(width_of(sys.stdout))))
    if output:
        tell(f"wrote {output}")


def _require_unused(streamed: dict[str, Any]) -> None:
    """Raise `InputError` where an option of --continuous stands without it."""
    from rtserve.errors import InputError

    for key, value in streamed.items():
        if value:
            raise InputError(f"--{key} is of a recording, and none is named", hint="name it: --continuous RAW")


def _continuous(
    graph: str | None, streamed: dict[str, Any], given: dict[str, Any], options: dict[str, Any], *, as_json: bool
) -> Continuous:
    """Score a graph on a recording."""
    from rtserve.cli.progress import progress
    from rtserve.errors import InputError
    from rtserve.measure.continuous import evaluate_continuous
    from rtserve.signals.options import band

    wrong = next((key for key, value in given.items() if value), None)
    if wrong or not graph:
        raise InputError(
            f"--continuous and --{wrong} do not go together" if wrong else "no graph to score",
            hint="rtserve evaluate S.onnx --continuous RAW",
        )
    _settle_engine(graph, options)
    kept = {key: options[key] for key in ("metrics", "stated", "split", "engine", "output", "force")}
    kept |= {"band": band(streamed["band"]) if streamed["band"] else None}
    kept |= {key: streamed[key] for key in ("hop", "filtered", "elsewhere")}
    with progress("streaming", quiet=as_json) as callback:
        return evaluate_continuous(graph, streamed["continuous"], progress=callback, **kept)


def _settle_engine(graph: str | None, options: dict[str, Any]) -> None:
    """Put the engine that `rtserve tune` found in the place of ``auto``, and say which it is."""
    if options["engine"] != "auto":
        return
    from rtserve.errors import InputError
    from rtserve.measure.tuned import tuned_engine

    if not graph or not graph.endswith(".onnx"):
        raise InputError("--engine auto is for one graph (.onnx)", hint="name an engine with --engine")
    options["engine"] = tuned_engine(graph, batch=options["batch"], threads=options["threads"])
    tell(f"engine {options['engine']}: what rtserve tune found for {graph} here")
