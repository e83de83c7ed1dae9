"""Which networks of the zoo can be streamed exactly, and what is left to compute per hop: ``results/streaming.md``.

    python benchmarks/streaming.py [--only NAME,...] [--shape 22x1000@250:25] [--time]

Each network is exported with drawn weights (the zoo's cache is used), streamed as `rtserve stream` does, comparison with
the windows included, and its multiply-adds per hop are set beside those of the plain export and of the graph fused for
onnxruntime; graphs and steps are kept in the cache. With ``--time`` the rows that are there are timed: plain export, fused
window graph and step by turns on one thread, in onnxruntime and in native code. Only on a machine that does nothing else.
Rows that are there are kept: an interrupted run goes on.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
from streaming_times import calls_of, ratios_of, times_of
from zoo_catalogue import BRAINDECODE, OWN_FAMILIES, ROOT, Shape, braindecode_entry, own_entries
from zoo_prepare import prepare

from rtserve.errors import RtserveError
from rtserve.files import write_bytes
from rtserve.fusion.fuse import fuse
from rtserve.graphs.graph import Graph
from rtserve.graphs.macs import count_macs
from rtserve.graphs.warm import shared_start
from rtserve.measure.results import environment
from rtserve.streaming.build import stream

RESULTS = ROOT / "benchmarks" / "results"
NETWORKS = (
    "ATCNet", "AttentionBaseNet", "BDTCN", "CompactRT", "CTNet", "Deep4Net", "DepthwiseTCN", "EEGConformer",
    "EEGInceptionERP", "EEGInceptionMI", "EEGITNet", "EEGNet", "EEGNeX", "EEGSimpleConv", "EEGTCNet", "MSVTNet", "SCCNet",
    "ShallowFBCSPNet", "SincShallowNet", "SleepStagerBlanco2020", "SleepStagerChambon2018", "SPARCNet", "SSTDPN", "TIDNet",
    "TSception",
)  # fmt: skip
"""Convolutional networks with a time axis."""
Key = tuple[str, str, int]
SHAPES = ("22x1000@250:25", "129x200@100:8")
"""Shape of the window, and the hop in samples."""


def exported(model: str, shape: Shape, cache: Path) -> Path:
    """Return the plain export of a network; `RtserveError` where it cannot be had at the shape."""
    if model in OWN_FAMILIES:
        entry = next(one for one in own_entries(shape, {}) if one.model == model)
    else:
        entry = braindecode_entry(model, shape, {})
    job = {"model": entry.model, "family": entry.family, "exporter": entry.exporter, "settings": entry.settings,
           "shape": str(shape), "cache": str(cache), "fresh": False, "timeout_s": 600.0}  # fmt: skip
    part = prepare(job)
    path = cache / str(part.get("cache")) / "plain.onnx"
    if not path.is_file():
        raise RtserveError(f"no export: {part.get('excluded') or part.get('error') or BRAINDECODE}", hint="")
    return path


def row_of(model: str, text: str, cache: Path) -> dict[str, Any]:
    """Return what became of one network at one shape and hop; its graphs and its step stay in the cache."""
    shape, hop = Shape.parse(text.partition(":")[0]), int(text.partition(":")[2])
    row: dict[str, Any] = {"model": model, "shape": str(shape), "hop": hop}
    try:
        path = exported(model, shape, cache)
        graph = Graph.load(path)
        row |= {"plain": str(path.relative_to(cache)), "macs_plain": count_macs(graph.model)}
        for engine in ("onnxruntime", "native"):
            fused = fuse([graph], engine=engine)
            fused.save(path.with_name(f"fused-{engine}.onnx"), force=True)
            row |= (
                {"macs_fused": count_macs(fused.model), "nodes_fused": fused.model.graph.num_nodes()}
                if (engine == "onnxruntime")
                else {}
            )
        start = time.perf_counter()
        step, report = stream(graph, hop=hop)
        stream(graph, hop=hop, engine="native")[0].save(path.with_name(f"step-{hop}-native.onnx"), force=True)
    except RtserveError as error:
        return row | {"refused": error.message}
    step.save(path.with_name(f"step-{hop}.onnx"), force=True)
    return row | {"built_s": round(time.perf_counter() - start, 1), "macs_step": report.macs_step,
                  "nodes_step": report.nodes_step, "state_numbers": report.state_numbers,
                  "max_err": report.parity.max_error, "verdict": report.parity.verdict}  # fmt: skip


def timed_row(row: dict[str, Any], cache: Path, *, seconds: float) -> dict[str, Any]:
    """Return a row with its times."""
    plain = cache / row["plain"]
    calls, lacks = calls_of(plain, plain.parent, row["hop"])
    kept = {key: value for key, value in row.items() if not key.endswith("_us") and key not in ("native", "tract")}
    return kept | times_of(calls, seconds=seconds) | lacks


def table(rows: list[dict[str, Any]], cpu: str) -> str:
    """Return the rows as a page."""
    lines = [
        "# Streaming", "",
        f"Made by `benchmarks/streaming.py` on {cpu}. M: million multiply-adds; fewer: plain export per window over step",
        "per hop; error: largest relative difference from the windows in float64, hop after hop. Times in us on one thread,",
        "by turns: the plain export (onnxruntime), our fused window graph and the step, in onnxruntime and in native code.",
        "Ratio: fused window over step, in onnxruntime, in native code, and the faster window over the faster step.", "",
    ]  # fmt: skip
    for shape, hop in dict.fromkeys((row["shape"], row["hop"]) for row in rows):
        here = [row for row in rows if (row["shape"], row["hop"]) == (shape, hop)]
        streamed = sorted((row for row in here if "refused" not in row), key=lambda row: row["model"].lower())
        alone = ["refused" not in row for row in here if "weights" not in row]
        lines += [f"## {shape}, hop {hop}: {sum(alone)} of {len(alone)} networks that were tried stream", ""]
        columns = ["network", "plain M", "fused M", "step M", "fewer", "state", "nodes", "error", *TIMES, "ratios"]
        lines += [f"| {' | '.join(columns)} |", "|--" * len(columns) + "|", *map(_line, streamed), ""]
        lines += _means([row for row in streamed if "weights" not in row])
        lines += [f"One eager forward of one member of {row['model']}: {row['eager_us']} us.\n" for row in streamed
                  if "eager_us" in row]  # fmt: skip
        lines += _pulses(streamed)
        refused = [row for row in here if "refused" in row]
        lines += [*(f"- {row['model']}: refused: {row['refused']}" for row in refused), *([""] if refused else [])]
    return "\n".join(lines).rstrip() + "\n"


def _pulses(rows: list[dict[str, Any]]) -> list[str]:
    """Return what tract's pulse makes of the plain exports, where it was asked."""
    asked = [row for row in rows if "tract" in row]
    without = {row["model"]: row["tract"] for row in asked if row["tract"]}
    taken = [f"{row['model']} {row['tract_us']} us" for row in asked if not row["tract"]]
    head = f"tract's pulse takes {len(taken)} of {len(asked)} plain exports: {', '.join(taken) or 'none'}."
    return [head, "", *(f"- {model}: no pulse: {why}" for model, why in without.items()), ""] if asked else []


TIMES = {"plain us": "plain_us", "fused us": "fused_us", "step us": "step_us",
         "fused native us": "native_fused_us", "step native us": "native_step_us"}  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    macs = [row[f"macs_{kind}"] / 1e6 for kind in ("plain", "fused", "step")]
    ratios = ratios_of(row)
    said = [row["model"], *(f"{m:.2f}" for m in macs), f"{macs[0] / max(macs[2], 1e-9):.1f}", f"{row['state_numbers']:,}",
            f"{row['nodes_fused']} -> {row['nodes_step']}", f"{row['max_err']:.1e}",
            *(str(row.get(key, "")) for key in TIMES.values()), ", ".join(f"{r:.2f}" for r in ratios.values())]  # fmt: skip
    return f"| {' | '.join(said)} |"


def _means(rows: list[dict[str, Any]]) -> list[str]:
    """Return the geometric means of the ratios over the networks that stream and are timed."""
    by_kind: dict[str, list[float]] = {}
    for row in rows:
        found = ratios_of(row)
        for kind, ratio in found.items():
            by_kind.setdefault(kind, []).append(ratio)
        if found:
            engines = [found[name] for name in ("onnxruntime", "native") if name in found]
            by_kind.setdefault("the better engine of each", []).append(max(engines))
    if not by_kind:
        return []
    said = [
        f"{kind} {np.exp(np.mean(np.log(r))):.2f} over {len(r)} (least {min(r):.2f})" for kind, r in by_kind.items()
    ]
    return [f"Geometric mean of the ratio: {'; '.join(said)}.", ""]


@click.command()
@click.option("--only", default="", help="Networks, comma-separated; all by default.")
@click.option("--shape", "shapes", multiple=True, default=SHAPES, show_default=True, help="CHANNELSxSAMPLES@HZ:HOP.")
@click.option("--time", "timed", is_flag=True, help="Time the rows that are there and have no times.")
@click.option("--seconds", default=4.0, show_default=True, help="Of timing for each row.")
@click.option("--again", is_flag=True, help="Make rows anew that are there.")
@click.option("--cache", default=str(ROOT / ".zoo-cache"), help="Folder that keeps exports.")
@click.option("-o", "--output", default=str(RESULTS / "streaming.json"), help="Where the rows are kept.")
def main(only: str, shapes: tuple[str, ...], timed: bool, seconds: float, again: bool, cache: str, output: str) -> None:
    """Stream the zoo's convolutional networks."""
    warnings.simplefilter("ignore")
    with shared_start("rtserve.graphs.braindecode:braindecode_models"):
        _study(only, shapes, timed, seconds, again, cache, Path(output))


def _study(
    only: str, shapes: tuple[str, ...], timed: bool, seconds: float, again: bool, cache: str, path: Path
) -> None:
    """Make or time rows, each written as soon as it is there."""
    rows = rows_of(path)
    for text in shapes:
        for model in only.split(",") if only else NETWORKS:
            key = (model, text.partition(":")[0], int(text.partition(":")[2]))
            if timed:
                row = rows.get(key)
                if row is None or "refused" in row or ("step_us" in row and not again):
                    continue
                rows[key] = timed_row(row, Path(cache), seconds=seconds)
            elif key not in rows or again:
                rows[key] = row_of(model, text, Path(cache))
            else:
                continue
            click.echo(json.dumps(rows[key]))
            write_rows(path, rows)


def rows_of(path: Path) -> dict[Key, dict[str, Any]]:
    """Return the rows that are there, by network, shape and hop."""
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    return {(row["model"], row["shape"], row["hop"]): row for row in rows}


def write_rows(path: Path, rows: dict[Key, dict[str, Any]]) -> None:
    """Write the rows, and the page of them."""
    whole = {"schema": "rtserve.streaming/1", "environment": environment(), "rows": list(rows.values())}
    write_bytes(path, (json.dumps(whole, indent=1) + "\n").encode(), force=True)
    page = table(list(rows.values()), whole["environment"]["cpu"])
    write_bytes(path.with_suffix(".md"), page.encode(), force=True)


if __name__ == "__main__":
    main()
