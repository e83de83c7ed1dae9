"""Which members and views of a fused graph move its output: by its plan, and by disturbing its numbers one by one.

The intervention declares every large initializer as an input that may be overridden, so one session serves all runs. A
stacked initializer (one block per member or branch) is disturbed block by block. A block whose disturbance never moves
the output, at the contest's scale or at unit scale, belongs to a branch that is computed for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.graphs.sessions import quiet_session
from rtserve.submission.drive import probe_windows

__all__ = ["inert_branches"]

SMALLEST = 8
SECONDS = 3.0
MOVED = 1e-7


def inert_branches(path: Path, scale: float) -> Iterator[str]:
    """Yield a sentence for every branch of the graph at `path` that changes no output.

    Parameters
    ----------
    path : Path
        An ONNX graph made by rtserve.
    scale : float
        Standard deviation of plausible windows.
    """
    from rtserve.graphs.graph import Graph

    graph = Graph.load(path)
    plan = graph.provenance.details.get("plan")
    members, views = _sizes(plan)
    yield from _by_plan(plan)
    yield from _by_intervention(graph, members, views, scale)


def _sizes(plan: Any) -> tuple[int, int]:
    if not isinstance(plan, dict):
        return 1, 1
    return max(len(plan.get("members", ())), 1), max(len(plan.get("views", ())), 1)


def _by_plan(plan: Any) -> Iterator[str]:
    """Branches of weight zero: named in the plan, absent from the sum."""
    if not isinstance(plan, dict):
        return
    weights = plan.get("merge", {}).get("weights") or []
    views = [view.get("name", "?") if isinstance(view, dict) else str(view) for view in plan.get("views", [])]
    for index, weight in enumerate(weights):
        if weight == 0 and views:
            member, view = divmod(index, len(views))
            yield f"member {member + 1} x {views[view]} has weight 0: it changes no output"


def _by_intervention(graph: Any, members: int, views: int, scale: float) -> Iterator[str]:
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(graph.to_bytes())
    tensors = {
        t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT
    }
    tensors = {name: value for name, value in tensors.items() if value.size >= SMALLEST}
    for name, value in tensors.items():
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, value.shape))
    session = quiet_session(model.SerializeToString())
    spec = graph.input_spec
    x = probe_windows(2, spec.n_chans, spec.n_times, sfreq=spec.sfreq or 100.0, scale=scale, seed=5)
    x = np.concatenate([x, x / np.float32(scale)])  # what is silent at volts may speak in another unit
    start = time.perf_counter()
    before = session.run(None, {graph_input(session, tensors): x})[0]
    cost_us = (time.perf_counter() - start) * 1e6 / len(x)
    runner = (session, graph_input(session, tensors), x, before)
    until = time.perf_counter() + SECONDS
    for name, value in tensors.items():
        for label, slot in _blocks(value, members, members * views):
            if time.perf_counter() > until:
                return
            if not _moves(runner, name, value, slot):
                share = value[slot].size / max(sum(t.size for t in tensors.values()), 1)
                yield (
                    f"{label} of {name} {value.shape} changes no output: its {value[slot].size} numbers are {share:.1%}"
                    f" of the graph's, about {share * cost_us:.0f} of {cost_us:.0f} us a window"
                )


def graph_input(session: Any, tensors: dict[str, np.ndarray]) -> str:
    """Return the name of the one input that is no initializer."""
    name: str = next(i.name for i in session.get_inputs() if i.name not in tensors)
    return name


def _blocks(value: np.ndarray, members: int, branches: int) -> Iterator[tuple[str, tuple[slice, ...]]]:
    """Yield the whole tensor, or its blocks along the first axis where it stacks members or branches."""
    first = value.shape[0] if value.ndim else 1
    for count, word in ((branches, "branch"), (members, "member")):
        if count > 1 and first % count == 0 and value.ndim > 1:
            size = first // count
            yield from ((f"{word} {i + 1} of {count}", (slice(i * size, (i + 1) * size),)) for i in range(count))
            return
    yield "the whole", (slice(None),) * min(value.ndim, 1)


def _moves(
    runner: tuple[Any, str, np.ndarray, np.ndarray], name: str, value: np.ndarray, slot: tuple[slice, ...]
) -> bool:
    session, entry, x, before = runner
    rng = np.random.default_rng(11)
    size = max(float(np.abs(before).max()), 1e-3)
    for factor in (0.3, 30.0):
        changed = value.copy()
        noise = rng.standard_normal(value[slot].shape).astype(np.float32)
        changed[slot] += np.float32(factor) * noise * (np.abs(value).mean() + np.float32(1e-3))
        after = session.run(None, {entry: x, name: changed})[0]
        if not np.isfinite(after).all() or float(np.abs(after - before).max()) > MOVED * size:
            return True
    return False
