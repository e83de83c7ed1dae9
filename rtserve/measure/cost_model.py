"""What a combination of members and views will cost, from a few fused graphs timed by turns.

``T(M, V) = c + sum of a_m over M + |M| / N sum of d_v over V`` but for the first view, which is in a_m already. It is
exact at every graph that was timed (one member each, all members, all members with one more view) and only ranks the
rest: what the search proposes is fused and timed itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rtserve.fusion.views import View
from rtserve.graphs.graph import Graph
from rtserve.measure.bench import bench_input
from rtserve.measure.predict import make_runner
from rtserve.measure.timing import Timings, interleave

__all__ = ["CostModel", "measure_costs", "time_graphs"]


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """The terms in microseconds per window, batch 1, one thread.

    Parameters
    ----------
    fixed : float
        What any graph costs.
    member : tuple of float
        What each member adds.
    view : tuple of float
        What each view beyond one adds when all members are there; the smallest of a set is not counted.
    whole : dict of str to float
        Graphs taken as they are.
    """

    fixed: float
    member: tuple[float, ...]
    view: tuple[float, ...]
    whole: dict[str, float]

    def predict(self, members: Sequence[int], views: Sequence[int]) -> float:
        """Return the predicted cost of members x views."""
        extra = [self.view[k] for k in views]
        share = len(members) / len(self.member)
        return self.fixed + sum(self.member[k] for k in members) + share * (sum(extra) - min(extra))


def time_graphs(graphs: dict[str, Graph], *, rounds: int = 20, seed: int = 0) -> Timings:
    """Time graphs by turns: onnxruntime, batch 1, one thread."""
    calls: dict[str, Callable[[], np.ndarray]] = {}
    for name, graph in graphs.items():
        runner, x = make_runner(graph), bench_input(graph.input_spec, batch=1, seed=seed)
        calls[name] = lambda runner=runner, x=x: runner.infer(x)  # type: ignore[misc]
    return interleave(calls, rounds=rounds, threads=1, seed=seed)


def measure_costs(
    members: Sequence[Graph],
    views: Sequence[View],
    wholes: dict[str, Graph],
    *,
    average: str = "",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CostModel:
    """Fuse and time what the model needs: each member alone, all of them, and all with each further view."""
    from rtserve.fusion.fuse import fuse

    graphs: dict[str, Graph] = {f"whole {name}": graph for name, graph in wholes.items()}
    jobs: dict[str, tuple[Sequence[Graph], Sequence[View]]] = {
        f"member {k}": ([graph], views[:1]) for k, graph in enumerate(members)
    }
    jobs["all"] = (members, views[:1])
    jobs |= {f"view {k}": (members, [views[0], view]) for k, view in enumerate(views) if k}
    for done, (name, (chosen, seen)) in enumerate(jobs.items(), start=1):
        graphs[name] = fuse(chosen, views=list(seen), average=average, force=True, parity=False)
        if progress:
            progress(done, len(jobs))
    timings = time_graphs(graphs, seed=seed)
    us = {name: timings.median_us("all") * timings.ratio(name, "all")[0] for name in graphs}
    alone = [us[f"member {k}"] for k in range(len(members))]
    fixed = max(0.0, (sum(alone) - us["all"]) / (len(members) - 1)) if len(members) > 1 else 0.0
    fixed = min(fixed, min(alone))
    return CostModel(
        fixed=fixed,
        member=tuple(cost - fixed for cost in alone),
        view=(0.0, *(max(0.0, us[f"view {k}"] - us["all"]) for k in range(1, len(views)))),
        whole={name: us[f"whole {name}"] for name in wholes},
    )
