"""A day of EDF through the command of a container: ``results/containers.md``.

    python benchmarks/containers.py [--hours 24]

The zip that `rtserve build` writes for a contest of recordings, of a ShallowFBCSPNet with drawn weights (19 channels x 4 s
at 256 Hz, a window every second), unpacked; its own command on an EDF file of noise, one thread, as the image runs it. The
parts are those that the detector itself says. Only on a machine that does nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from streaming import RESULTS, exported
from zoo_catalogue import ROOT, Shape

from rtserve.files import write_bytes
from rtserve.graphs.graph import Graph
from rtserve.graphs.macs import count_macs
from rtserve.measure.results import environment
from rtserve.submission.archive import read_zip, unpack
from rtserve.submission.bundle import build
from rtserve.submission.container_drills import Drill, edf_bytes
from rtserve.submission.profile import load_profile

SHAPE, RATE, PROFILE, KEY = "19x1024@256", 256, "szcore", "seizures"
SAID = re.compile(r"read ([\d.]+) s, network ([\d.]+) s for (\d+) windows")
RECIPE = """
profile = "{profile}"
unit = "uV"
sfreq = 256.0
[challenges.{key}]
{events}
[[challenges.{key}.members]]
graph = "member.onnx"
sha256 = "{digest}"
"""


def built(graph: Graph, folder: Path, events: str) -> dict[str, Any]:
    """Build a zip of a graph, unpack it below `folder`, and return what the manifest says of it."""
    folder.mkdir()
    path = graph.save(folder / "member.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    recipe = folder / "submission.toml"
    recipe.write_text(RECIPE.format(profile=PROFILE, key=KEY, events=events, digest=digest))
    made = build(recipe, output=folder / "s.zip")
    unpack(read_zip(made.path), folder / "image")
    return dict(made.manifest["challenges"][KEY]["container"])


def recording(path: Path, hours: float) -> None:
    """Write an EDF file of noise, the same hour again and again."""
    names = load_profile(PROFILE).container.recordings.electrodes
    hour = 20 * np.random.default_rng(0).standard_normal((len(names), 3600 * RATE))
    data = hour if hours == 1 else np.tile(hour, (1, round(hours)))
    drill = Drill(name="day", what="noise", labels=tuple(f"{n}-Avg" for n in names), data=data, unit="uV", sfreq=RATE)
    path.write_bytes(edf_bytes(drill))


def answered(folder: Path, edf: Path) -> dict[str, Any]:
    """Return what the command takes, in all and part by part."""
    command = [sys.executable, "-m", "detector", str(edf), str(folder / "out.tsv")]
    begun = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder / "image",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    took = time.perf_counter() - begun
    read, network, windows = SAID.search(done.stderr).groups()
    return {"windows": int(windows), "read_s": float(read), "network_s": float(network), "in_all_s": round(took, 2)}


def page(found: dict[str, Any]) -> str:
    """Return the record as a page."""
    lines = [
        "# A day of recording through a container's command", "",
        f"Made by `benchmarks/containers.py`, {found['environment']['cpu']}, one thread. ShallowFBCSPNet {SHAPE} with drawn",
        f"weights, {found['macs'] / 1e6:.2f} M multiply-adds per window, one every second; EDF of {found['hours']:g} h.",
        "",
        "| route | windows | read and mixed s | network s | us a window | in all s |", "|--|--|--|--|--|--|",
    ]  # fmt: skip
    lines += [
        f"| {r['route']} | {r['windows']:,} | {r['read_s']} | {r['network_s']} | {1e6 * r['network_s'] / r['windows']:.0f} |"
        f" {r['in_all_s']} |"
        for r in found["rows"]
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--hours", default=24.0, show_default=True)
@click.option("--cache", default=str(ROOT / ".zoo-cache"), help="Folder that keeps exports.")
@click.option("-o", "--output", default=str(RESULTS / "containers.json"), help="Where the record goes.")
def main(hours: float, cache: str, output: str) -> None:
    """Measure, and write the record."""
    plain = Graph.load(exported("ShallowFBCSPNet", Shape.parse(SHAPE), Path(cache)))
    said = replace(plain.output_spec, classes=("bckg", "sz"))
    graph = replace(plain, output_spec=said, input_spec=replace(plain.input_spec, ch_names=()))
    found: dict[str, Any] = {"schema": "rtserve.containers/1", "environment": environment(), "hours": hours,
                             "macs": count_macs(graph.model), "rows": []}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        edf = Path(name) / "day.edf"
        recording(edf, hours)
        made = built(graph, Path(name) / "made", "")
        found["rows"].append({"route": made["route"], "hop": made["hop"], **answered(Path(name) / "made", edf)})
        click.echo(json.dumps(found["rows"][-1]))
    out = Path(output)
    write_bytes(out, (json.dumps(found, indent=1) + "\n").encode(), force=True)
    write_bytes(out.with_suffix(".md"), page(found).encode(), force=True)


if __name__ == "__main__":
    main()
