"""An ensemble of 40 depthwise TCNs, as a podium team shipped one: fused, built, checked, and timed against the loop.

    python benchmarks/tcn40.py

Four kernel sizes x two depths x five seeds, weights drawn at random (the cost does not depend on them). Every member
is exported from a checkpoint of its own by ``exporters/depthwise_tcn.py``; exports are kept, so a run that was
interrupted goes on.
Timed by turns, one thread, one window: the fused graph, the loop of 40 onnxruntime sessions, the loop of 40 eager
networks. Results: ``results/tcn40.json`` and ``results/tcn40.md``.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from zoo_catalogue import ROOT, Entry, Shape
from zoo_lock import held
from zoo_network import build, randomise, save_checkpoint
from zoo_time import window

from rtserve.errors import RtserveError
from rtserve.files import sha256_bytes, sha256_file, write_bytes
from rtserve.fusion.fuse import fuse_with_report
from rtserve.graphs.export import export
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.measure.results import environment, save_result
from rtserve.measure.timing import Timings, interleave, set_threads
from rtserve.submission.bundle import build as build_zip
from rtserve.submission.validate import check

EXPORTER = "exporters/depthwise_tcn.py"
KERNELS, DEPTHS, SEEDS = (3, 5, 7, 9), (4, 6), (42, 123, 456, 789, 999)
SHAPE = Shape(n_chans=129, n_times=200, sfreq=100.0)
Call = Callable[[], Any]


def structures() -> list[tuple[int, int, int]]:
    """Return (kernel, depth, seed) of every member."""
    return [(kernel, depth, seed) for kernel in KERNELS for depth in DEPTHS for seed in SEEDS]


def member(kernel: int, depth: int, seed: int) -> torch.nn.Module:
    """Return one network with drawn weights and statistics, in eval mode."""
    settings = {"n_chans": SHAPE.n_chans, "n_times": SHAPE.n_times, "kernel": kernel, "depth": depth}
    entry = Entry(model="DepthwiseTCN", family="depthwise_tcn", exporter=EXPORTER, shape=SHAPE, settings=settings)
    network: torch.nn.Module = build(entry).network
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    randomise(network, seed)
    return network.eval()


def exported(folder: Path, timeout_s: float) -> tuple[list[torch.nn.Module], list[Path]]:
    """Return the networks and their graphs, exporting what is not there yet."""
    networks, paths = [], []
    todo = structures()
    begun, made = time.perf_counter(), 0
    for number, (kernel, depth, seed) in enumerate(todo):
        networks.append(member(kernel, depth, seed))
        weights = folder / f"k{kernel}-d{depth}-s{seed}.pth"
        save_checkpoint(networks[-1], weights)
        made_of = sha256_file(weights) + sha256_file(ROOT / EXPORTER)
        path = weights.with_name(f"{weights.stem}-{sha256_bytes(made_of.encode())[:12]}.onnx")
        if not path.is_file():
            left = (time.perf_counter() - begun) / made * (len(todo) - number) / 60 if made else None
            forecast = f", about {left:.0f} min left" if left is not None else ""
            click.echo(f"[{number + 1}/{len(todo)}{forecast}] export {weights.stem}", err=True)
            write_bytes(path, export(weights, exporter=str(ROOT / EXPORTER), timeout_s=timeout_s).to_bytes())
            made += 1
        paths.append(path)
    return networks, paths


def calls(fused: Graph, graphs: list[Graph], networks: list[torch.nn.Module], x: np.ndarray) -> dict[str, Call]:
    """Return what is timed; every call gives the ensemble's mean."""
    ours, sessions = OnnxruntimeRunner(fused), [OnnxruntimeRunner(graph) for graph in graphs]
    tensor = torch.from_numpy(x)

    def eager() -> torch.Tensor:
        with torch.inference_mode():
            return torch.stack([network(tensor) for network in networks]).mean(0)

    return {
        "fused": lambda: ours.infer(x),
        "loop of sessions": lambda: np.mean([session.infer(x) for session in sessions], axis=0),
        "eager loop": eager,
        "one eager forward": lambda: _one(networks[0], tensor),
        "one session": lambda: sessions[0].infer(x),
    }


def _one(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        y: torch.Tensor = network(x)
    return y


def recipe(paths: list[Path]) -> str:
    """Return a submission of the ensemble for challenge 1 and its first member for challenge 2."""
    lines = ['profile = "eeg2025"', 'runtime = "torch"']
    for challenge, members in (("1", paths), ("2", paths[:1])):
        for path in members:
            lines += [
                "",
                f"[[challenges.{challenge}.members]]",
                f'graph = "{path.name}"',
                f'sha256 = "{sha256_file(path)}"',
            ]
    return "\n".join(lines) + "\n"


def submission(paths: list[Path], folder: Path) -> dict[str, Any]:
    """Build the zip and check it; return what came of both."""
    toml = folder / "submission.toml"
    write_bytes(toml, recipe(paths).encode(), force=True)
    start = time.perf_counter()
    built = build_zip(toml, output=folder / "tcn40.zip", force=True)
    built_s = time.perf_counter() - start
    report = check(built.path)
    failed = [f"{result.code}: {type(result.rule).__doc__}" for result in report.results if result.status == "failed"]
    return {
        "build_s": round(built_s, 1),
        "bytes": built.path.stat().st_size,
        "sha256": built.sha256,
        "check": report.verdict,
        "check_counts": report.counts(),
        "check_failed": failed,
        "check_s": round(report.seconds, 1),
    }


def summary(timings: Timings, outcome: dict[str, Any]) -> str:
    """Return tcn40.md."""
    rows = [
        f"| {name} | {timings.median_us(name):.0f} | {ratio:.2f} | {low:.2f} to {high:.2f} |"
        for name in timings.names
        for ratio, low, high in (timings.ratio(name, "fused"),)
    ]
    macs, passes = outcome["macs"], ", ".join(dict.fromkeys(outcome["applied"])) or "none"
    unstable = {name: reasons for name in timings.names if (reasons := timings.unstable(name))}
    return "\n".join(
        [
            "# 40 depthwise TCNs",
            "",
            "Generated by `python benchmarks/tcn40.py`; do not edit. One window, one thread, timed by turns; the"
            " batch of every graph is dynamic.",
            "",
            "| | us | times the fused graph | 95 % interval |",
            "|--|--|--|--|",
            *rows,
            "",
            f"Multiply-adds per window {macs['before'] / 1e6:.2f} M -> {macs['after'] / 1e6:.2f} M; passes: {passes}."
            f" Largest error of the fused graph against the plan in float64: {outcome['max_err']:.1e}.",
            f"The zip has {outcome['submission']['bytes']:,} bytes; `rtserve check`: {outcome['submission']['check']}.",
            *([f"Unstable: {', '.join(unstable)} (other work on the machine)."] if unstable else []),
            "",
        ]
    )


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--cache", type=click.Path(path_type=Path), default=ROOT / ".zoo-cache" / "tcn40", help="Folder of exports."
)
@click.option("--rounds", default=30, show_default=True, help="Rounds of interleaved bursts.")
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds each export may take.")
@click.option("--lock", help="File locked while timing, for machines that others time on.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results")
def main(cache: Path, rounds: int, timeout_s: float, lock: str | None, output: Path) -> None:
    torch.set_num_threads(1)
    try:
        networks, paths = exported(cache, timeout_s)
        graphs = [Graph.load(path) for path in paths]
        click.echo("fuse", err=True)
        fused, report, parity = fuse_with_report(graphs)
        outcome: dict[str, Any] = {
            "members": len(graphs),
            "macs": {"before": report.macs_before, "after": report.macs_after},
            "applied": [o.name for o in report.outcomes if o.status == "applied"],
            "refused": [o.line() for o in report.outcomes if o.status in ("refused", "undone")],
            "max_err": parity.max_error if parity else None,
        }
        click.echo("build and check", err=True)
        outcome["submission"] = submission(paths, cache)
        work = calls(fused, graphs, networks, window(fused))
        set_threads(1)
        click.echo("time", err=True)
        with held(lock):
            timings = interleave(work, rounds=rounds, threads=1)
    except RtserveError as error:
        click.echo(f"error: {error.message}\n  hint: {error.hint}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted; the exports made so far are kept", err=True)
        sys.exit(130)
    outcome |= {"ratio": {name: timings.ratio(name, "fused") for name in timings.names}, "timings": timings.to_dict()}
    save_result(output / "tcn40.json", "tcn40", {"environment": environment(threads=1)} | outcome, force=True)
    text = summary(timings, outcome)
    write_bytes(output / "tcn40.md", text.encode(), force=True)
    with contextlib.suppress(BrokenPipeError):
        click.echo(text)
    sys.exit(0 if outcome["submission"]["check"] != "failed" else 1)


if __name__ == "__main__":
    main()
