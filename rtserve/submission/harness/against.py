"""A contest's own kit on a submission: its ingestion program, run as its platform runs it, on windows it simulates.

What is judged is the kit's: whether it ends well and which scores it writes. Nothing of the submission is called here.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import sys
import tempfile
import time
from typing import Any

from .channel import Channel, describe_error

__all__ = ["run_kit"]


def run_kit(spec: dict[str, Any], channel: Channel) -> None:
    """Run the ingestion program that the specification names, and tell how it ended and what it wrote."""
    work = tempfile.mkdtemp(prefix="kit_")
    given, written = os.path.join(work, "input"), os.path.join(work, "output")
    os.makedirs(given)
    with open(os.path.join(given, "config.yaml"), "w", encoding="utf-8") as handle:
        handle.write(spec["config"])
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    os.environ.update(spec["environment"])
    sys.argv = [
        spec["ingestion"],
        *("--submission-dir", spec["folder"], "--output-dir", written),
        *("--input-data", given, "--benchmark-dir", spec["benchmark"]),
    ]
    start = time.perf_counter()
    event: dict[str, Any] = {"died": ""}
    try:
        runpy.run_path(spec["ingestion"], run_name="__main__")
    except BaseException as error:  # a program that ends itself, or one that it started and that failed
        event = _ended(error, spec["folder"])
    seconds = time.perf_counter() - start
    channel.emit("kit", ok=not event["died"], seconds=seconds, **event, **_written(written))


def _ended(error: BaseException, folder: str) -> dict[str, Any]:
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return {"died": ""}
    told = describe_error(error, folder)
    return {"died": f"{told['type']}: {told['text']}", "refused": isinstance(error, PermissionError), "error": told}


def _written(folder: str) -> dict[str, Any]:
    """Return the files that the kit left and the scores in them: a ``results.json``, or Parquet where it can be read."""
    files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    scores: dict[str, float] = {}
    with contextlib.suppress(Exception):  # whatever a kit writes: that it ended well is what counts
        if "results.json" in files:
            with open(os.path.join(folder, "results.json"), encoding="utf-8") as handle:
                scores = _numbers(json.load(handle))
        elif "results.parquet" in files:
            import pandas

            rows = pandas.read_parquet(os.path.join(folder, "results.parquet")).to_dict("records")
            scores = _numbers(rows[-1])
    return {"files": files[:20], "scores": scores}


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """Return what of a row of results is a score: numbers whose name says that the objective gave them."""
    marked = {name: value for name, value in row.items() if name.startswith("objective_")}
    return {
        name.removeprefix("objective_"): float(value)
        for name, value in marked.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
