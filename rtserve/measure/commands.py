"""What the measuring commands do between reading their arguments and printing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import InputError
from rtserve.files import check_writable, file_names
from rtserve.signals.fields import Stated

if TYPE_CHECKING:
    from rtserve.measure.zipped import ZipPredictor
    from rtserve.signals.windows import WindowSet

__all__ = ["run_bench", "run_bench_engines", "run_compare", "run_evaluate", "run_search"]

Pair = tuple[str, str]
_NOTHING = Stated()


def run_evaluate(
    graph: str | None,
    data: str | None,
    c1: Pair | None,
    c2: Pair | None,
    *,
    output: str | None = None,
    force: bool = False,
    stated: Stated = _NOTHING,
    weights: tuple[float, float] | None = None,
    predict_zip: ZipPredictor | None = None,
    **options: Any,
) -> Any:
    """Return an `Evaluation` of GRAPH (or a zip) on --data, or the `Overall` of --c1 and --c2; write it where asked.

    Raises
    ------
    InputError
        Where the arguments name neither or both, or the output may not be written.
    """
    from rtserve.measure.evaluate import evaluate
    from rtserve.measure.overall import evaluate_overall
    from rtserve.measure.predict import as_windows

    if output:
        check_writable(output, force=force)
    options["metrics"] = options.get("metrics") or None
    trial = {key: options.pop(key, None) for key in ("by", "members", "cost")}
    if c1 or c2:
        if not (c1 and c2) or graph or data or options.pop("metrics") or weights is None:
            raise InputError(
                "--c1 and --c2 go together and alone (the overall score is of two NRMSE)",
                hint="rtserve evaluate --c1 F1.onnx W1.npz --c2 F2.onnx W2.npz",
            )
        first, second = ((graph_of, as_windows(windows, stated=stated)) for graph_of, windows in (c1, c2))
        result: Any = evaluate_overall(first, second, weights=weights, **options)
    elif graph and data:
        if trial["by"] and options.get("per"):
            raise InputError("--by judges windows, --per scores recordings", hint="leave one of them out")
        windows = as_windows(data, stated=stated)
        if graph.endswith(".zip") and predict_zip is not None:
            result = _of_zip(graph, windows, predict_zip, options, trial)
        else:
            result = evaluate(graph, windows, **options)
        result = _judged(result, graph, windows, options, trial) if trial["by"] else result
    else:
        raise InputError(f"no {'windows' if graph else 'graph'} to score", hint="rtserve evaluate F.onnx --data W.npz")
    if output:
        result.save(output, force=force)
    return result


def _of_zip(
    path: str, windows: WindowSet, predict_zip: ZipPredictor, options: dict[str, Any], trial: dict[str, Any]
) -> Any:
    """Return the evaluation of a zip through its entry point."""
    from rtserve.measure.zipped import evaluate_zip

    if trial["by"]:
        raise InputError(
            f"--by judges the branches of a graph, and {path} is a zip", hint="give the graph it was built from"
        )
    kept: dict[str, Any] = {key: options.get(key) for key in ("metrics", "split", "per")}
    return evaluate_zip(path, windows, predict_zip, seed=options.get("seed", 0), **kept)


def _judged(result: Any, graph: str, data: WindowSet, options: dict[str, Any], trial: dict[str, Any]) -> Any:
    """Return the evaluation with its branches judged by the first of its metrics."""
    from rtserve.measure.branch_report import Judged
    from rtserve.measure.branches import try_branches

    branches = try_branches(
        graph,
        data,
        by=[kind.strip() for kind in trial["by"].split(",")],
        members=trial["members"] or (),
        metric=options["metrics"][0] if options["metrics"] else None,
        split=options.get("split"),
        cost=trial["cost"] is not False,
        seed=options.get("seed", 0),
        progress=options.get("progress"),
    )
    new = tuple(note for note in branches.notes if note not in result.notes)
    return Judged(evaluation=result, branches=replace(branches, notes=new))


def run_bench(graph: str, *, output: str | None = None, force: bool = False, **options: Any) -> Any:
    """Return the `BenchReport` of GRAPH; write it where asked. Raises as `rtserve.measure.bench.bench`."""
    from rtserve.measure.bench import bench

    if output:
        check_writable(output, force=force)
    report = bench(graph, **options)
    if output:
        report.save(output, force=force)
    return report


def run_bench_engines(
    graph: str, *, output: str | None = None, force: bool = False, batch: int | None = None, **options: Any
) -> Any:
    """Return GRAPH in every engine that is here, side by side; write it where asked.

    Raises
    ------
    InputError
        Where another graph or a hop is given too: engines are compared on one graph, call by call.
    """
    from rtserve.measure.results import save_result
    from rtserve.measure.tuned import side_by_side

    taken = {key: options.pop(key) for key in ("threads", "rounds", "seed", "progress")}
    options.pop("engine")
    options["loop"] = options["loop"] if options["loop"] != 1 else None
    if given := next((name for name, value in options.items() if value), None):
        raise InputError(
            f"--engine all compares engines on one graph, and --{given.replace('_', '-')} is given",
            hint="name one engine to compare graphs or to keep a hop",
        )
    if output:
        check_writable(output, force=force)
    found = side_by_side(graph, batch=batch or 1, **taken)
    if output:
        save_result(output, "tuned", found.to_dict(), force=force)
    return found


def run_compare(first: str, second: str, *, output: str | None = None, force: bool = False, **options: Any) -> Any:
    """Return the `Comparison` of two sides; write it where asked. Raises as `rtserve.measure.compare.compare`."""
    from rtserve.measure.compare import compare

    if output:
        check_writable(output, force=force)
    result = compare(first, second, **options)
    if output:
        result.save(output, force=force)
    return result


def run_search(
    members: tuple[str, ...],
    *,
    data: str,
    output: str | None = None,
    force: bool = False,
    challenge: str = "1",
    profile: str = "eeg2025",
    base: str | None = None,
    stated: Stated = _NOTHING,
    **options: Any,
) -> tuple[Any, list[Path]]:
    """Return the `SearchReport` and what was written: the recipe, its weights, the report. Raises as `search`."""
    from rtserve.measure.predict import as_windows
    from rtserve.measure.search import search
    from rtserve.measure.search_recipe import write_recipe

    report_path = Path(output).with_suffix(".json") if output else None
    if output and report_path:
        check_writable(output, force=force)
        check_writable(report_path, force=force)
    names = file_names([*members, *options.get("also", ())])
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice} is given twice", hint="name each graph once")
    report = search(members, as_windows(data, stated=stated), **options)
    if not output or not report_path:
        return report, []
    files = dict(zip(names, (*members, *options.get("also", ())), strict=True))
    written = write_recipe(report.choice, files, output, challenge=challenge, profile=profile, base=base, force=force)
    return report, [*written, report.save(report_path, force=force)]
