"""The pipeline: members are optimised, assembled, and the whole is laid out; every step is checked in float64.

A step whose check fails is undone and reported. The unoptimised join says what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import onnx_ir as ir

from rtserve.errors import EnvironmentMissingError
from rtserve.fusion.engines import ENGINES, Engine
from rtserve.fusion.ir.clean import cleaned
from rtserve.fusion.ir.landmarks import mark_layers
from rtserve.fusion.ir.passes import Pass, Refused
from rtserve.fusion.join import join, prepare_member
from rtserve.fusion.plan import FusionPlan
from rtserve.fusion.program.build import assemble
from rtserve.fusion.run.check import Reference
from rtserve.fusion.run.order import passes_for
from rtserve.fusion.run.outcome import OptimizationReport, Outcome
from rtserve.fusion.run.running import DEFECTS, failed, holds, run_passes
from rtserve.fusion.run.spilled import spilled, us_of
from rtserve.fusion.run.stages import Networks, networks_of, note_work, recorded
from rtserve.graphs.graph import Graph
from rtserve.graphs.macs import count_macs
from rtserve.graphs.parity import ILL, UNEQUAL, ParityReport

__all__ = ["optimize_graph"]

WAYS = (("stack", True, True), ("side-by-side", False, True), ("unshared", False, False))
"""Ways of assembling, best first: (name, alike members stacked, views share their first stage)."""


APART = "apart"
"""The way in which every branch is computed by itself."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What `optimize_graph` was asked."""

    joined: Graph
    graphs: Sequence[Graph]
    plan: FusionPlan
    passes: Sequence[str] | None
    engine: Engine
    seed: int
    reference: Reference | None
    networks: Networks | None

    @property
    def layout(self) -> tuple[Pass, ...]:
        """The passes on the whole."""
        return passes_for(self.engine.name, "whole")

    def check(self, model: ir.Model) -> str:
        """Return why a whole model is not the plan, or an empty text."""
        return self.reference.check(model) if self.reference is not None else ""


def optimize_graph(
    joined: Graph,
    *,
    graphs: Sequence[Graph],
    plan: FusionPlan,
    passes: Sequence[str] | None = None,
    engine: str = "onnxruntime",
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
    engine : str
        Which engine the whole is laid out for, and timed in; one of `rtserve.fusion.engines.ENGINES`.
    tune : bool
        Time candidates on this machine and keep the fastest.
    check : bool
        Whether every step is compared with the join in float64.
    seed : int
        Seed of the probe inputs.

    Raises
    ------
    ParityError
        Where the result does not give the join's numbers.
    """
    reference = Reference(joined, seed=seed, alone=not joined.output_spec.coupled) if check else None
    before = reference.macs if reference is not None else count_macs(joined.model)
    task = _Task(joined=joined, graphs=graphs, plan=plan, passes=passes, engine=ENGINES[engine], seed=seed,
                 reference=reference, networks=networks_of(graphs, plan))  # fmt: skip
    outcomes: list[Outcome] = []
    model, timings = joined.model, None
    if passes is None or len(passes):
        members, model, outcomes = _optimised(task, before)
        if tune:
            from rtserve.fusion.run.tune import choose

            model, timings = choose(task.joined, model, _variants(task, members), outcomes, engine=engine)
    stages = recorded(model, task.networks)
    result = _labelled(joined, model, outcomes, engine)
    answers = reference.answers if reference is not None else None
    report = OptimizationReport(
        outcomes=tuple(outcomes),
        macs_before=before,
        macs_after=count_macs(result.model),
        nodes_before=joined.model.graph.num_nodes(),
        nodes_after=result.model.graph.num_nodes(),
        parity=_in("onnxruntime", reference, result) if reference is not None else None,
        laid_out=_in_its_engine(reference, result, engine),
        timings=timings,
    )
    if reference is not None and report.parity is not None:
        report.parity.require(hint=_cure(reference, report.parity))
    if isinstance(report.laid_out, ParityReport):
        report.laid_out.require(
            hint="lay the graph out for onnxruntime (--engine onnxruntime), which gives its numbers"
        )
    return replace(result, answers=answers, stages=stages), report


def _in_its_engine(reference: Reference | None, result: Graph, engine: str) -> ParityReport | str:
    """Return the parity report in the engine that the graph is laid out for, or why there is none (or need be none)."""
    if reference is None or engine == "onnxruntime":
        return ""
    try:
        return _in(engine, reference, result)
    except EnvironmentMissingError as missing:
        return f"not compared in {engine}: {missing.message}"


def _in(engine: str, reference: Reference, result: Graph) -> ParityReport:
    """Return the parity report in an engine; where it is not equal, with the operator that this turns on."""
    report = reference.report(result, engine)
    if report.verdict != UNEQUAL:
        return report
    said = reference.turn(result, report.worst, engine)
    return replace(report, notes=(*report.notes, said)) if said else report


def _cure(reference: Reference, report: ParityReport) -> str:
    """Return what helps where the result is not equal in onnxruntime: it may not be the compiler's doing."""
    if report.verdict == ILL:
        return "no engine can give these numbers in float32: scale what the network is given, or leave out what cancels"
    if reference.plain_is_off(report.worst):
        return (
            "onnxruntime gives other numbers for the plain graph, too: write that operator in another form in the network,"
            " or leave its member out"
        )
    return "this is a defect of rtserve; --no-optimize avoids it"


def _labelled(joined: Graph, model: ir.Model, outcomes: Sequence[Outcome], engine: str) -> Graph:
    """Return the result with the applied passes, and an engine that is not the usual one, in its provenance."""
    from rtserve.graphs.fold import normalise

    normalise(model, name="fused")
    applied = list(dict.fromkeys(outcome.name for outcome in outcomes if outcome.status == "applied"))
    details = dict(joined.provenance.details) | {"passes": applied}
    if engine != "onnxruntime":
        details |= {"engine": engine}
    return replace(joined, model=model, provenance=replace(joined.provenance, details=details))


def _optimised(task: _Task, before: int) -> tuple[list[tuple[str, ir.Model]], ir.Model, list[Outcome]]:
    """Optimise members, assemble them in the best way that holds, and lay the whole out.

    The whole is checked in the end, and several members each by itself, whose errors would be small in the mean; where the
    numbers changed, every step is done again and checked by itself.
    """
    unchecked = replace(task, reference=None)
    alone = len(set(task.plan.members)) == 1
    members, outcomes = _optimise_members(unchecked if alone else task)
    model, found = _steps(unchecked, members, before)
    if not holds(task.check, model):
        members, outcomes = _optimise_members(task) if alone else (members, outcomes)
        model, found = _steps(task, members, before)
    return members, model, outcomes + found


def _steps(task: _Task, members: list[tuple[str, ir.Model]], before: int) -> tuple[ir.Model, list[Outcome]]:
    outcomes: list[Outcome] = []
    for name, stack, share in WAYS:
        model, outcome = _assembled(task, members, name, stack, share, before)
        outcomes.append(outcome)
        if model is not None:
            break
    else:
        return task.joined.model, outcomes
    model, apart = _or_apart(task, members, model, outcomes[-1])
    outcomes += apart
    model, found = run_passes(model, task.layout, subject="whole", wanted=task.passes, check=task.check)
    return model, outcomes + found


def _optimise_members(task: _Task) -> tuple[list[tuple[str, ir.Model]], list[Outcome]]:
    members, outcomes = [], []
    passes, every = _member_passes(task), dict(zip(task.plan.members, task.graphs, strict=True))
    for digest, graph in every.items():
        number = task.plan.members.index(digest) + 1
        model = mark_layers(prepare_member(graph, f"member {number}"), number - 1)
        check: Callable[[ir.Model], str] | None = None
        if task.reference is not None:
            plain, brief = replace(graph, model=model), len(every) > 1
            check = Reference(plain, seed=task.seed, brief=brief, alone=task.reference.alone).check
        model, found = run_passes(model, passes, subject=f"member {number}", wanted=task.passes, check=check)
        members.append((digest, model))
        outcomes += found
    return members, outcomes


def _member_passes(task: _Task) -> tuple[Pass, ...]:
    passes = passes_for(task.engine.name, "member")
    if task.engine.reorders or any(view.kind != "identity" for view in task.plan.views):
        return passes
    return tuple(replace(one, run=one.alone) if one.alone is not None else one for one in passes)


def _assembled(
    task: _Task, members: list[tuple[str, ir.Model]], name: str, stack: bool, share: bool, before: int
) -> tuple[ir.Model | None, Outcome]:
    """Assemble in one way; None and the reason where it cannot be or the numbers change."""
    outcome = partial(Outcome, name=name, subject="plan", macs_before=before, macs_after=before)
    n_outputs = task.joined.output_spec.n_outputs
    try:
        model, notes = assemble(members, task.plan, n_outputs=n_outputs, stack=stack, share=share)
    except Refused as refusal:
        return None, outcome(status="refused", reason=str(refusal), refused=(refusal,))
    except DEFECTS as error:
        return None, outcome(status="undone", reason=failed(error))
    model, after = cleaned(model)
    wrong = task.check(model)
    if wrong:
        return None, outcome(status="undone", reason=f"the numbers changed: {wrong}")
    note_work(model, members, task.networks)
    reason = "; ".join(notes) or "one branch"
    return model, outcome(status="applied", reason=reason, macs_after=after)


def _or_apart(
    task: _Task, members: list[tuple[str, ir.Model]], model: ir.Model, assembled: Outcome
) -> tuple[ir.Model, list[Outcome]]:
    """Return every branch by itself where the engine's table says that views at once cost more; what was assembled else."""
    costs = task.engine.costs
    if costs is None or task.plan.n_branches == 1 or not (over := spilled(model, costs)):
        return model, []
    apart, macs = _apart(task, members)
    now, then = us_of(model, assembled.macs_after, costs), us_of(apart, macs, costs)
    told = f"{over:,} numbers would leave the cache: {now:,.0f} us as assembled, {then:,.0f} us each branch by itself"
    before = assembled.macs_after
    outcome = partial(Outcome, name=APART, subject="plan", macs_before=before, macs_after=before)
    if then >= now:
        return model, [outcome(status="refused", reason=told)]
    if wrong := task.check(apart):
        return model, [outcome(status="undone", reason=f"the numbers changed: {wrong}")]
    return apart, [outcome(status="applied", reason=told, macs_after=macs)]


def _apart(task: _Task, members: list[tuple[str, ir.Model]]) -> tuple[ir.Model, int]:
    """Return the plan over optimised members, every branch by itself, and its multiply-adds."""
    models = dict(members)
    graphs = [replace(g, model=models[d]) for d, g in zip(task.plan.members, task.graphs, strict=True)]
    model, macs = cleaned(join(graphs, task.plan))
    note_work(model, members, task.networks)
    return model, macs


def _variants(task: _Task, members: list[tuple[str, ir.Model]]) -> dict[str, ir.Model]:
    """Return the candidates for tuning: every way of assembling, and the default without each pass on the whole."""
    variants: dict[str, ir.Model] = {}
    first: ir.Model | None = None
    for name, stack, share in WAYS:
        model, _ = _assembled(task, members, name, stack, share, 0)
        if model is None:
            continue
        first = first if first is not None else model
        variants[name], _ = run_passes(model, task.layout, subject="whole", wanted=task.passes, check=task.check)
    if first is not None:
        variants[APART], _ = run_passes(
            _apart(task, members)[0], task.layout, subject="whole", wanted=task.passes, check=task.check
        )
        for left_out in task.layout:
            rest = tuple(one for one in task.layout if one is not left_out)
            model, _ = run_passes(first, rest, subject="whole", wanted=task.passes, check=task.check)
            variants[f"without {left_out.name}"] = model
    return variants
