"""Fuse: members x views, merged and calibrated, as one graph with one input and one output.

The graph is first joined as the plan says, then optimised, then compared in float64 with the join. An exported graph
and a fused one are one type, so the result can be fused again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import InputError
from rtserve.files import file_names
from rtserve.fusion.classes import in_form, merged_output, require_average, require_kept_classes, require_meant
from rtserve.fusion.plan import Calibration, FusionPlan, Merge, make_plan
from rtserve.fusion.views import View
from rtserve.graphs.meaning import stated_specs
from rtserve.nearest import meant
from rtserve.spec import InputSpec, OutputSpec, Provenance, require_same_input, require_same_output

if TYPE_CHECKING:
    from rtserve.fusion.run.outcome import OptimizationReport
    from rtserve.graphs.graph import Graph
    from rtserve.graphs.parity import ParityReport

__all__ = ["fuse", "fuse_with_report", "layout_of"]


def fuse(
    members: Sequence[Graph | str | Path],
    *,
    views: str | Sequence[str] | Sequence[View] = ("identity",),
    merge: str | Merge = "mean",
    calibration: Calibration | None = None,
    optimize: bool = True,
    force: bool = False,
    **options: Any,
) -> Graph:
    """Fuse members and views into one graph.

    Parameters
    ----------
    members : sequence of Graph or path
        Networks for the same windows and target; any architectures may be mixed.
    views : str or sequence
        Names as in `rtserve.fusion.views`, e.g. ``"identity,roll:+3"``.
    merge : str or Merge
        ``mean``, ``weighted:FILE``, ``median``, ``trimmed:p``; flat over all branches, member-major. Of classifiers
        with what is averaged: ``mean-logits``, ``mean-probabilities``, ...
    calibration : Calibration, optional
        Scale, offset and clip of the merged output.
    optimize : bool
        Whether the passes run; the numbers are the same.
    force : bool
        Use a view even where it breaks the meaning of the target.
    **options
        Passed to `fuse_with_report`.

    Returns
    -------
    Graph
        Its provenance holds the plan, the members' digests and ancestry, and the passes.

    Raises
    ------
    SpecMismatchError
        Where members differ in their windows or output.
    InputError
        Where a view is refused, or a name or file is wrong.
    ParityError
        Where the fused graph's numbers differ from the plan's.
    """
    graph, _, _ = fuse_with_report(
        members, views=views, merge=merge, calibration=calibration, optimize=optimize, force=force, **options
    )
    return graph


def fuse_with_report(
    members: Sequence[Graph | str | Path],
    *,
    views: str | Sequence[str] | Sequence[View] = ("identity",),
    merge: str | Merge = "mean",
    calibration: Calibration | None = None,
    optimize: bool = True,
    force: bool = False,
    passes: Sequence[str] | None = None,
    engine: str = "onnxruntime",
    tune: bool = False,
    average: str = "",
    stated: Mapping[str, Any] | None = None,
    parity: bool = True,
    seed: int = 0,
) -> tuple[Graph, OptimizationReport, ParityReport | None]:
    """Fuse as `fuse` does, and return what the passes did and the parity report.

    Parameters
    ----------
    members, views, merge, calibration, optimize, force
        As `fuse`.
    passes : sequence of str, optional
        Names of the passes to run instead of all.
    engine : str
        Which engine the graph is laid out for, one of `rtserve.graphs.engines.LAYOUTS` (``torch`` is what runs in a zip).
        Every engine runs it, with the same numbers; only the speed differs.
    tune : bool
        Time the candidates on this machine and keep the fastest.
    average : str
        What a merge of classifiers is of, ``logits`` or ``probabilities``, where `merge` does not say it.
    stated : mapping, optional
        ``unit``, ``sfreq``, ``target``, ``classes`` of all members, where they do not say.
    parity : bool
        Whether to compare with the unoptimised join in float64, and to ask what must be known of a graph that is kept;
        False for one that is only timed.
    seed : int
        Seed of the probe inputs.
    """
    from rtserve.fusion.join import join, prepare_member
    from rtserve.fusion.run.pipeline import optimize_graph
    from rtserve.graphs.graph import Graph, as_graph

    _require_known(passes or ())
    engine = layout_of(engine)
    members = _several(members)
    graphs = [as_graph(member) for member in members]
    labels = _labels(members)
    inputs, outputs = stated_specs(*_common_specs(graphs, labels), stated or {}, name="a member")
    plan = make_plan([graph.digest for graph in graphs], views, merge, calibration, average)
    require_average(outputs, graphs, plan, labels)
    if parity:
        require_meant(outputs, graphs, plan, labels)
    called = dict(zip(plan.members, labels, strict=True))
    if plan.merge.kind != "weighted":  # the order says nothing then, and must not change a bit of the result
        order = sorted(range(len(graphs)), key=lambda k: plan.members[k])
        graphs = [graphs[k] for k in order]
        plan = replace(plan, members=tuple(plan.members[k] for k in order))
    plan = replace(plan, views=tuple(view.bind(inputs) for view in plan.views))
    for view in plan.views:
        refusal = view.valid_for(inputs, outputs)
        if refusal is not None and not (force and refusal.forceable):
            hint = "pass --force-views to use it all the same" if refusal.forceable else "leave it out"
            raise InputError(f"view {view.name} is refused: {refusal.reason}", hint=hint)
    outputs = merged_output(outputs, graphs, plan)
    require_kept_classes(outputs, graphs, plan.calibration)
    graphs = [in_form(graph, plan.merge.average) for graph in graphs]
    prepared = {digest: prepare_member(graphs[k], called[digest]) for digest, k in plan.distinct.items()}
    coupled = _coupling(graphs, plan, called)
    outputs = replace(outputs, coupled=outputs.coupled or bool(coupled))
    details = {
        "plan": plan.to_dict(),
        "members": [
            {"digest": digest, "provenance": {"kind": graph.provenance.kind, "details": graph.provenance.details}}
            for digest, graph in zip(plan.members, graphs, strict=True)
        ],
        "removed": removed_branches(plan),
        "passes": [],
    }
    asked = {key: value for key, value in (stated or {}).items() if value}
    told = {"coupled": coupled, "assumed": _assumed(plan, graphs, inputs, outputs), "stated": asked}
    joined = Graph(
        model=join(prepared, plan, inputs, outputs),
        input_spec=inputs,
        output_spec=outputs,
        provenance=Provenance(kind="fuse", details=details | {key: value for key, value in told.items() if value}),
    )
    fused, report = optimize_graph(
        joined, members=prepared, graphs=graphs, names=[called[digest] for digest in plan.members], plan=plan,
        passes=passes if optimize else (), engine=engine, tune=tune, check=parity, seed=seed,
    )  # fmt: skip
    return fused, report, report.parity


def _several(members: Any) -> Sequence[Graph | str | Path]:
    """Return members as a list: one by itself is a list of one.

    Raises
    ------
    InputError
        Where they are no sequence, or an empty one.
    """
    from rtserve.graphs.graph import Graph

    if isinstance(members, Graph | str | Path):
        return [members]
    if isinstance(members, Mapping) or not isinstance(members, Iterable):
        raise InputError(f"a {type(members).__name__} is no list of members", hint="rtserve.fuse([graph, graph, ...])")
    if not (given := list(members)):
        raise InputError("no member given", hint="name at least one graph made by `rtserve export`")
    return given


def _coupling(graphs: Sequence[Graph], plan: FusionPlan, called: dict[str, str]) -> str:
    """Return which members answer by their batch, and how; an empty text where none does.

    Raises
    ------
    ParityError
        Where one draws at random: it has no answer to fuse.
    """
    found = {called[d]: _coupled_by(graphs[number], called[d]) for d, number in plan.distinct.items()}
    said = [how if len(plan.distinct) == 1 else f"{name}: {how}" for name, how in found.items() if how]
    return "; ".join(said[:3]) + (f"; and {len(said) - 3} more members" if len(said) > 3 else "")


def _coupled_by(graph: Graph, name: str) -> str:
    """Return how a member's answers depend on the batch: as it says, or as is found of one that was never examined.

    Such a one was made elsewhere, or by version 0.1.
    """
    from rtserve.graphs.answers import answer_windows
    from rtserve.graphs.runners import OnnxruntimeRunner
    from rtserve.graphs.steady import coupled_by, require_random_free, require_steady_graph

    if graph.answers is not None:
        return graph.coupling
    require_random_free(graph, name=name)
    infer, x = OnnxruntimeRunner(graph).infer, answer_windows(graph.input_spec)
    require_steady_graph(graph, infer, x, name=name)
    return graph.coupling or coupled_by(graph, infer, x)


def _require_known(passes: Sequence[str]) -> None:
    """Raise `InputError` where a pass has a name that none has."""
    from rtserve.fusion.run.order import PASSES
    from rtserve.fusion.run.pipeline import APART, WAYS

    known = [*(one.name for one in PASSES), *(way[0] for way in WAYS), APART]
    for name in passes:
        if name not in known:
            hint = meant(name, known, f"passes are {', '.join(known)}")
            raise InputError(f"unknown pass {name!r}", hint=hint)


def layout_of(engine: str) -> str:
    """Return the name of an engine that graphs are laid out for."""
    from rtserve.fusion.engines import ENGINES
    from rtserve.graphs.engines import engine_called, layout_hint

    engine = engine_called(engine)
    if engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}", hint=layout_hint(engine))
    return engine


def _labels(members: Sequence[Graph | str | Path]) -> list[str]:
    """Return what every table and error calls the members: their file names, with the folder where two are alike."""
    named = iter(file_names([m for m in members if isinstance(m, (str, Path))]))
    return [next(named) if isinstance(m, (str, Path)) else f"member {k}" for k, m in enumerate(members, start=1)]


def _common_specs(graphs: Sequence[Graph], labels: Sequence[str]) -> tuple[InputSpec, OutputSpec]:
    """Return what the members say together: what one leaves open is taken from the first that states it.

    Raises
    ------
    SpecMismatchError
        Where two members contradict each other.
    """
    inputs, outputs = graphs[0].input_spec, graphs[0].output_spec
    for index, (label, graph) in enumerate(zip(labels, graphs, strict=True)):
        for other, earlier in zip(labels[:index], graphs[:index], strict=True):
            require_same_input(earlier.input_spec, graph.input_spec, names=(other, label))
            require_same_output(earlier.output_spec, graph.output_spec, names=(other, label))
        inputs, outputs = inputs.completed_by(graph.input_spec), outputs.completed_by(graph.output_spec)
    return inputs, outputs


def _assumed(plan: FusionPlan, graphs: Sequence[Graph], inputs: InputSpec, outputs: OutputSpec) -> list[dict[str, str]]:
    """Return per member what it does not state and was taken as the others state it."""
    found = []
    for digest, number in plan.distinct.items():
        graph = graphs[number]
        taken = {key: str(getattr(inputs, key)) for key in graph.input_spec.unknown if key not in inputs.unknown}
        if outputs.target and not graph.output_spec.target:
            taken["target"] = outputs.target
        if taken:
            found.append({"member": digest} | taken)
    return found


def removed_branches(plan: FusionPlan) -> list[dict[str, Any]]:
    """Return the branches that need not be computed: duplicates of an earlier one, and those of weight zero."""
    seen: dict[tuple[str, str], int] = {}
    removed = []
    branches = zip(product(enumerate(plan.members), plan.views), plan.weights, strict=True)
    for index, (((member, digest), view), weight) in enumerate(branches):
        key = (digest, repr(view.to_dict()))
        why = f"duplicate of branch {seen[key]}" if key in seen else ""
        why = "weight zero" if weight == 0.0 else why
        if why:
            removed.append({"branch": index, "member": member, "view": view.name, "why": why})
        else:
            seen[key] = index
    return removed
