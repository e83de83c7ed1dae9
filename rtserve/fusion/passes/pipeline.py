"""The pipeline: which passes run, in which order, each checked against the unoptimised join in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rtserve.fusion.join import prepare_member
from rtserve.fusion.passes.member import MEMBER_PASSES, Checker, clean, run_passes
from rtserve.fusion.passes.outcome import OptimizationReport, Outcome
from rtserve.graphs.macs import count_macs
from rtserve.graphs.parity import ParityReport, check_parity, compare_outputs, probe_inputs, relative_error

if TYPE_CHECKING:
    import onnx_ir as ir

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
    outcomes: list[Outcome] = []
    optimised = []
    for digest, graph in {d: g for d, g in zip(plan.members, graphs, strict=True)}.items():
        number = plan.members.index(digest) + 1
        model = prepare_member(graph, f"member {number}")
        checker = _member_checker(graph, model, seed) if check else None
        model, found = run_passes(model, MEMBER_PASSES, subject=f"member {number}", wanted=passes, check=checker)
        optimised.append((digest, replace(graph, model=model)))
        outcomes += found
    table = dict(optimised)
    from rtserve.fusion.join import join
    from rtserve.graphs.fold import normalise
    rejoined = join([table[d] for d in plan.members], plan)
    normalise(rejoined, name="fused")
    result = replace(joined, model=clean(rejoined))
    normalise(result.model, name="fused")
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


def _member_checker(graph: Graph, model: ir.Model, seed: int) -> Checker:
    """Return a check of rewritten models against the member in float64, on a few probes."""
    from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner

    plain = replace(graph, model=model)
    probes = probe_inputs(graph.input_spec, scales=(1e-5, 1.0, 1e2), batches=(1, 2), seed=seed)
    truth_of = PlanRunner(plain, double=True).infer
    truths = {name: truth_of(x) for name, x in probes}
    own_of = OnnxruntimeRunner(plain).infer
    own = {name: relative_error(own_of(x), truths[name]) for name, x in probes}

    def check(trial: ir.Model) -> str:
        infer = OnnxruntimeRunner(replace(graph, model=trial)).infer
        cases = [compare_outputs(name, infer(x), truths[name], own_error=own[name]) for name, x in probes]
        bad = [case for case in cases if not case.passed]
        return f"{bad[0].error:.1e} on {bad[0].name}" if bad else ""

    return check


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
