"""What one view or one member adds to the time of a fused graph: with it against without it, by turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rtserve.fusion.plan import FusionPlan
from rtserve.graphs.graph import Graph
from rtserve.measure.bench import bench_input
from rtserve.measure.predict import make_runner
from rtserve.measure.timing import interleave

__all__ = ["fuse_plan", "marginal_cost"]


def fuse_plan(members: Sequence[Graph], plan: FusionPlan) -> Graph:
    """Return the fused graph of a plan; its parity is the business of whoever ships it."""
    from rtserve.fusion.fuse import fuse

    return fuse(
        members, views=plan.views, merge=plan.merge, calibration=plan.calibration or None, force=True, parity=False
    )


def reduced(plan: FusionPlan, *, view: int | None = None, member: int | None = None) -> tuple[FusionPlan, list[int]]:
    """Return the plan without one view or member, and the indices of the members that remain."""
    views = [k for k in range(len(plan.views)) if k != view]
    members = [k for k in range(len(plan.members)) if k != member]
    merge = plan.merge
    if merge.kind == "weighted":
        table = np.array(merge.weights).reshape(len(plan.members), len(plan.views))[np.ix_(members, views)].ravel()
        merge = replace(merge, weights=tuple(float(w) for w in table / table.sum()))
    kept = tuple(plan.views[k] for k in views)
    return replace(plan, members=tuple(plan.members[k] for k in members), views=kept, merge=merge), members


def marginal_cost(
    graph: Graph, members: Sequence[Graph], plan: FusionPlan, *, rounds: int = 20, seed: int = 0, **drop: Any
) -> tuple[float, float, float]:
    """Return the microseconds per window that a view or member adds, with an interval: batch 1, one thread.

    Parameters
    ----------
    graph : Graph
        The whole.
    members : sequence of Graph
        In the plan's order.
    plan : FusionPlan
        Of the whole.
    rounds, seed : int
        Of the timing.
    **drop : int
        ``view=k`` or ``member=k``: what is left out.
    """
    smaller, kept = reduced(plan, **drop)
    without = fuse_plan([members[k] for k in kept], smaller)
    runners = {"with": make_runner(graph), "without": make_runner(without)}
    x = bench_input(graph.input_spec, batch=1, seed=seed)
    calls = {name: (lambda runner=runner: runner.infer(x)) for name, runner in runners.items()}
    timings = interleave(calls, rounds=rounds, seed=seed)
    ratio = timings.ratio("with", "without")
    base = timings.median_us("without")
    cost, low, high = (base * (value - 1.0) for value in ratio)
    return cost, low, high
