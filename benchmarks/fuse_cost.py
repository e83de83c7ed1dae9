"""What fusing costs: processor time and peak memory of `rtserve.fuse`, and how both grow with members and views.

Each fusion runs in a fresh process that has loaded torch, onnx, onnx_ir and onnxruntime; counted are the seconds of
processor time from the call to its return, everything checked, and the most memory the process held. Of `--repeats`
processes the fastest counts, and the largest. Rows that the output has of the same code are kept, so that several short
runs, each of some rows (`--only`), are one record. Bars: CompactRT with
five members and five views 2 s and 450 MB, EEGNeX with five views 4 s and 450 MB, 16 members with 16 views 700 MB. Growth
is called linear where the most members (or views) add at most `DOUBLING` times what half of them add to the cost of one.

    python benchmarks/fuse_cost.py -o benchmarks/results/fuse_cost.json [--most 64] [--only TEXT] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measured_code import code_digest, require_beside

ROOT = Path(__file__).resolve().parent.parent
CODE = ("rtserve.fusion.fuse", "rtserve.graphs.witness", "rtserve.graphs.runners")
"""What the figures are of."""
SHIFTS = [sign * k for k in range(1, 33) for sign in (1, -1)]
FIVE = "identity,roll:+3,roll:-3,scale:1.02,scale:0.98"
DOUBLING = 2.5
BARS = {
    "CompactRT, 5 members x 5 views": (2.0, 450),
    "EEGNeX, 5 views": (4.0, 450),
    "CompactRT, 16 members x 16 views": (None, 700),
}
"""(seconds, MB) that must not be exceeded."""


def views_of(count: int) -> str:
    """Return so many distinct views, two thirds of them rolls and a third amplitudes."""
    rolls = iter(SHIFTS)
    names = (f"scale:{1 + k / 100:g}" if k % 3 == 2 else f"roll:{next(rolls):+d}" for k in range(1, count))
    return ",".join(["identity", *names])


def make_members(folder: Path, family: str, count: int) -> None:
    """Export one network and write `count` graphs of it, the weights of all but the first perturbed by 0.1 %."""
    import onnx_ir as ir
    from workloads import members

    graph = members(family, 1).graphs[0]
    for k in range(count):
        rng, model = np.random.default_rng(k), graph.clone_model()
        for value in model.graph.initializers.values() if k else ():
            array = value.const_value.numpy() if value.const_value is not None else np.zeros(0)
            if array.dtype == np.float32 and array.ndim > 1:
                moved = array * (1 + 1e-3 * rng.standard_normal(array.shape)).astype("f4")
                value.const_value = ir.tensor(moved, name=value.name)
        one = replace(graph, model=model, answers=None if k else graph.answers)
        one.save(folder / f"{family}-{k}.onnx", force=True)


def fuse_once(folder: Path, family: str, n_members: int, views: str) -> dict[str, Any]:
    """Fuse in this process and return what it cost."""
    import onnx_ir  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch  # noqa: F401

    from rtserve.fusion.fuse import fuse_with_report

    paths = [folder / f"{family}-{k}.onnx" for k in range(n_members)]
    start = time.process_time()
    graph, report, _ = fuse_with_report(paths, views=views)
    seconds = time.process_time() - start
    return {
        "seconds": round(seconds, 2),
        "peak_mb": round(peak_bytes() / 1e6),
        "nodes": graph.model.graph.num_nodes(),
        "undone": [outcome.line() for outcome in report.outcomes if outcome.status == "undone"],
    }


def peak_bytes() -> int:
    """Return the most memory this process held; not what its parent held when it was forked, as ``getrusage`` may."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def in_own_process(folder: Path, family: str, n_members: int, views: str, *, repeats: int = 1) -> dict[str, Any]:
    """Fuse in processes of their own, one thread; bytecode is written and read, as where rtserve is installed."""
    command = [sys.executable, __file__, "--folder", str(folder), "--one", family, str(n_members), views]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONPATH": str(ROOT)}
    found: list[dict[str, Any]] = []
    for _ in range(repeats):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    best = min(found, key=lambda row: float(row["seconds"]))
    return best | {"peak_mb": max(row["peak_mb"] for row in found)}


def cases(most: int) -> dict[str, tuple[str, int, str]]:
    """Return family, members and views of every row by its name."""
    doubling = [1 << k for k in range(most.bit_length()) if 1 << k <= most]
    rows = {
        "CompactRT, 1 member": ("CompactRT", 1, "identity"),
        "CompactRT, 5 views": ("CompactRT", 1, FIVE),
        "CompactRT, 5 members x 5 views": ("CompactRT", 5, FIVE),
        "EEGNeX, 5 views": ("EEGNeX", 1, FIVE),
    }
    rows |= {f"members {n}": ("CompactRT", n, "identity") for n in doubling}
    rows |= {f"views {n}": ("CompactRT", 1, views_of(n)) for n in doubling}
    return rows | ({"CompactRT, 16 members x 16 views": ("CompactRT", 16, views_of(16))} if most >= 16 else {})


def grows_linearly(rows: dict[str, dict[str, Any]], what: str, key: str) -> bool:
    """Whether twice as many members or views add at most `DOUBLING` times as much to the cost of one; 2 is linear."""
    values = [row[key] for name, row in rows.items() if name.startswith(f"{what} ")]
    if len(values) < 3:
        return True
    half, whole = values[-2] - values[0], values[-1] - values[0]
    return bool(whole <= DOUBLING * max(half, 0.05 * values[0]))


def verdicts(rows: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Return which bars and laws hold."""
    held = {}
    for name, (seconds, megabytes) in BARS.items():
        if name in rows:
            if seconds is not None:
                held[f"{name}: at most {seconds:g} s"] = rows[name]["seconds"] <= seconds
            held[f"{name}: at most {megabytes} MB"] = rows[name]["peak_mb"] <= megabytes
    for what in ("members", "views"):
        for key in ("seconds", "peak_mb"):
            held[f"{what}: {key} grow linearly"] = grows_linearly(rows, what, key)
    return held


def as_markdown(result: dict[str, Any]) -> str:
    """Return the table."""
    lines = [
        "# What fusing costs",
        "",
        f"{result['cpu']}, one thread, everything checked in float64; a process that has loaded its libraries holds"
        f" about 280 MB. Growth by CompactRT, {result['date']}.",
        "",
        "| fusion | processor time, s | peak, MB | nodes | steps undone |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {row['seconds']:.1f} | {row['peak_mb']} | {row['nodes']} | {len(row['undone'])} |"
        for name, row in result["rows"].items()
    ]
    lines += ["", *(f"- {law}: {'yes' if holds else 'NO'}" for law, holds in result["held"].items())]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write, and say which bars hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--most", type=int, default=64, help="members and views at most")
    parser.add_argument("--only", action="append", default=[], help="only rows whose name holds this; may be repeated")
    parser.add_argument("--repeats", type=int, default=3, help="processes for a row")
    parser.add_argument("--folder", type=Path, help="where the members are kept")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        family, count, views = arguments.one
        print(json.dumps(fuse_once(arguments.folder, family, int(count), views)))
        return 0
    from rtserve.measure.results import environment

    require_beside()
    code = code_digest(CODE, (Path(__file__),))
    earlier = json.loads(arguments.output.read_text()) if arguments.output and arguments.output.exists() else {}
    rows = earlier["rows"] if earlier.get("code") == code else {}
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        for family, count in (("CompactRT", arguments.most), ("EEGNeX", 1)):
            if not (folder / f"{family}-{count - 1}.onnx").exists():
                make_members(folder, family, count)
        every = cases(arguments.most)
        for name in ("CompactRT, 5 members x 5 views", "EEGNeX, 5 views"):  # the bytecode
            in_own_process(folder, *every[name])
        for name, case in every.items():
            if not arguments.only or any(part in name for part in arguments.only):
                rows[name] = in_own_process(folder, *case, repeats=arguments.repeats)
                print(name, {**rows[name], "undone": len(rows[name]["undone"])}, flush=True)
        rows = {name: rows[name] for name in every if name in rows}
    result = {
        "schema": "rtserve.fuse-cost/1",
        "cpu": environment()["cpu"],
        "date": time.strftime("%Y-%m-%d"),
        "code": code,
        "rows": rows,
        "held": verdicts(rows),
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
        arguments.output.with_suffix(".md").write_text(as_markdown(result))
    print(as_markdown(result))
    return int(not all(result["held"].values()))


if __name__ == "__main__":
    sys.exit(main())
