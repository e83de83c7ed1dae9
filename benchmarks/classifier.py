"""A classifier the whole way: windows of two or more classes to a scored report.

    python benchmarks/classifier.py WINDOWS.npz [--subject 1] [-o classifier.html]

Trains EEGNet on some runs of a recording, exports every seed, fuses the seeds with and without views, and scores on the
runs left out: balanced accuracy with intervals, each view and member on trial. Classes are the sorted values of ``y``.
Made for ../shared/data/muse_ssvep (a flicker of 20 or 30 Hz: a positive control); any window set with classes will do.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn
from zoo_catalogue import BRAINDECODE, ROOT

from rtserve.errors import InputError, RtserveError
from rtserve.files import canonical_json, sha256_bytes, sha256_file
from rtserve.fusion.fuse import fuse
from rtserve.graphs.export import export
from rtserve.graphs.exporter import resolve_exporter
from rtserve.graphs.graph import Graph
from rtserve.measure.branch_report import Judged
from rtserve.measure.branches import try_branches
from rtserve.measure.evaluate import evaluate
from rtserve.report.build import write_report
from rtserve.signals.windows import WindowSet, load_windows, save_windows

NETWORK = f"{ROOT / BRAINDECODE}:EEGNet"
FIRST = "conv_temporal.weight"
SCALE = 1e5
"""Training sees windows of about 1; the factor goes into the first convolution before the weights are saved."""
VIEWS = "identity,sign-flip,roll:+3,roll:-3"
MERGE = "mean-logits"


def as_classes(windows: WindowSet, subject: str | None) -> WindowSet:
    """Return the windows of one subject (or all) with y as class numbers.

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
    return dataclasses.replace(windows, y=y, target="class")


def by_run(windows: WindowSet, seed: int, held_out: int) -> tuple[WindowSet, WindowSet]:
    """Return training and test windows; no run is in both.

    Raises
    ------
    InputError
        Where the file names too few runs.
    """
    runs = np.unique(windows.run_id)
    if len(runs) <= held_out:
        raise InputError(f"{len(runs)} runs, {held_out} to hold out", hint="give windows of more runs, or --held-out 1")
    chosen = np.random.default_rng(seed).permutation(runs)[:held_out]
    test = np.isin(windows.run_id, chosen)
    return windows.take(~test), windows.take(test)


def settings_of(windows: WindowSet) -> dict[str, Any]:
    """Return the exporter settings of EEGNet for these windows."""
    spec = windows.input_spec
    return {
        "n_chans": spec.n_chans,
        "n_times": spec.n_times,
        "sfreq": spec.sfreq,
        "n_outputs": int(windows.y.max()) + 1,
        "ch_names": list(spec.ch_names),
        "target": "class",
    }


def train(windows: WindowSet, settings: dict[str, Any], seed: int, epochs: int) -> dict[str, torch.Tensor]:
    """Train one network on volts and return its weights."""
    torch.manual_seed(seed)
    network = resolve_exporter(NETWORK)({}, settings).network.train()
    X, y = torch.from_numpy(windows.X) * SCALE, torch.from_numpy(windows.y).long()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for index in torch.randperm(len(X), generator=generator).split(32):
            if len(index) < 2:
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[index]), y[index]).backward()
            optimizer.step()
    state = {key: value.detach().clone() for key, value in network.state_dict().items()}
    state[FIRST] *= SCALE
    return state


def graphs_of(train_set: WindowSet, seeds: Sequence[int], epochs: int, folder: Path) -> list[Graph]:
    """Return one trained graph per seed; what is there already is kept."""
    settings = settings_of(train_set)
    made_of = canonical_json([train_set.digest, settings, epochs, sha256_file(ROOT / BRAINDECODE)])
    name = sha256_bytes(made_of.encode())[:12]
    graphs = []
    for seed in seeds:
        path = folder / f"seed{seed}-{name}.onnx"
        if not path.is_file():
            click.echo(f"train and export seed {seed}", err=True)
            weights = path.with_suffix(".pth")
            torch.save(train(train_set, settings, seed, epochs), weights)
            export(weights, exporter=NETWORK, settings=settings).save(path)
        graphs.append(Graph.load(path))
    return graphs


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
@click.option("--held-out", default=2, show_default=True, help="Runs to score on.")
@click.option("--seeds", default="42,123,456", show_default=True)
@click.option("--epochs", default=60, show_default=True)
@click.option(
    "--work", type=click.Path(path_type=Path), default=ROOT / ".zoo-cache" / "classifier", help="Folder of weights."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results" / "classifier.md"
)
def main(windows: Path, subject: str | None, held_out: int, seeds: str, epochs: int, work: Path, output: Path) -> None:
    torch.set_num_threads(1)
    try:
        work.mkdir(parents=True, exist_ok=True)
        numbers = [int(seed) for seed in seeds.split(",")]
        train_set, test = by_run(as_classes(load_windows(windows), subject), numbers[0], held_out)
        click.echo(f"{len(train_set)} windows to train on, {len(test)} to score on", err=True)
        files = score(graphs_of(train_set, numbers, epochs, work), test, work)
        write_report(files, [output], force=True, title="A classifier, the whole way")
    except RtserveError as error:
        click.echo(f"error: {error.message}\n  hint: {error.hint}", err=True)
        sys.exit(error.exit_code)
    click.echo(output)


if __name__ == "__main__":
    main()
