"""The pipeline: members are optimised, assembled, and the whole is laid out; every step is checked in float64.

A step whose check fails is undone and reported. The unoptimised join says what is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import onnx_ir as ir

from rtserve.errors import EnvironmentMissingError
from rtserve.fusion.engines import ENGINES, Engine
from rtserve.fusion.ir.clean import cleaned
from rtserve.fusion.ir.landmarks import mark_layers
from rtserve.fusion.ir.passes import Pass, Refused
from rtserve.fusion.join import join
from rtserve.fusion.plan import FusionPlan
from rtserve.fusion.program.build import assemble
from rtserve.fusion.run.check import Reference
from rtserve.fusion.run.order import passes_for
from rtserve.fusion.run.outcome import OptimizationReport, Outcome
from rtserve.fusion.run.running import DEFECTS, failed, holds, judged, run_passes
from rtserve.fusion.run.spilled import spilled, us_of
from rtserve.fusion.run.stages import Networks, networks_of, note_work, recorded
from rtserve.graphs.graph import Graph
from rtserve.graphs.macs import work_of
from rtserve.graphs.parity import ParityReport

__all__ = ["optimize_graph"]

WAYS = (("stack", True, True), ("side-by-side", False, True), ("unshared", False, False))
"""Ways of assembling, best first: (name, alike members stacked, views share their first stage)."""
APART = "apart"
"""The way in which every branch is computed by itself."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What `optimize_graph` was asked, and the different members as they are, by digest."""

    joined: Graph
    graphs: Sequence[Graph]
    names: Sequence[str]
    plan: FusionPlan
    wanted: Sequence[str] | None
    engine: Engine
    seed: int
    reference: Reference | None
    before: int
    members: Mapping[str, ir.Model]
    networks: Networks | None

    def passes(self, scope: str) -> list[Pass]:
        """Return the passes on a ``member`` or on the ``whole`` that are wanted."""
        found = passes_for(self.engine.name, scope)
        return [one for one in found if self.wanted is None or one.name in self.wanted]

    def check(self, model: ir.Model) -> str:
        """Return why a whole model is not the plan, or an empty text."""
        return self.reference.check(model) if self.reference is not None else ""

    def laid_out(self, model: ir.Model, passes: Sequence[Pass] | None = None) -> tuple[ir.Model, list[Outcome]]:
        """Run the passes on the whole, or some of them, and return what `run_passes` does."""
        passes = self.passes("whole") if passes is None else passes
        return run_passes(model, passes, subject="whole", check=self.check)


def optimize_graph(
    joined: Graph,
    *,
    members: Mapping[str, ir.Model],
    graphs: Sequence[Graph],
    names: Sequence[str],
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
    members : mapping of str to Model
        The different members as `rtserve.fusion.join.prepare_member` gives them, by digest.
    graphs, names : sequence of Graph, of str
        All members, and what they are called.
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
    work = reference.work if reference is not None else work_of(joined.model)
    plain = {digest: mark_layers(members[digest], number) for digest, number in plan.distinct.items()}
    task = _Task(joined=joined, graphs=graphs, names=names, plan=plan, wanted=passes, engine=ENGINES[engine], seed=seed,
                 reference=reference, before=work.macs, members=plain,
                 networks=networks_of(plain, graphs, plan))  # fmt: skip
    outcomes: list[Outcome] = []
    model, timings = joined.model, None
    if passes is None or passes:
        optimised, model, outcomes = _optimised(task)
        if tune:
            from rtserve.fusion.run.tune import choose

            model, timings = choose(joined, model, _variants(task, optimised), outcomes, engine=engine)
    if model is joined.model:
        note_work(model, plain, task.networks)
    stages = recorded(model, task.networks)
    result = _labelled(joined, model, outcomes, engine)
    parity = None
    if reference is not None:
        parity = reference.report(result)
        parity.require(hint=reference.cure(parity))
    now = work_of(result.model)
    report = OptimizationReport(
        outcomes=tuple(outcomes),
        macs_before=work.macs,
        macs_after=now.macs,
        uncounted=work.unknown or now.unknown,
        nodes_before=joined.model.graph.num_nodes(),
        nodes_after=result.model.graph.num_nodes(),
        parity=parity,
        laid_out=_in_its_engine(reference, result, engine),
        timings=timings,
        members=tuple(names),
    )
    return replace(result, answers=reference.answers if reference is not None else None, stages=stages), report


def _in_its_engine(reference: Reference | None, result: Graph, engine: str) -> ParityReport | str:
    """Return the parity report in the engine that the graph is laid out for, or why there is none (or need be none)."""
    if reference is None or engine == "onnxruntime":
        return ""
    try:
        report = reference.report(result, engine)
    except EnvironmentMissingError as missing:
        return f"not compared in {engine}: {missing.message}"
    report.require(hint="lay the graph out for onnxruntime (--engine onnxruntime), which gives its numbers")
    return report


def _labelled(joined: Graph, model: ir.Model, outcomes: Sequence[Outcome], engine: str) -> Graph:
    """Return the result with the applied passes, and an engine that is not the usual one, in its provenance."""
    from rtserve.graphs.fold import normalise

    normalise(model, name="fused")
    applied = list(dict.fromkeys(outcome.name for outcome in outcomes if outcome.status == "applied"))
    details = dict(joined.provenance.details) | {"passes": applied}
    if engine != "onnxruntime":
        details |= {"engine": engine}
    return replace(joined, model=model, provenance=replace(joined.provenance, details=details))


def _optimised(task: _Task) -> tuple[dict[str, ir.Model], ir.Model, list[Outcome]]:
    """Optimise members, assemble them in the best way that holds, and lay the whole out.

    The whole is checked in the end, and several members each by itself, whose errors would be small in the mean; where the
    numbers changed, every step is done again and checked by itself.
    """
    unchecked = replace(task, reference=None)
    alone = len(task.members) == 1
    members, outcomes = _optimise_members(unchecked if alone else task)
    model, found = _steps(unchecked, members)
    if not holds(task.check, model):
        members, outcomes = _optimise_members(task) if alone else (members, outcomes)
        model, found = _steps(task, members)
    return members, model, outcomes + found


def _optimise_members(task: _Task) -> tuple[dict[str, ir.Model], list[Outcome]]:
    passes = task.passes("member")
    members: dict[str, ir.Model] = {}
    outcomes: list[Outcome] = []
    for digest, number in task.plan.distinct.items():
        model, check = task.members[digest].clone(), None
        if task.reference is not None:
            plain, brief = replace(task.graphs[number], model=model), len(task.members) > 1
            check = Reference(plain, seed=task.seed, brief=brief, alone=task.reference.alone).check
        members[digest], found = run_passes(model, passes, subject=task.names[number], check=check)
        outcomes += found
    return members, outcomes


def _steps(task: _Task, members: Mapping[str, ir.Model]) -> tuple[ir.Model, list[Outcome]]:
    """Assemble members in the best way that holds, and lay the whole out; return the join where none does."""
    outcomes: list[Outcome] = []
    for name, stack, share in WAYS:
        assembled, outcome = _assembled(task, members, name, stack, share)
        outcomes.append(outcome)
        if assembled is not None:
            model, apart = _or_apart(task, members, assembled, outcome.macs_after)
            model, found = task.laid_out(model)
            return model, outcomes + apart + found
    return task.joined.model, outcomes


def _assembled(
    task: _Task, members: Mapping[str, ir.Model], name: str, stack: bool, share: bool
) -> tuple[ir.Model | None, Outcome]:
    """Assemble in one way; None and the reason where it cannot be or the numbers change."""
    outcome = partial(Outcome, name=name, subject="plan", macs_before=task.before, macs_after=task.before)
    n_outputs = task.joined.output_spec.n_outputs
    try:
        model, notes = assemble(members, task.plan, n_outputs=n_outputs, stack=stack, share=share)
    except Refused as refusal:
        return None, outcome(status="refused", reason=str(refusal), refused=(refusal,))
    except DEFECTS as error:
        return None, outcome(status="undone", reason=failed(error))
    model, macs = cleaned(model)
    note_work(model, members, task.networks)
    return judged(model, task.check, outcome, reason="; ".join(notes) or "one branch", macs_after=macs)


def _or_apart(
    task: _Task, members: Mapping[str, ir.Model], model: ir.Model, before: int
) -> tuple[ir.Model, list[Outcome]]:
    """Return every branch by itself where the engine's table says that views at once cost more; what was assembled else."""
    costs = task.engine.costs
    if costs is None or task.plan.n_branches == 1 or not (over := spilled(model, costs)):
        return model, []
    apart, macs = _apart(task, members)
    now, then = us_of(model, before, costs), us_of(apart, macs, costs)
    told = f"{over:,} numbers would leave the cache: {now:,.0f} us as assembled, {then:,.0f} us each branch by itself"
    outcome = partial(Outcome, name=APART, subject="plan", macs_before=before, macs_after=before)
    if then >= now:
        return model, [outcome(status="refused", reason=told)]
    kept, said = judged(apart, task.check, outcome, reason=told, macs_after=macs)
    return kept or model, [said]


def _apart(task: _Task, members: Mapping[str, ir.Model]) -> tuple[ir.Model, int]:
    """Return the plan over optimised members, every branch by itself, and its multiply-adds."""
    model, macs = cleaned(join(members, task.plan, task.joined.input_spec, task.joined.output_spec))
    note_work(model, members, task.networks)
    return model, macs


def _variants(task: _Task, members: Mapping[str, ir.Model]) -> dict[str, ir.Model]:
    """Return the candidates for tuning: every way of assembling, and the default without each pass on the whole."""
    ways = {name: _assembled(task, members, name, stack, share)[0] for name, stack, share in WAYS}
    made = {name: model for name, model in ways.items() if model is not None}
    if not made:
        return {}
    first = next(iter(made.values()))
    made[APART] = _apart(task, members)[0]
    variants = {name: task.laid_out(model)[0] for name, model in made.items()}
    for left_out in task.passes("whole"):
        rest = [one for one in task.passes("whole") if one is not left_out]
        variants[f"without {left_out.name}"] = task.laid_out(first, rest)[0]
    return variants
