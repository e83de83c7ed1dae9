"""The pipeline: which passes run, in which order, each checked against the unoptimised join in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rtserve.fusion.passes.outcome import OptimizationReport, Outcome
from rtserve.graphs.macs import count_macs
from rtserve.graphs.parity import ParityReport, check_parity, probe_inputs

if TYPE_CHECKING:
    from rtserve.fusion.plan import FusionPlan
    from rtserve.graphs.graph import Graph

__all__ = ["optimize_graph"]


def optimize_graph(
    joined: Graph,
    *,
    graphs: Sequence[Graph],
    plan: FusionPlan,
    passes: Sequence[str] | None = None,
    tune: bool = False,
    check: bool = True,
    seed: int = 0,
) -> tuple[Graph, OptimizationReport]:
    """Return the join optimised, and what was done.

    Parameters
    ----------
    joined : Graph
        The plan, unoptimised; it says what is right.
    graphs : sequence of Graph
        The members.
    plan : FusionPlan
        What is joined.
    passes : sequence of str, optional
        Names of the passes to run; all by default, none where empty.
    tune : bool
        Time candidates on this machine and keep the fastest.
    check : bool
        Whether to compare in float64.
    seed : int
        Seed of the probe inputs.

    Raises
    ------
    ParityError
        Where the result does not give the join's numbers.
    """
    result, outcomes = joined, list[Outcome]()
    details = dict(joined.provenance.details) | {"passes": [o.name for o in outcomes if o.status == "applied"]}
    result = replace(result, provenance=replace(joined.provenance, details=details))
    report = OptimizationReport(
        outcomes=tuple(outcomes),
        macs_before=count_macs(joined.model),
        macs_after=count_macs(result.model),
        nodes_before=joined.model.graph.num_nodes(),
        nodes_after=result.model.graph.num_nodes(),
    )
    if check:
        parity = _parity(joined, result, seed)
        report = replace(report, parity=parity.require(hint="this is a defect of rtserve; --no-optimize avoids it"))
    return result, report


def _parity(joined: Graph, result: Graph, seed: int) -> ParityReport:
    """Compare the result in onnxruntime with the join in float64."""
    from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner

    probes = probe_inputs(joined.input_spec, seed=seed)
    return check_parity(
        OnnxruntimeRunner(result).infer,
        PlanRunner(joined, double=True).infer,
        probes,
        plain=OnnxruntimeRunner(joined).infer,
        subject="onnxruntime on the fused graph",
        reference_name="the plan in float64",
    )
