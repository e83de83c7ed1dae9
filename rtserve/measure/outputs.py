"""Predictions of single branches (member x view), computed once and merged in every way that is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.extras import extra_module
from rtserve.files import file_names
from rtserve.fusion.plan import Calibration, FusionPlan, Merge
from rtserve.fusion.views import View
from rtserve.graphs.graph import Graph
from rtserve.measure.predict import in_batches, make_runner, require_finite, unit_scale
from rtserve.measure.vetting import WINDOWS, require_alone, vet
from rtserve.processes import in_processes
from rtserve.signals.stored import StoredArray
from rtserve.signals.windows import WindowSet

__all__ = ["BranchOutputs", "branch_outputs", "find_members", "merge_outputs"]


@dataclass(frozen=True, kw_only=True)
class BranchOutputs:
    """What every branch answers.

    Parameters
    ----------
    values : ndarray, float32, (n_members, n_views, n_windows, n_outputs)
        Member-major, as a fused graph orders its branches.
    members : tuple of str
        Names.
    views : tuple of str
        Names, e.g. ``"roll:+3"``.
    """

    values: np.ndarray
    members: tuple[str, ...]
    views: tuple[str, ...]

    def merged(
        self,
        members: Sequence[int] | None = None,
        views: Sequence[int] | None = None,
        *,
        merge: Merge | None = None,
        calibration: Calibration | None = None,
    ) -> np.ndarray:
        """Return (n_windows, n_outputs) of the chosen members x views; all by default, mean by default.

        Weights of a weighted merge are those of the chosen branches, divided by their sum; a mean where that is 0.
        """
        m = list(range(len(self.members))) if members is None else list(members)
        v = list(range(len(self.views))) if views is None else list(views)
        chosen = self.values[np.ix_(m, v)].reshape(len(m) * len(v), *self.values.shape[2:])
        merge = merge or Merge()
        if merge.kind == "weighted":
            table = np.array(merge.weights).reshape(len(self.members), len(self.views))[np.ix_(m, v)].ravel()
            total = float(table.sum())
            merge = replace(merge, weights=tuple(float(w) / total for w in table)) if total else Merge()
        return merge_outputs(chosen, merge, calibration)


def merge_outputs(branches: np.ndarray, merge: Merge, calibration: Calibration | None = None) -> np.ndarray:
    """Return what a fused graph makes of its branches, in float64.

    Parameters
    ----------
    branches : ndarray, (n_branches, n_windows, n_outputs)
        Member-major.
    merge : Merge
        How they become one.
    calibration : Calibration, optional
        Scale, offset, clip, in this order.
    """
    values = branches.astype(np.float64)
    count = len(values)
    if merge.linear:
        merged = np.tensordot(np.array(merge.weights_for(count)), values, axes=1)
    else:
        cut = merge.trimmed(count)
        merged = np.sort(values, axis=0)[cut : count - cut].mean(axis=0)
    if calibration:
        merged = calibration.scale * merged + calibration.offset
        merged = np.clip(merged, calibration.low, calibration.high) if _clips(calibration) else merged
    result: np.ndarray = merged
    return result


def _clips(calibration: Calibration) -> bool:
    return calibration.low is not None or calibration.high is not None


def branch_outputs(
    members: Sequence[Graph],
    views: Sequence[View],
    windows: WindowSet,
    *,
    names: Sequence[str] = (),
    jobs: int = 1,
    backend: str = "loky",
) -> BranchOutputs:
    """Return what each member answers to each view of the windows.

    Parameters
    ----------
    members : sequence of Graph
        Networks.
    views : sequence of View
        Bound to the members' input.
    windows : WindowSet
        In volts.
    names : sequence of str
        Of the members.
    jobs, backend : int, str
        joblib's: members in parallel in so many processes (``"loky"``, ``"dask"``, ...).
    """
    labels = tuple(names) or tuple(f"member {k}" for k in range(1, len(members) + 1))
    for graph, label in zip(members, labels, strict=True):
        windows.require_spec(graph.input_spec, name=label)
        windows.require_output(graph.output_spec, name=label)
    tasks = [
        (graph.to_bytes(), views, windows.X, unit_scale(graph, windows.unit, name=label), label)
        for graph, label in zip(members, labels, strict=True)
    ]
    values = _in_parallel(tasks, jobs=jobs, backend=backend)
    return BranchOutputs(values=np.stack(values), members=labels, views=tuple(view.name for view in views))


def _in_parallel(tasks: Sequence[tuple[Any, ...]], *, jobs: int, backend: str) -> list[np.ndarray]:
    """Run `_one_member` on each task; dask uses the scheduler DASK_SCHEDULER_ADDRESS names, else threads."""
    if backend == "loky" and jobs != 1:
        return list(in_processes(_one_member, tasks, n_jobs=jobs, ordered=True))
    import joblib

    calls = [joblib.delayed(_one_member)(*task) for task in tasks]
    if backend != "dask":
        with joblib.parallel_config(backend=backend if jobs != 1 else "sequential", n_jobs=jobs):
            return list(joblib.Parallel()(calls))
    with _dask_client(jobs), joblib.parallel_config(backend="dask"):
        return list(joblib.Parallel()(calls))


def _dask_client(jobs: int) -> Any:
    """Return a client of the scheduler that the environment names, or of threads in this process."""
    Client = extra_module("distributed", title="dask", extra="dask").Client
    import dask

    if dask.config.get("scheduler-address", None):
        return Client()
    return Client(processes=False, n_workers=1, threads_per_worker=max(1, jobs), dashboard_address=None)


def _one_member(data: bytes, views: Sequence[View], X: np.ndarray | StoredArray, scale: float, name: str) -> np.ndarray:
    """Return (n_views, n_windows, n_outputs); a function of plain values, so that any backend can run it."""
    import torch

    graph = Graph.from_bytes(data, name=name)
    runner = make_runner(graph)
    first = np.ascontiguousarray(X[:WINDOWS], dtype=np.float32) * np.float32(scale)
    require_alone(vet(graph, runner.infer, engine=runner.name, name=name, windows=first), name=name)

    def infer(view: View) -> Any:
        return lambda x: runner.infer(np.ascontiguousarray(view.torch(torch.from_numpy(x)).numpy()))

    outputs = [in_batches(infer(view), X, scale=scale) for view in views]
    for view, y in zip(views, outputs, strict=True):
        require_finite(y, f"{name} on view {view.name}")
    return np.stack(outputs)


def find_members(graph: Graph, *, path: Path | None = None, members: Sequence[str | Path] = ()) -> dict[str, Graph]:
    """Return the members of a fused graph by their file names in the order of its plan, found by their digests.

    Files alike in name are called with their folders; a file that the plan names twice is ``NAME`` and ``NAME (2)``.

    Parameters
    ----------
    graph : Graph
        Made by `rtserve.fusion.fuse`.
    path : Path, optional
        Its file: members are looked for beside it.
    members : sequence of path, optional
        Where else to look.

    Raises
    ------
    InputError
        Where the graph was not fused, or a member is not found (its digest is named).
    """
    if graph.provenance.kind != "fuse":
        raise InputError(
            f"the graph was made by {graph.provenance.kind}, so it has no views and members to judge",
            hint="give one made by `rtserve fuse`",
        )
    wanted = FusionPlan.from_dict(graph.provenance.details["plan"]).members
    files = [Path(m) for m in members] + (sorted(path.parent.glob("*.onnx")) if path else [])
    found: dict[str, tuple[Path, Graph]] = {}
    for file in files:
        if set(wanted) <= set(found):
            break
        if path is not None and file.resolve() == path.resolve():
            continue
        try:
            candidate = Graph.load(file)
        except InputError:
            if file in [Path(m) for m in members]:
                raise
            continue
        found.setdefault(candidate.digest, (file, candidate))
    missing = [digest for digest in dict.fromkeys(wanted) if digest not in found]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(set(wanted))} members are not beside the graph: sha256"
            f" {', '.join(digest[:12] for digest in missing)}",
            hint="name them: --members M1.onnx --members M2.onnx",
        )
    names = file_names([found[digest][0] for digest in wanted])
    return dict(_distinct([(name, found[digest][1]) for name, digest in zip(names, wanted, strict=True)]))


def _distinct(entries: Sequence[tuple[str, Graph]]) -> list[tuple[str, Graph]]:
    """Return the entries with names that are all different."""
    names = [name for name, _ in entries]
    counts = [names[: k + 1].count(name) for k, name in enumerate(names)]
    return [
        (f"{name} ({count})" if count > 1 else name, graph)
        for (name, graph), count in zip(entries, counts, strict=True)
    ]
