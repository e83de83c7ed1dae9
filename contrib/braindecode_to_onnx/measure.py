# License: BSD (3-clause)
"""Export every model of braindecode once, each in a process of its own.

``python measure.py [NAME ...]`` measures the models named, or all, keeps the rows in
``measured.json`` and writes the table of ``PULL_REQUEST.md``; ``--render`` writes the
table alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
MEASURED = FOLDER / "measured.json"
TEXT = FOLDER / "PULL_REQUEST.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
PACKAGES = ("braindecode", "torch", "onnx", "onnxscript", "onnxruntime")
TIMEOUT_S = 300


def measure_here(name: str) -> dict[str, Any]:
    """Export the model called `name` in this process and say what came of it."""
    from torch.nn.parameter import is_lazy

    sys.path.insert(0, str(FOLDER.parent))
    models = importlib.import_module(f"{FOLDER.name}.models")
    mixin = importlib.import_module(f"{FOLDER.name}.onnx_mixin")

    row: dict[str, Any] = {"refused": None}
    try:
        model, example = models.build(name)
    except Exception as error:
        return {"refused": f"cannot be built here: {str(error).partition('. ')[0]}"}
    row["shape"] = list(example.shape[1:])
    own = list(model.parameters())
    lazy = any(map(is_lazy, own))
    row["parameters"] = None if lazy else sum(part.numel() for part in own)
    start = time.perf_counter()
    try:
        export = mixin.OnnxMixin.to_onnx(model, example=example)
    except mixin.OnnxExportError as error:
        row["refused"] = str(error)
    else:
        row["largest_error"] = float(f"{export.largest_error:.1e}")
        row["nodes"] = len(export.model.graph.node)
        row["rewrites"] = list(export.rewrites)
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def measure(name: str) -> dict[str, Any]:
    """Return the row of the model called `name`, from a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--here", name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return {"refused": f"not done after {TIMEOUT_S} s"}
    lines = done.stdout.decode().strip().splitlines()
    if done.returncode or not lines:
        return {"refused": f"the process ended with {done.returncode}"}
    row: dict[str, Any] = json.loads(lines[-1])
    return row


def table(measured: dict[str, Any]) -> str:
    """Return the table, in Markdown."""
    rows = measured["models"]
    exported = {name: row for name, row in rows.items() if row["refused"] is None}
    built = ", ".join(f"{name} {at}" for name, at in measured["versions"].items())
    lines = [
        f"{len(exported)} of {len(rows)} models export and agree ({built}).",
        "",
        "| model | windows | parameters | nodes | largest error | rewritten |",
        "|--|--|--|--|--|--|",
    ]
    for name, row in sorted(exported.items()):
        shape = " x ".join(map(str, row["shape"]))
        parts = ", ".join(f"`{part}`" for part in row["rewrites"]) or "-"
        size = "lazy" if row["parameters"] is None else f"{row['parameters']:,}"
        lines.append(
            f"| {name} | {shape} | {size} | {row['nodes']}"
            f" | {row['largest_error']:.1e} | {parts} |"
        )
    lines += ["", "Refused, with what `to_onnx` says:", ""]
    refused = sorted(rows.keys() - exported.keys())
    lines += [f"- **{name}**: {rows[name]['refused']}" for name in refused]
    return "\n".join(lines if refused else lines[:-3])


def render() -> None:
    """Write the table into the text between its marks."""
    head, _, rest = TEXT.read_text("utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    made = table(json.loads(MEASURED.read_text("utf-8")))
    TEXT.write_text(f"{head}{BEGIN}\n\n{made}\n\n{END}{tail}", "utf-8")


def main() -> None:
    """Measure what is asked for, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--render", action="store_true")
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measure_here(asked.names[0])))
        return
    if not asked.render:
        sys.path.insert(0, str(FOLDER.parent))
        models = importlib.import_module(f"{FOLDER.name}.models")
        for name in asked.names or models.NAMES:
            kept = json.loads(MEASURED.read_text("utf-8")) if MEASURED.exists() else {}
            row = measure(name)
            print(name, row["refused"] or row["largest_error"], flush=True)
            rows = {**kept.get("models", {}), name: row}
            made = {
                "versions": {name: version(name) for name in PACKAGES},
                "models": dict(sorted(rows.items())),
            }
            MEASURED.write_text(json.dumps(made, indent=1) + "\n", "utf-8")
    render()


if __name__ == "__main__":
    main()
