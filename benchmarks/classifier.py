"""A classifier the whole way: windows of two or more classes to a scored report.

    python benchmarks/classifier.py WINDOWS.npz [--subject 1] [--seconds 0.4] [-o classifier.html]

`rtserve.training.train` trains EEGNet on some runs of every person, one run of each chooses the epoch, the other runs
are scored: balanced accuracy with intervals, each view and member on trial. Classes are the sorted values of ``y``.
Made for subject 1 of ../shared/data/muse_ssvep (a flicker of 20 or 30 Hz). Two seconds of it are told apart without a
fault, which shows nothing of views and members; so a piece of each window is taken that leaves room for errors.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from zoo_catalogue import BRAINDECODE, ROOT

from rtserve.errors import InputError, RtserveError
from rtserve.fusion.fuse import fuse
from rtserve.graphs.export import export
from rtserve.graphs.graph import Graph
from rtserve.measure.branch_report import Judged
from rtserve.measure.branches import try_branches
from rtserve.measure.evaluate import evaluate
from rtserve.report.build import write_report
from rtserve.signals.splits import Split
from rtserve.signals.windows import WindowSet, load_windows, save_windows
from rtserve.training.recipe import Recipe
from rtserve.training.seeds import train

NETWORK = f"{ROOT / BRAINDECODE}:EEGNet"
VIEWS = "identity,sign-flip,roll:+3,roll:-3"
MERGE = "mean-logits"


def as_classes(windows: WindowSet, subject: str | None, seconds: float = 0.0) -> WindowSet:
    """Return the windows of one subject (or all) with y as class numbers, of each its middle `seconds` (0 for all).

    Raises
    ------
    InputError
        Where nothing is left, or there is one class only.
    """
    if subject is not None:
        windows = windows.take(windows.subject.astype(str) == subject)
    values = np.unique(windows.y)
    if len(windows) == 0 or len(values) < 2:
        raise InputError(f"{len(windows)} windows of {len(values)} classes", hint="is the subject in the file?")
    y = np.searchsorted(values, windows.y).astype(np.float32)
    n_times = windows.X.shape[2]
    keep = round(seconds * windows.sfreq) if seconds else n_times
    if not 0 < keep <= n_times:
        raise InputError(f"{keep} of {n_times} samples", hint="--seconds is more than 0 and at most a window's length")
    start = (n_times - keep) // 2
    X = np.ascontiguousarray(windows.X[:, :, start : start + keep])
    names = tuple(f"{value:g}" for value in values)
    t0 = windows.t0 + start / windows.sfreq if windows.sfreq else windows.t0
    return dataclasses.replace(windows, X=X, y=y, t0=t0, target="class", classes=names)


def by_run(windows: WindowSet, seed: int) -> Split:
    """Return a split in which each person's runs are train, one is valid, and a third of them test.

    Raises
    ------
    InputError
        Where a person has too few runs.
    """
    marks = np.full(len(windows), "train")
    rng = np.random.default_rng(seed)
    for subject in np.unique(windows.subject):
        own = windows.subject == subject
        runs = rng.permutation(np.unique(windows.run_id[own]))
        if len(runs) < 3:
            raise InputError(f"{len(runs)} runs of {subject}", hint="at least 3: to train, to choose, to score")
        n_test = max(1, len(runs) // 3)
        marks[own & np.isin(windows.run_id, runs[:n_test])] = "test"
        marks[own & (windows.run_id == runs[n_test])] = "valid"
    return Split(marks=marks, by="run", seed=seed)


def graphs_of(windows: WindowSet, split: Split, seeds: Sequence[int], epochs: int, folder: Path) -> list[Graph]:
    """Return one trained graph per seed; seeds that are trained already are reused."""
    recipe = Recipe(model=NETWORK, max_epochs=epochs, patience=0, lr=2e-3)
    name = f"{windows.digest[:8]}-{split.digest[:8]}-{epochs}"
    run = train(windows, split, recipe=recipe, seeds=seeds, output=folder / name, resume=True)
    click.echo("\n".join(run.lines()), err=True)
    spec = windows.input_spec
    settings = {
        "n_chans": spec.n_chans,
        "n_times": spec.n_times,
        "sfreq": spec.sfreq,
        "n_outputs": len(windows.classes),
        "ch_names": list(spec.ch_names),
    }
    return [export(checkpoint, exporter=NETWORK, settings=settings) for checkpoint in run.checkpoints()]


def score(graphs: list[Graph], test: WindowSet, folder: Path) -> list[Path]:
    """Score single, ensemble and ensemble with views; put branches on trial; return the results' files."""
    save_windows(folder / "test.npz", test, force=True)
    ensemble, with_views = fuse(graphs, merge=MERGE), fuse(graphs, views=VIEWS, merge=MERGE)
    with_views.save(folder / "ensemble_views.onnx", force=True)
    ensemble.save(folder / "ensemble.onnx", force=True)
    single, several, both = (
        evaluate(graph, test, name=name)
        for name, graph in (("single", graphs[0]), ("ensemble", ensemble), ("ensemble with views", with_views))
    )
    trial = try_branches(folder / "ensemble_views.onnx", test, by=("view", "member"), members=graphs, cost=False)
    return [
        single.save(folder / "single.json", force=True),
        several.save(folder / "ensemble.json", force=True),
        Judged(evaluation=both, branches=trial).save(folder / "ensemble_views.json", force=True),
    ]


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("windows", type=click.Path(path_type=Path))
@click.option("--subject", help="Only this subject's windows.")
@click.option("--seconds", default=0.4, show_default=True, help="Of each window, its middle; 0 for all of it.")
@click.option("--seeds", default="42,123,456", show_default=True)
@click.option("--epochs", default=60, show_default=True)
@click.option(
    "--work", type=click.Path(path_type=Path), default=ROOT / ".zoo-cache" / "classifier", help="Folder of weights."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results" / "classifier.md"
)
def main(windows: Path, subject: str | None, seconds: float, seeds: str, epochs: int, work: Path, output: Path) -> None:
    torch.set_num_threads(1)
    try:
        work.mkdir(parents=True, exist_ok=True)
        numbers = [int(seed) for seed in seeds.split(",")]
        data = as_classes(load_windows(windows), subject, seconds)
        split = by_run(data, numbers[0])
        graphs = graphs_of(data, split, numbers, epochs, work)
        files = score(graphs, data.take(split.part("test")), work)
        title = f"A classifier, the whole way ({data.X.shape[2]} samples of each window)"
        write_report(files, [output], force=True, title=title)
    except RtserveError as error:
        click.echo(f"error: {error.message}\n  hint: {error.hint}", err=True)
        sys.exit(error.exit_code)
    click.echo(output)


if __name__ == "__main__":
    main()
