"""The two ends of parity's rule on the zoo: no deterministic network is refused, no noisy one passes.

    python benchmarks/parity_rule.py [--only NAME,...] [--seeds 3] [--shape 129x200@100] [--budget-min MINUTES]

Every network gets the zoo's random statistics and its weights in another order by every seed, is exported, and its parity
report kept: the verdict, and how large the graph's error is beside the rounding error that the rule draws (its SLACK is
to cover that ratio). The same network with noise of 4e-2 and of 1e-3 of its answers must be refused. A row is written as
soon as it is whole; an interrupted run goes on where it stopped, and rows of another rule are made anew (the rule is
parity, rounding and behaviour of `rtserve.graphs`; a row holds their digest). What was not reached is listed as missing.
Results: ``results/parity_rule.json`` and ``results/parity_rule.md``.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch
from measured_code import code_digest, require_beside
from torch import nn
from zoo import select
from zoo_catalogue import KEPT_ABOVE_LIMIT, MAX_PARAMETERS, ROOT, UNFIT, Entry, Shape, catalogue
from zoo_network import build, exporter_settings, randomise, save_checkpoint

from rtserve.errors import RtserveError
from rtserve.files import write_bytes
from rtserve.graphs.export import export_with_report
from rtserve.graphs.parity import CEILING, SLACK, TOLERANCE, ParityReport
from rtserve.graphs.warm import shared_start
from rtserve.measure.results import environment, save_result

HERE = Path(__file__).resolve().parent
NOISY = "benchmarks/noisy_networks.py"
NOISES = (4e-2, 1e-3)
RULE = ("rtserve.graphs.parity", "rtserve.graphs.rounding", "rtserve.graphs.behaviour")
"""What decides: how far off is equal, what float32 costs, and what is no network at all."""


def one_seed(entry: Entry, seed: int, folder: Path, timeout_s: float) -> dict[str, Any]:
    """Return the verdict on one network, or why it could not be exported at all; its weights stay in `folder`."""
    built = build(entry)
    randomise(built.network, seed)
    shuffle(built.network, seed)
    weights = folder / f"{seed}.pth"
    save_checkpoint(built.network, weights)
    try:
        _, report, facts = export_with_report(
            weights, exporter=entry.exporter, settings=exporter_settings(entry), timeout_s=timeout_s
        )
    except RtserveError as error:
        return {"seed": seed, "passed": False, "verdict": "no export", "reason": error.message}
    return {"seed": seed, "coupled": facts["coupled"], "reason": report.summary()} | measured(report)


def shuffle(network: nn.Module, seed: int) -> None:
    """Give every matrix and kernel its own entries in an order of the seed: other weights of the same sizes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.is_floating_point() and parameter.dim() > 1:
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))


def measured(report: ParityReport) -> dict[str, Any]:
    """Return what the rule is judged by: verdict, largest error, and the largest ratio of error to drawn rounding.

    A ratio is told where the error exceeds what passes in any case; below, it decides nothing.
    """
    cases = [case for case in report.cases if case.finite]
    ratios = [case.error / case.rounding for case in cases if case.rounding > 0]
    telling = [case.error / case.rounding for case in cases if case.rounding > 0 and case.error > TOLERANCE]
    return {
        "passed": report.passed,
        "verdict": report.verdict,
        "max_error": max((case.error for case in cases), default=None),
        "max_rounding": max((case.rounding for case in cases), default=None),
        "max_ratio": max(ratios, default=None),
        "max_ratio_above_tolerance": max(telling, default=None),
        "ill_conditioned": report.to_dict()["ill_conditioned"],
    }


def noisy(entry: Entry, noise: float, weights: Path, timeout_s: float) -> dict[str, Any]:
    """Return whether a network with noise is refused, and in which words; None where it cannot be built with noise."""
    settings = dict(exporter_settings(entry)) | {"of": entry.exporter, "noise": noise}
    try:
        _, report, _ = export_with_report(weights, exporter=NOISY, settings=settings, timeout_s=timeout_s)
    except RtserveError as error:
        told = "answers the same windows differently" in error.message
        return {"noise": noise, "refused": True if told else None, "reason": error.message}
    return {"noise": noise, "refused": not report.passed, "reason": report.summary()}


def make_row(entry: Entry, seeds: int, timeout_s: float) -> dict[str, Any]:
    """Return everything about one network, or why it is none of the zoo's."""
    start = time.perf_counter()
    row: dict[str, Any] = {"model": entry.model, "shape": str(entry.shape), "code": code_digest(RULE)}
    if reason := excluded(entry):
        return row | {"excluded": reason, "seeds": [], "noisy": [], "seconds": 0.0}
    with tempfile.TemporaryDirectory(prefix="rtserve-rule-") as name:
        folder = Path(name)
        row["seeds"] = [one_seed(entry, seed, folder, timeout_s) for seed in range(seeds)]
        row["noisy"] = [noisy(entry, noise, folder / "0.pth", timeout_s) for noise in NOISES]
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def excluded(entry: Entry) -> str:
    """Return why a network is not in the zoo at this shape, or an empty text."""
    if entry.family == "braindecode" and entry.model in UNFIT:
        return UNFIT[entry.model]
    try:
        n_parameters = sum(p.numel() for p in build(entry).network.parameters())
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
    large = n_parameters >= MAX_PARAMETERS and entry.model not in KEPT_ABOVE_LIMIT
    return f"{n_parameters / 1e6:.1f} M parameters" if large else ""


def outcome(row: dict[str, Any]) -> str:
    """Return in a word or two what a row says of the rule: ``holds``, what it got wrong, or that it was not asked."""
    if "excluded" in row:
        return "excluded"
    if any(noise["refused"] is False for noise in row["noisy"]):
        return "NOISE PASSED"
    refused = [seed for seed in row["seeds"] if not seed["passed"]]
    if any(seed["verdict"] != "no export" for seed in refused):
        return "REFUSED"
    asked = all(noise["refused"] for noise in row["noisy"])
    return "holds" if asked and not refused else "no export"


def table(rows: list[dict[str, Any]], missing: list[str], about: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    left_out = [f"{row['model']} ({row['excluded']})" for row in rows if "excluded" in row]
    rows = [row for row in rows if "excluded" not in row]
    ends = [outcome(row) for row in rows]
    exported = [seed for row in rows for seed in row["seeds"] if seed["verdict"] != "no export"]
    ratios = [seed["max_ratio_above_tolerance"] for seed in exported if seed["max_ratio_above_tolerance"] is not None]
    lines = [
        "# The two ends of parity's rule", "", (__doc__ or "").split("\n\n")[2].replace("\n", " "), "",
        f"On {about['cpu']}. {len(rows)} networks, {len(exported)} exports: {ends.count('REFUSED')} deterministic ones"
        f" refused by parity, {ends.count('NOISE PASSED')} noisy ones passed, {ends.count('no export')} networks that the"
        " torch exporter or an earlier check stopped. Allowed is the larger of"
        f" {TOLERANCE:g} and {SLACK:g} x rounding, never above {CEILING:g}; of errors above {TOLERANCE:g} the largest was"
        f" {f'{max(ratios):.1f} x rounding' if ratios else 'none'}. Code of the rule:"
        f" {', '.join(sorted({row.get('code', 'not recorded') for row in rows})) or 'none'}.", "",
        f"Not reached: {', '.join(missing) or 'none'}.", "",
        f"Not in the zoo at this shape: {'; '.join(left_out) or 'none'}.", "",
        "| network | rule | verdicts by seed | largest error | rounding | error / rounding | above 1e-5 | noise refused |",
        "|--|--|--|--|--|--|--|--|",
    ]  # fmt: skip
    return "\n".join([*lines, *map(_line, rows)]) + "\n"


def _line(row: dict[str, Any]) -> str:
    def worst(key: str) -> str:
        values = [seed[key] for seed in row["seeds"] if seed.get(key) is not None]
        return f"{max(values):.2g}" if values else "-"

    verdicts = ", ".join(seed["verdict"] for seed in row["seeds"])
    words = {True: "yes", False: "NO", None: "not built"}
    refused = ", ".join(f"{noise['noise']:g} {words[noise['refused']]}" for noise in row["noisy"])
    keys = ("max_error", "max_rounding", "max_ratio", "max_ratio_above_tolerance")
    return f"| {row['model']} | {outcome(row)} | {verdicts} | {' | '.join(map(worst, keys))} | {refused} |"


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--only", help="Names, comma-separated.")
@click.option("--shape", default="129x200@100", show_default=True, help="CHANNELSxSAMPLES@HZ.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--timeout", "timeout_s", default=900.0, show_default=True, help="Seconds an export may take.")
@click.option("--budget-min", type=float, help="Start no further network after so many minutes.")
@click.option("-o", "--output", default=str(HERE / "results"), show_default="benchmarks/results")
def main(only: str | None, shape: str, seeds: int, timeout_s: float, budget_min: float | None, output: str) -> None:
    require_beside()
    os.chdir(ROOT)
    path, start = Path(output) / "parity_rule.json", time.perf_counter()
    known = json.loads(path.read_text())["rows"] if path.exists() else []
    kept = {f"{row['model']} {row['shape']}": row for row in known}
    every = catalogue(Shape.parse(shape), {})
    chosen = select(every, only)
    with shared_start("rtserve.graphs.braindecode:braindecode_models"):
        for number, entry in enumerate(chosen, start=1):
            late = budget_min is not None and time.perf_counter() - start > 60 * budget_min
            if late or kept.get(entry.key(), {}).get("code") == code_digest(RULE):
                continue
            click.echo(f"[{number}/{len(chosen)}] {entry.key()} ...", err=True)
            row = kept[entry.key()] = make_row(entry, seeds, timeout_s)
            click.echo(
                f"    {outcome(row)}: {', '.join(seed['verdict'] for seed in row['seeds'])}, {row['seconds']} s",
                err=True,
            )
            rows = [kept[key] for key in sorted(kept, key=str.lower)]
            missing = [entry.model for entry in every if entry.key() not in kept]
            about = environment(threads=1)
            save_result(path, "parity_rule", {"environment": about, "rows": rows, "missing": missing}, force=True)
            write_bytes(path.with_suffix(".md"), table(rows, missing, about).encode(), force=True)
    click.echo(str(path))


if __name__ == "__main__":
    main()
