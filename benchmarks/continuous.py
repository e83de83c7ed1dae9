"""A day of EEG through a step graph, and an hour of it from a file: ``results/continuous.md``.

    python benchmarks/continuous.py [--hours 24] [--file-hours 1]

ShallowFBCSPNet of 19 channels x 4 s at 256 Hz with drawn weights, an answer every 25 samples, on one thread. The day is
noise in memory and goes through what `rtserve evaluate --continuous` calls (the network's part alone); the hour is an EDF
file with segments, which the command reads, filters and scores. Only on a machine that does nothing else.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import click
import mne
import numpy as np
from streaming import RESULTS, exported
from zoo_catalogue import ROOT, Shape

from rtserve.errors import EnvironmentMissingError
from rtserve.files import write_bytes
from rtserve.graphs.graph import Graph
from rtserve.measure.continuous import evaluate_continuous
from rtserve.measure.results import environment
from rtserve.signals.fields import Stated
from rtserve.streaming.build import stream
from rtserve.streaming.step_graph import StepGraph
from rtserve.streaming.whole import stream_answers

SHAPE, RATE, HOP, SEGMENT_S = "19x1024@256", 256, 25, 30.0
CHANNELS = [
    "Fp1",
    "Fp2",
    "F7",
    "F3",
    "Fz",
    "F4",
    "F8",
    "T7",
    "C3",
    "Cz",
    "C4",
    "T8",
    "P7",
    "P3",
    "Pz",
    "P4",
    "P8",
    "O1",
    "O2",
]


def day_of(step: StepGraph, hours: float, engine: str) -> dict[str, Any]:
    """Return what the network's part takes of so many hours, in an engine."""
    hour = np.random.default_rng(0).standard_normal((19, RATE * 3600)).astype("f4")
    data = np.tile(hour, (1, max(1, round(hours))))
    begun = time.perf_counter()
    answers, steps = stream_answers(step, data, engine=engine)
    took = time.perf_counter() - begun
    return {"engine": engine, "hours": max(1, round(hours)), "answers": len(answers), "steps": steps,
            "network_s": round(took, 2), "us_an_answer": round(1e6 * took / len(answers), 2)}  # fmt: skip


def hour_of(path: Path, folder: Path, hours: float, engine: str) -> dict[str, Any]:
    """Return what the command takes of a recording in a file, part by part."""
    rng, n = np.random.default_rng(1), round(hours * 3600 * RATE)
    raw = mne.io.RawArray(1e-5 * rng.standard_normal((19, n)), mne.create_info(CHANNELS, RATE, "eeg"), verbose="error")
    onset = np.arange(0, n / RATE - SEGMENT_S, SEGMENT_S)
    raw.set_annotations(mne.Annotations(onset, SEGMENT_S, rng.choice(["wake", "sleep"], len(onset))))
    edf = folder / "hour.edf"
    raw.export(edf, overwrite=True, verbose="error")
    found = evaluate_continuous(
        path, edf, band=(0.5, 45.0), engine=engine, stated=Stated(unit="uV", classes=("wake", "sleep"))
    )
    return {"engine": engine, "hours": hours, "answers": found.answers, "scored": found.evaluation.n,
            "seconds": {key: round(value, 2) for key, value in found.seconds.items()}}  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """Return the record as a page."""
    lines = [
        "# A whole recording through a step", "",
        f"Made by `benchmarks/continuous.py`, {found['environment']['cpu']}, one thread. ShallowFBCSPNet {SHAPE} with drawn",
        f"weights: {found['macs_window'] / 1e6:.2f} M multiply-adds per window, {found['macs_step'] / 1e6:.2f} M per hop of"
        f" {HOP}.", "",
        "| engine | hours | answers | network s | us an answer |", "|--|--|--|--|--|",
    ]  # fmt: skip
    lines += [f"| {r['engine']} | {r['hours']} | {r['answers']:,} | {r['network_s']} | {r['us_an_answer']} |"
              for r in found["day"]]  # fmt: skip
    lines += ["", "`rtserve evaluate S.onnx --continuous hour.edf --band 0.5,45`, part by part in seconds:", "",
              "| engine | hours | answers | scored | read | filter | network |", "|--|--|--|--|--|--|--|"]  # fmt: skip
    for row in found["file"]:
        s = row["seconds"]
        lines.append(f"| {row['engine']} | {row['hours']:g} | {row['answers']:,} | {row['scored']:,} | {s['read']} |"
                     f" {s['clean']} | {s['network']} |")  # fmt: skip
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--hours", default=24.0, show_default=True)
@click.option("--file-hours", default=1.0, show_default=True)
@click.option("--cache", default=str(ROOT / ".zoo-cache"), help="Folder that keeps exports.")
@click.option("-o", "--output", default=str(RESULTS / "continuous.json"), help="Where the record goes.")
def main(hours: float, file_hours: float, cache: str, output: str) -> None:
    """Measure, and write the record."""
    warnings.simplefilter("ignore")
    step, report = stream(Graph.load(exported("ShallowFBCSPNet", Shape.parse(SHAPE), Path(cache))), hop=HOP)
    found: dict[str, Any] = {"schema": "rtserve.continuous/1", "environment": environment(), "day": [], "file": [],
                             "macs_window": report.macs_window, "macs_step": report.macs_step}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        path = step.save(Path(name) / "S.onnx")
        for engine in ("onnxruntime", "native"):
            try:
                found["day"].append(day_of(step, hours, engine))
                found["file"].append(hour_of(path, Path(name), file_hours, engine))
            except EnvironmentMissingError as missing:
                click.echo(f"{engine}: {missing.message}")
                continue
            click.echo(json.dumps([found["day"][-1], found["file"][-1]]))
    out = Path(output)
    write_bytes(out, (json.dumps(found, indent=1) + "\n").encode(), force=True)
    write_bytes(out.with_suffix(".md"), page(found).encode(), force=True)


if __name__ == "__main__":
    main()
