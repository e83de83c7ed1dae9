"""First stage of a row: build the network, draw its weights, export it, and store what it must answer.

Runs in a process of its own: ``python benchmarks/zoo_prepare.py JOB.json RESULT.json``. What it leaves in the row's
cache folder (weights.pth, plain.onnx, truth.npz, prepared.json) is used again while what it was made of stays the same:
the network's architecture and settings, its quirks, the versions of the exporting libraries; --fresh makes it anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from zoo_catalogue import KEPT_ABOVE_LIMIT, MAX_PARAMETERS, ROOT, UNFIT, Entry, Shape
from zoo_network import Truth, build, exporter_settings, randomise, save_checkpoint

from rtserve.errors import RtserveError
from rtserve.files import canonical_json, sha256_bytes, sha256_file, write_bytes
from rtserve.graphs.architecture import architecture_digest
from rtserve.graphs.export import export_with_report
from rtserve.graphs.exporter import Built


def entry_of(job: dict[str, Any]) -> Entry:
    """Return the entry that a job describes."""
    values = {key: job[key] for key in ("model", "family", "exporter", "settings")}
    return Entry(shape=Shape.parse(job["shape"]), **values)


def too_large(entry: Entry, n_parameters: int) -> str:
    if n_parameters < MAX_PARAMETERS or entry.model in KEPT_ABOVE_LIMIT:
        return ""
    return f"{n_parameters / 1e6:.1f} M parameters, the limit is {MAX_PARAMETERS / 1e6:.0f} M"


def buildable(entry: Entry) -> Built | str:
    """Return the network, or why it cannot be had at this shape."""
    if entry.family == "braindecode" and entry.model in UNFIT:
        return UNFIT[entry.model]
    try:
        return build(entry)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0][:200]}"


def _store_truth(built: Built, weights: Path, folder: Path) -> dict[str, Any]:
    """Store the network's answers to the probes; return what they are and whether they say anything."""
    network = built.network
    truth = Truth(built, network.state_dict())
    cases = truth.cases()
    arrays = {f"x{index}": x for index, (_, x, _) in enumerate(cases)}
    arrays |= {f"y{index}": y for index, (_, _, y) in enumerate(cases)}
    np.savez(folder / "truth.npz", **arrays)  # type: ignore[arg-type]
    spread = max(float(np.ptp(y[np.isfinite(y)])) for _, _, y in cases if np.isfinite(y).any())
    return {"reference": truth.reference, "spread": spread, "finite": all(np.isfinite(y).all() for _, _, y in cases)}


def cache_key(entry: Entry, built: Built) -> str:
    """Return the name of the folder that holds what was made of this network.

    A class of braindecode is told by its name, settings and architecture and by the library's version; what its exporter
    adds are the quirks, each in a file of its own. Of our families the exporter holds the network, so its bytes count.
    """
    quirks = sys.modules.get("braindecode_quirks")
    own = entry.family != "braindecode"
    files = [ROOT / entry.exporter] if own else list(quirks.source_files(built.network) if quirks else ())
    versions = ("torch", "onnxscript", "onnx", *(() if own else ("braindecode",)))
    made_of = {
        "entry": [entry.model, entry.exporter, str(entry.shape), entry.settings],
        "architecture": architecture_digest({k: tuple(v.shape) for k, v in built.network.state_dict().items()}),
        "quirks": [quirk.name for quirk in built.quirks],
        "files": [sha256_file(file) for file in files],
        "versions": [importlib.metadata.version(name) for name in versions],
    }
    return f"{entry.model}-{entry.shape}-{sha256_bytes(canonical_json(made_of).encode())[:12]}"


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Return the first part of a row, or ``{"excluded": reason}``."""
    entry = entry_of(job)
    built = buildable(entry)
    if isinstance(built, str):
        return {"excluded": built}
    n_parameters = sum(p.numel() for p in built.network.parameters())
    if reason := too_large(entry, n_parameters):
        return {"excluded": reason}
    key = cache_key(entry, built)
    folder = Path(job["cache"]) / key
    kept = folder / "prepared.json"
    if kept.is_file() and not job["fresh"]:
        return dict(json.loads(kept.read_text()))
    randomise(built.network)
    weights = folder / "weights.pth"
    save_checkpoint(built.network, weights)
    part: dict[str, Any] = {"cache": key, "n_parameters": n_parameters, "n_outputs": built.output_spec.n_outputs}
    part |= {"quirks": [dataclasses.asdict(quirk) for quirk in built.quirks]}
    part |= _store_truth(built, weights, folder) | _export(entry, weights, folder, job["timeout_s"])
    write_bytes(kept, json.dumps(part).encode(), force=True)
    return part


def _export(entry: Entry, weights: Path, folder: Path, timeout_s: float) -> dict[str, Any]:
    path, colon, name = entry.exporter.partition(":")
    start = time.perf_counter()
    try:
        graph, report, _ = export_with_report(
            weights,
            exporter=f"{ROOT / path}{colon}{name}",
            settings=exporter_settings(entry),
            timeout_s=timeout_s,
        )
    except RtserveError as error:
        return {"export": error.message, "export_s": round(time.perf_counter() - start, 1)}
    write_bytes(folder / "plain.onnx", graph.to_bytes(), force=True)
    return {
        "export": "ok" if report.passed else report.summary(),
        "export_s": round(time.perf_counter() - start, 1),
        "bytes": (folder / "plain.onnx").stat().st_size,
        "nodes": graph.model.graph.num_nodes(),
    }


def run_stage(stage: Any) -> None:
    """Run ``stage(job) -> dict`` on the job named on the command line and leave its result, or its error, as JSON."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    job = json.loads(Path(sys.argv[1]).read_text())
    with contextlib.redirect_stdout(sys.stderr):
        result = stage(job)
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    run_stage(prepare)
