"""A plan on a CUDA device beside what else a person would run there, and how far each is from float64.

    python benchmarks/gpu.py prepare FOLDER             on any machine: seeded networks, their weights and their plans
    python benchmarks/gpu.py measure FOLDER -o RESULTS  on a machine with a CUDA device, or as far as a CPU goes

CompactRT W1 to W4, EEGNeX W1 and W2, and ten networks of the zoo; batch 1, 64 and 512; microseconds a call, the median
of rounds taken by turns, each of several calls behind one another. All float32 with TF32 off, but for the column of
errors that says so. FOLDER travels: the plan laid out for CUDA, that for torch where it is another, and every member's
seeded weights. Where there is no CUDA device only the numbers are compared, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_peers import EAGER, calls_of, count_kernels, first_calls
from gpu_table import write_table
from torch import nn
from workloads import VIEWS, WORKLOADS

BATCHES = (1, 64, 512)
ZOO = (
    "EEGNet",
    "Deep4Net",
    "ShallowFBCSPNet",
    "EEGConformer",
    "CTNet",
    "BDTCN",
    "EEGITNet",
    "EEGTCNet",
    "SPARCNet",
    "MSVTNet",
)
CASES = (
    *(("CompactRT", name) for name in WORKLOADS),
    ("EEGNeX", "W1"),
    ("EEGNeX", "W2"),
    *((name, "W1") for name in ZOO),
)
"""Family and workload."""
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One fused network as it travels.

    Parameters
    ----------
    family, workload : str
        As in `CASES`.
    plan : dict
        For the executor, laid out for CUDA.
    tensors : dict of str to Tensor
        Its weights.
    plain : tuple or None
        Both laid out for torch, where that is another plan.
    members : list of dict
        The state_dict of each member.
    """

    family: str
    workload: str
    plan: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    plain: tuple[dict[str, Any], dict[str, torch.Tensor]] | None
    members: list[dict[str, torch.Tensor]]

    @property
    def views(self) -> tuple[str, ...]:
        """The views by name."""
        return VIEWS[: WORKLOADS[self.workload][1]]


def network(family: str, seed: int) -> nn.Module:
    """Return a network with weights drawn by `seed`, for (batch, 129, 200) at 100 Hz, in evaluation mode."""
    from zoo_network import randomise

    torch.manual_seed(seed)
    if family == "CompactRT":
        from rtserve.training.networks import CompactRT

        made: nn.Module = CompactRT(n_chans=129, input_scale=None)
    else:
        from rtserve.graphs.braindecode import braindecode_models

        channels = [{"ch_name": f"E{i}"} for i in range(1, 130)]
        settings = {"n_chans": 129, "n_outputs": 1, "n_times": 200, "sfreq": 100, "chs_info": channels}
        made = getattr(braindecode_models(), family)(**settings)
    randomise(made, seed)
    return made.eval()


def prepare(folder: Path, only: str = "") -> None:
    """Write every case, or one (``EEGNeX-W2``): plans, their tensors and the members' weights."""
    import tempfile

    from rtserve.fusion.fuse import fuse
    from rtserve.graphs.export import export
    from rtserve.graphs.plan import graph_to_plan

    exporters = Path(__file__).resolve().parent.parent / "exporters"
    folder.mkdir(parents=True, exist_ok=True)
    for family, workload in CASES:
        if only not in ("", f"{family}-{workload}"):
            continue
        n_members, n_views = WORKLOADS[workload]
        states = [network(family, seed).state_dict() for seed in range(n_members)]
        reference = "compact_rt.py" if family == "CompactRT" else f"braindecode_models.py:{family}"
        with tempfile.TemporaryDirectory() as scratch:
            graphs = []
            for state in states:
                torch.save(state, Path(scratch) / "weights.pth")
                graphs.append(export(Path(scratch) / "weights.pth", exporter=str(exporters / reference)))
        plans = [graph_to_plan(fuse(graphs, views=VIEWS[:n_views], engine=engine)) for engine in ("cuda", "torch")]
        plans = plans[: 1 + (plans[0][0] != plans[1][0])]
        torch.save(
            {"plans": [(json.dumps(plan), tensors) for plan, tensors in plans], "members": states},
            folder / f"{family}-{workload}.pt",
        )
        print(f"{family} {workload}: {' or '.join(str(len(plan['nodes'])) for plan, _ in plans)} nodes", flush=True)


def cases(folder: Path) -> Iterator[Case]:
    """Read what `prepare` wrote, in the order of `CASES`."""
    for family, workload in CASES:
        path = folder / f"{family}-{workload}.pt"
        if path.exists():
            held = torch.load(path, weights_only=True)  # noqa: TID251  (tensors and a text, ours)
            (plan, tensors), *other = [(json.loads(plan), tensors) for plan, tensors in held["plans"]]
            yield Case(family=family, workload=workload, plan=plan, tensors=tensors, plain=other[0] if other else None,
                       members=held["members"])  # fmt: skip


def modules_of(case: Case, device: str) -> list[nn.Module]:
    """Return the members on a device."""
    modules = []
    for seed, state in enumerate(case.members):
        made = network(case.family, seed)
        made.load_state_dict(state)
        modules.append(made.to(device))
    return modules


def windows(batch: int) -> torch.Tensor:
    """Return (batch, 129, 200) float32 of unit noise."""
    return torch.from_numpy(np.random.default_rng(0).standard_normal((batch, 129, 200)).astype(np.float32))


def measure(case: Case, device: str, rounds: int, budget_s: float, *, inductor: bool) -> Iterator[dict[str, Any]]:
    """Yield a row per batch size: microseconds of every engine, and errors relative to float64."""
    modules = modules_of(case, device)
    for batch in BATCHES:
        x = windows(batch).to(device)
        calls, refused = calls_of(case, modules, x, inductor=inductor and batch == 1)
        row = {"family": case.family, "workload": case.workload, "batch": batch, "refused": refused}
        row["errors"] = errors(calls, case, modules, x)
        row["us"] = times(calls, rounds, budget_s) if device == "cuda" else {}
        row["first_ms"] = first_calls(case, x) if device == "cuda" else []
        yield row
        del calls
        if device == "cuda":
            torch.cuda.empty_cache()


def errors(calls: dict[str, Any], case: Case, modules: list[nn.Module], x: torch.Tensor) -> dict[str, float]:
    """Return the largest deviation of each engine from float64, relative to the largest answer; TF32 as named."""
    from gpu_peers import loop, tf32_calls

    double = [network(case.family, 0).to(x.device).double() for _ in modules]
    for made, module in zip(double, modules, strict=True):
        made.load_state_dict(module.state_dict())
    exact = loop(double, case.views, x.double())()
    scale = float(exact.abs().max())
    both = {**calls, **tf32_calls(case, modules, x)} if x.is_cuda else calls
    every = case.workload == "W1"  # the eager forward of one member is the answer only where there is one branch
    return {
        name: float((call().double() - exact).abs().max()) / scale
        for name, call in both.items()
        if every or not name.startswith(EAGER)
    }


def times(calls: dict[str, Callable[[], torch.Tensor]], rounds: int, budget_s: float) -> dict[str, float]:
    """Return the median microseconds of a call of each, taken by turns."""
    counts = {}
    for name, call in calls.items():
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        one = time.perf_counter() - start
        counts[name] = int(min(50, max(1, budget_s / rounds / len(calls) / one)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(counts[name]):
                call()
            torch.cuda.synchronize()
            found[name].append((time.perf_counter() - start) / counts[name] * 1e6)
    return {name: float(np.median(values)) for name, values in found.items()}


def main() -> None:
    """Prepare, or measure and write RESULTS/gpu.json and gpu.md after every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "measure"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("--only", default="", help="prepare this case alone, such as EEGNeX-W2")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--budget", type=float, default=1.0, help="seconds of timing for a case and batch size")
    parser.add_argument("--limit", type=float, default=360.0, help="seconds after which no further case begins")
    arguments = parser.parse_args()
    if arguments.what == "prepare":
        prepare(arguments.folder, arguments.only)
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    start, rows, left = time.perf_counter(), [], []
    for case in cases(arguments.folder):
        if time.perf_counter() - start > arguments.limit:
            left.append(f"{case.family} {case.workload}")
            continue
        inductor = device == "cuda" and (case.family, case.workload) in (("CompactRT", "W1"), ("CompactRT", "W4"))
        rows += measure(case, device, arguments.rounds, arguments.budget, inductor=inductor)
        write_table(_record(rows, left), arguments.output)
        print(f"{case.family} {case.workload}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    if device == "cuda":  # last: a profiler may slow down what comes behind it
        add_kernels(rows, arguments.folder)
    write_table(_record(rows, left), arguments.output)


def add_kernels(rows: list[dict[str, Any]], folder: Path) -> None:
    """Add to every row how many kernels a call launches."""
    for case in cases(folder):
        modules = modules_of(case, "cuda")
        for row in rows:
            if (row["family"], row["workload"]) == (case.family, case.workload):
                row["kernels"] = count_kernels(case, modules, windows(row["batch"]).to("cuda"))


def _record(rows: list[dict[str, Any]], left: list[str]) -> dict[str, Any]:
    return {"device": _device(), "torch": torch.__version__, "rows": rows, "left_out": left}


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device: numbers only, no times"


if __name__ == "__main__":
    main()
