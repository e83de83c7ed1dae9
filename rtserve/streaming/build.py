"""From a window's graph to its step: analysed, scheduled, written, and compared before anybody gets it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from rtserve.errors import InputError, ParityError, RtserveError
from rtserve.fusion.fuse import fuse_with_report, layout_of
from rtserve.fusion.ir.clean import cleaned
from rtserve.fusion.join import prepare_member
from rtserve.fusion.lower.onnxruntime import fast_fir, paired, pool
from rtserve.fusion.run.order import passes_for
from rtserve.fusion.run.running import run_passes
from rtserve.graphs.fold import normalise
from rtserve.graphs.graph import Graph, as_graph
from rtserve.graphs.heads import classifies, form_of
from rtserve.graphs.macs import count_macs
from rtserve.spec import Provenance
from rtserve.streaming.analysis import analyse
from rtserve.streaming.blocks import as_means, in_blocks
from rtserve.streaming.check import check_step
from rtserve.streaming.explain import Layer, layers_of, why_not
from rtserve.streaming.packed import state_size
from rtserve.streaming.schedule import Schedule, cheapest
from rtserve.streaming.step_graph import StepGraph
from rtserve.streaming.write import write

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.parity import ParityReport

__all__ = ["StreamReport", "stream"]

SPREADING = (fast_fir.run, paired.run, pool.run)
"""Rewrites by which neighbouring moments share products: what is no number would go into moments that outlive it."""
SHARED = 0.95
"""Part of a window's multiply-adds above which nothing worth a state is shared."""


@dataclass(frozen=True, kw_only=True)
class StreamReport:
    """What a step does of its window's work.

    Parameters
    ----------
    macs_window, macs_form, macs_step : int
        Multiply-adds of the window's graph, of the form of it that is streamed, and of a step.
    nodes_window, nodes_step : int
        Nodes of both.
    state_numbers : int
        Numbers that a stream keeps.
    layers : tuple of Layer
        What happens to each layer, in order.
    parity : ParityReport
        The comparison, hop after hop.
    """

    macs_window: int
    macs_form: int
    macs_step: int
    nodes_window: int
    nodes_step: int
    state_numbers: int
    layers: tuple[Layer, ...]
    parity: ParityReport


def stream(
    graph: Graph | str | Path, *, hop: int, engine: str = "onnxruntime", seed: int = 0
) -> tuple[StepGraph, StreamReport]:
    """Return the step of a window's graph for every `hop` new samples.

    Parameters
    ----------
    graph : Graph or path
        Exported or fused: one input (batch, n_chans, n_times), any batch.
    hop : int
        New samples from one answer to the next; fewer than the window has.
    engine : str
        Which engine the step is laid out for, as in `rtserve.fusion.fuse.fuse`; every engine runs it.
    seed : int
        Seed of the recordings that it is compared on.

    Returns
    -------
    StepGraph, StreamReport
        Its answers are the windows', within the window graph's own parity bound.

    Raises
    ------
    InputError
        Where the hop is none, or two windows that far apart share nothing: the window's graph is what to use then.
    ParityError
        Where the step's answers are not the windows'.
    """
    graph = as_graph(graph)
    _require_hop(graph, hop)
    forms = [analyse(model) for model in _forms(graph)]
    window = min(_window_macs(graph, engine), *(sum(form.macs.values()) for form in forms))
    plan = _chosen([plan for form in forms for plan in cheapest(form, hop)], window)
    plain = _step(graph, hop, write(plan, graph.output_spec.n_outputs))
    step = _laid_out(plain, engine)
    try:
        parity = check_step(step, graph, seed=seed)
    except ParityError:
        if step is plain:
            raise
        step, parity = plain, check_step(plain, graph, seed=seed)
    return step, _reported(graph, plan, step, parity)


def _step(graph: Graph, hop: int, model: ir.Model) -> StepGraph:
    """Return a written step as what it is the step of."""
    normalise(model, name="step")
    model, _ = cleaned(model)
    said = graph.output_spec
    if classifies(graph) and not said.form:  # a step's own end cannot be asked whether answers add up
        said = replace(said, form=form_of(graph))
    return StepGraph(
        model=model, input_spec=graph.input_spec, output_spec=said, hop=hop,
        provenance=Provenance(kind="stream", details={
            "window": graph.digest, "hop": hop,
            "provenance": {"kind": graph.provenance.kind, "details": graph.provenance.details},
        }),
    )  # fmt: skip


def _laid_out(step: StepGraph, engine: str) -> StepGraph:
    """Return a step as an engine likes it, its outputs called as before."""
    layout, model = layout_of(engine), step.model
    if layout == "onnxruntime":
        model = model.clone()
        as_means(model)
    passes = [one for one in passes_for(layout, "whole") if one.run not in SPREADING]
    model, _ = run_passes(model, passes, subject="step")
    for old, new in zip(step.model.graph.outputs, model.graph.outputs, strict=True):
        new.name, new.shape = old.name, old.shape
    normalise(model, name="step")
    return replace(step, model=model)


def _require_hop(graph: Graph, hop: int) -> None:
    """Raise `InputError` unless windows `hop` samples apart overlap, and each has its own answer."""
    spec = graph.input_spec
    if not isinstance(hop, Integral):
        raise InputError(
            f"hop {hop!r} is no whole number of samples",
            hint=f"give samples: a hop of H seconds is H times the rate; 1 to {spec.n_times - 1} here",
        )
    if not 0 < hop < spec.n_times:
        raise InputError(
            f"a hop of {hop} samples for windows of {spec.n_times}: windows that far apart share no sample",
            hint=f"give a hop of 1 to {spec.n_times - 1} samples; for others run the window's graph on every window",
        )
    if graph.output_spec.coupled:
        raise InputError(
            "the graph's answer to a window depends on the others in its batch: there is no stream of one window each",
            hint="run the window's graph on batches as it was meant",
        )


def _window_macs(graph: Graph, engine: str) -> int:
    """Return the multiply-adds of a window as given and as fused for an engine: the fewer, as what a step must spare of."""
    macs = count_macs(graph.model)
    with contextlib.suppress(RtserveError):
        macs = min(macs, count_macs(fuse_with_report([graph], engine=engine, parity=False)[0].model))
    return macs


def _forms(graph: Graph) -> list[ir.Model]:
    """Return the graph as it is, and as the compiler leaves it for no engine in particular: the cheaper one is streamed.

    Of both also with wide pools in blocks.
    """
    model, _ = cleaned(prepare_member(graph, "the graph"))
    models = [model]
    with contextlib.suppress(RtserveError):  # what fusing asks beyond streaming, like a classifier's form
        models.append(cleaned(fuse_with_report([graph], engine="torch", parity=False)[0].model)[0])
    for blocked in [one.clone() for one in models]:
        if in_blocks(blocked):
            normalise(blocked, name="graph")
            models.append(cleaned(blocked)[0])
    return models


def _chosen(plans: Sequence[Schedule], window: int) -> Schedule:
    """Return the cheapest plan of those that spare some of the `window` multiply-adds of its cheapest form.

    Raises
    ------
    InputError
        Where none does.
    """
    sharing = [plan for plan in plans if _shares(plan, window)]
    if sharing:
        return min(sharing, key=lambda one: one.us)
    least = min(plans, key=lambda one: one.macs)
    if least.macs < sum(least.analysis.macs.values()):
        why = f"a step does {least.macs:,} multiply-adds, the window's fused graph {window:,}"
    else:
        why = why_not(plans[0])
    raise InputError(
        f"two windows {plans[0].hop} samples apart share nothing that is worth keeping: {why}",
        hint="the window's graph is what to run on every window; another hop may share more (a multiple of the strides)",
    )


def _shares(plan: Schedule, window: int) -> bool:
    return plan.macs <= SHARED * window if window else len(plan.states) > 0


def _reported(graph: Graph, plan: Schedule, step: StepGraph, parity: ParityReport) -> StreamReport:
    return StreamReport(
        macs_window=count_macs(graph.model),
        macs_form=sum(plan.analysis.macs.values()),
        macs_step=plan.macs,
        nodes_window=graph.model.graph.num_nodes(),
        nodes_step=step.model.graph.num_nodes(),
        state_numbers=state_size(step),
        layers=tuple(layers_of(plan)),
        parity=parity,
    )
