"""Two states of the code side by side: which fused graphs differ, and what the differing ones cost by turns.

    python benchmarks/old_new.py CHECKOUT [--plan TEXT] [--engine NAME] [--times] [--checked] [--keep FOLDER] [-o FILE]

CHECKOUT holds the other state. Members are exported once, by this state; both states fuse every plan for every engine,
each in a process of its own. Graphs are compared byte for byte, nodes, names and weights, without their metadata. With
`--times`, those that differ (all with `--times all`) run by turns in one process, one thread, batch 1, and so in
`--processes` fresh ones: where a process lays its memory moves a graph by more than a rewrite does. With ``-o`` the times
are recorded; plans that the file has of the same two states are kept, so that several short runs are one record.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measured_code import code_digest

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ("rtserve.fusion.fuse",)
"""What a recorded time is of."""
ENGINES = ("onnxruntime", "openvino", "torch")
SMALL = {"n_chans": 22, "n_times": 256, "sfreq": 128, "n_outputs": 1}
EVERY = "identity,roll:+5,crop-shift:-4,scale:1.1,sign-flip,time-reverse,drop:3,permute:ORDER"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One fusion: members (names of `members`), views, merge."""

    members: tuple[str, ...]
    views: str = "identity"
    merge: str = "mean"


FIVE = "identity,roll:+3,roll:-3,scale:1.02,scale:0.98"
ROLLS = "identity,roll:+4,roll:-4,roll:+8,roll:-8,roll:+12,roll:-12,roll:+16,crop-shift:+16"
COMPACT = tuple(f"CompactRT-{k}" for k in range(5))
PLANS = {
    "CompactRT W1": Plan(members=COMPACT[:1]),
    "CompactRT W2": Plan(members=COMPACT[:1], views=FIVE),
    "CompactRT W3": Plan(members=COMPACT),
    "CompactRT W4": Plan(members=COMPACT, views=FIVE),
    "CompactRT rolls": Plan(members=COMPACT[:1], views=ROLLS),
    "CompactRT x3 rolls": Plan(members=COMPACT[:3], views=ROLLS + ",scale:1.02,sign-flip"),
    "CompactRT 16 rolls": Plan(members=COMPACT[:2], views=",".join(f"roll:{k:+d}" for k in range(-8, 8))),
    "CompactRT every view": Plan(members=COMPACT[:1], views=EVERY.replace(",permute:ORDER", "")),
    "EEGNeX W1": Plan(members=("EEGNeX-0",)),
    "EEGNeX W2": Plan(members=("EEGNeX-0",), views=FIVE),
    "EEGNet": Plan(members=("EEGNet",), views=EVERY),
    "ShallowFBCSPNet": Plan(members=("ShallowFBCSPNet",), views="identity,roll:+8,roll:-8,crop-shift:+16"),
    "Deep4Net": Plan(members=("Deep4Net",), views="identity,roll:+6,scale:0.9,sign-flip"),
    "EEGInceptionMI": Plan(members=("EEGInceptionMI",), views="identity,crop-shift:+4,drop:1+2"),
    "ATCNet": Plan(members=("ATCNet",), views="identity,roll:+4,scale:1.05"),
    "SyncNet": Plan(members=("SyncNet",), views="identity,time-reverse,sign-flip"),
    "SCCNet": Plan(members=("SCCNet",), views="identity,roll:+1,permute:ORDER", merge="median"),
    "EEGConformer": Plan(members=("EEGConformer",), views="identity,roll:+5"),
    "EEGSimpleConv": Plan(members=("EEGSimpleConv",), views="identity,roll:+2,roll:-2"),
    "DepthwiseTCN": Plan(members=("DepthwiseTCN",), views=FIVE),
    "InceptionRegressor": Plan(members=("InceptionRegressor",), views="identity,roll:+3,crop-shift:-3,scale:0.98"),
    "EEGITNet and EEGNet": Plan(members=("EEGITNet", "EEGNet"), views="identity,roll:+3"),
}


def member(name: str, folder: Path) -> Path:
    """Return the exported graph of a member, made on first use from seeded weights (real ones for the workloads)."""
    path = folder / f"{name}.onnx"
    if path.exists():
        return path
    family, _, number = name.partition("-")
    if number:
        from workloads import members

        members(family, 5 if family == "CompactRT" else 1).graphs[int(number)].save(path)
        return path
    import torch

    from rtserve.graphs.export import export

    own = {"DepthwiseTCN": "exporters/depthwise_tcn.py", "InceptionRegressor": "exporters/inception.py"}
    torch.manual_seed(1)
    reference = str(ROOT / own.get(family, f"exporters/braindecode_models.py:{family}"))
    settings = {} if family in own else SMALL
    export(None, exporter=reference, settings=settings).save(path)
    return path


def fuse_all(folder: Path, wanted: str, engines: Sequence[str], *, checked: bool) -> None:
    """Fuse every plan for some engines by the code of this process, and write what came of it."""
    from rtserve.fusion.fuse import fuse_with_report

    out = Path(os.environ["FUSED_INTO"])
    out.mkdir(parents=True, exist_ok=True)
    order = folder / "order.json"
    order.write_text(json.dumps(list(range(22))[::-1]))
    for name, plan in PLANS.items():
        for engine in engines if wanted in name else ():
            paths = [folder / f"{one}.onnx" for one in plan.members]
            start = time.process_time()
            stem = f"{name.replace(' ', '_')}.{engine}"
            if (out / f"{stem}.s").exists():
                continue
            graph, report, _ = fuse_with_report(
                paths,
                views=plan.views.replace("ORDER", str(order)),
                merge=plan.merge,
                engine=engine,
                force=True,
                parity=checked,
            )
            graph.save(out / f"{stem}.onnx", force=True)
            (out / f"{stem}.txt").write_text(report.explain() + "\n")
            (out / f"{stem}.s").write_text(f"{time.process_time() - start:.2f}")


def stated(attribute: object) -> bool:
    """Whether an attribute of a Conv says what holds without it."""
    value = attribute.i if attribute.name == "group" else set(attribute.ints)  # type: ignore[attr-defined]
    plain = {"group": 1, "strides": {1}, "dilations": {1}, "pads": {0}}
    return bool(plain.get(attribute.name) == value)  # type: ignore[attr-defined]


def bare(path: Path) -> tuple[str, int]:
    """Return a digest of a graph without its metadata, and its number of nodes.

    Attributes stand in the order of their names, and those of a Conv that say what holds in any case are left out.
    """
    import onnx

    model = onnx.load(path)
    for node in model.graph.node:
        kept = [one for one in node.attribute if node.op_type != "Conv" or not stated(one)]
        del node.attribute[:]
        node.attribute.extend(sorted(kept, key=lambda one: one.name))
    for holder in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        for key in ("metadata_props", "doc_string"):
            holder.ClearField(key)
    model.ClearField("producer_version")
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(), len(model.graph.node)


def ratio(old: Path, new: Path) -> list[float]:
    """Return what the new graph costs in units of the old one, by turns in this process, and the bounds of that."""
    import numpy as np

    from rtserve.graphs.graph import Graph
    from rtserve.graphs.runners import make_runner
    from rtserve.measure.timing import interleave

    graphs = {"old": Graph.load(old), "new": Graph.load(new)}
    spec = graphs["old"].input_spec
    x = np.random.default_rng(0).standard_normal((1, spec.n_chans, spec.n_times)).astype(np.float32)
    runners = {name: make_runner(graph, old.suffixes[-2][1:]) for name, graph in graphs.items()}
    calls = {name: (lambda r=runner: r.infer(x)) for name, runner in runners.items()}
    found = interleave(calls, rounds=20, threads=1, clock=time.process_time_ns)
    return [round(float(value), 4) for value in found.ratio("new", "old")]


def times(old: Path, new: Path, processes: int) -> list[list[float]]:
    """Return `ratio` as fresh processes find it."""
    command = [sys.executable, __file__, str(ROOT), "--pair", str(old), str(new)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = [subprocess.check_output(command, text=True, env=environment) for _ in range(processes)]
    return [json.loads(text.splitlines()[-1]) for text in done]


def main() -> int:
    """Fuse in both states, print one line per plan and engine; 1 where a graph differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--plan", default="", help="only plans whose name holds this")
    parser.add_argument("--times", nargs="?", const="differing", choices=("differing", "all"))
    parser.add_argument("--engine", choices=ENGINES, help="only this one")
    parser.add_argument("--processes", type=int, default=1, help="in how many fresh ones a pair is timed")
    parser.add_argument("-o", "--output", type=Path, help="where times are recorded (JSON, and a table beside it)")
    parser.add_argument("--pair", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--checked", action="store_true", help="every step is checked in float64, as a user's would be")
    parser.add_argument("--keep", type=Path, default=ROOT / "dist" / "old_new", help="members and graphs are kept here")
    arguments = parser.parse_args()
    if arguments.output and not arguments.times:
        parser.error("-o records times: give --times too")
    if arguments.pair:
        print(json.dumps(ratio(*arguments.pair)))
        return 0
    engines = (arguments.engine,) if arguments.engine else ENGINES
    folder = arguments.keep.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if "FUSED_INTO" in os.environ:
        fuse_all(folder, arguments.plan, engines, checked=arguments.checked)
        return 0
    plans = {name: plan for name, plan in PLANS.items() if arguments.plan in name}
    for plan in plans.values():
        for name in plan.members:
            member(name, folder)
    states = {"old": arguments.checkout.resolve(), "new": ROOT}
    known = {"old": f"commit {head_of(states['old'])[:7]}", "new": f"code {code_digest(MEASURED)}"}
    states = {
        state: fused_by(checkout, folder, state == "new", plans, engines, arguments)
        for state, checkout in states.items()
    }
    rows = compare(states["old"], states["new"], plans, engines, arguments)
    if arguments.output:
        record(arguments.output, known, rows)
    return int(any(row["differs"] for row in rows.values()))


def head_of(checkout: Path) -> str:
    """Return the commit that is checked out."""
    return subprocess.check_output(["git", "-C", checkout, "rev-parse", "HEAD"], text=True).strip()


def fused_by(
    checkout: Path, folder: Path, new: bool, plans: Iterable[str], engines: Sequence[str], arguments: argparse.Namespace
) -> Path:
    """Fuse plans by the code of a checkout, in a process of its own, where they do not lie there; return the folder."""
    into = folder / ("new" if new else f"old-{head_of(checkout)[:12]}")
    for stale in into.glob("*") if new else ():
        stale.unlink()
    if any(not (into / f"{name.replace(' ', '_')}.{engine}.s").exists() for name in plans for engine in engines):
        command = [sys.executable, __file__, str(checkout), "--keep", str(folder), f"--plan={arguments.plan}"]
        command += [f"--engine={arguments.engine}"] if arguments.engine else []
        command += ["--checked"] if arguments.checked else []
        subprocess.run(command, env=os.environ | {"PYTHONPATH": str(checkout), "FUSED_INTO": str(into)}, check=True)
    return into


def compare(
    old: Path, new: Path, plans: Iterable[str], engines: Sequence[str], arguments: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Print which graphs are the same; return for each plan and engine what was found."""
    rows: dict[str, dict[str, Any]] = {}
    for name in plans:
        for engine in engines:
            files = [into / f"{name.replace(' ', '_')}.{engine}.onnx" for into in (old, new)]
            (was, before), (now, after) = map(bare, files)
            row: dict[str, Any] = {"differs": was != now, "nodes": [before, after]}
            said = f"DIFFERS, {before} -> {after} nodes" if row["differs"] else "same"
            if arguments.times == "all" or (arguments.times and row["differs"]):
                row["ratios"] = times(files[0], files[1], arguments.processes)
                said += "".join(", {:.3f} [{:.3f}, {:.3f}]".format(*found) for found in row["ratios"])
                said += " of the old time"
            reports = [file.with_suffix(".txt").read_text() for file in files]
            said += "" if reports[0] == reports[1] else ", report reads otherwise"
            seconds = [float(file.with_suffix(".s").read_text()) for file in files]
            print(f"{name:<22} {engine:<12} {said}  (fused in {seconds[0]:.1f} -> {seconds[1]:.1f} s)", flush=True)
            rows[f"{name} in {engine}"] = row
    return rows


def record(output: Path, commits: dict[str, str], rows: dict[str, dict[str, Any]]) -> None:
    """Add timed rows to a file, in the place of what it holds of other states, and write its table."""
    from statistics import median

    from rtserve.measure.results import environment

    timed = {name: row for name, row in rows.items() if "ratios" in row}
    earlier = json.loads(output.read_text()) if output.exists() else {}
    kept = earlier["rows"] if (earlier.get("old"), earlier.get("new")) == (commits["old"], commits["new"]) else {}
    result = {"schema": "rtserve.old-new/1", **commits, "cpu": environment()["cpu"], "rows": kept | timed}
    output.write_text(json.dumps(result, indent=1) + "\n")
    lines = [
        f"# Fused graphs of {commits['new']} in units of those of {commits['old']}",
        "",
        f"{result['cpu']}, one thread, batch 1, by turns; median, least and most of some processes.",
        "",
        "| plan | nodes | time | processes |",
        "|---|---:|---:|---:|",
    ]
    for name, row in result["rows"].items():
        found = [one[0] for one in row["ratios"]]
        nodes = " -> ".join(map(str, row["nodes"])) + ("" if row["differs"] else ", the same bytes")
        lines.append(f"| {name} | {nodes} | {median(found):.3f} [{min(found):.3f}, {max(found):.3f}] | {len(found)} |")
    output.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
