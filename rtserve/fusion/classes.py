"""Averaging classifiers: of logits or of probabilities, as it was asked for.

Branches are brought to the asked form before they are merged: probabilities are the softmax of logits (of one output:
its sigmoid) or the exponential of log-probabilities. There is no way back to logits from probabilities, which have
lost what all logits had in common; so that is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rtserve.errors import InputError
from rtserve.fusion.join import set_output
from rtserve.fusion.plan import Calibration, FusionPlan
from rtserve.graphs.emit import Emitter
from rtserve.graphs.heads import classifies, form_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph
    from rtserve.spec import OutputSpec

__all__ = ["in_form", "merged_output", "require_average", "require_kept_classes", "require_meant"]


def require_average(outputs: OutputSpec, graphs: Sequence[Graph], plan: FusionPlan, labels: Sequence[str]) -> None:
    """Make sure that it is said what the branches of classifiers are averaged as.

    Raises
    ------
    InputError
        Where several branches of a classifier are merged and nothing is said, or the average is of a thing that a
        member does not have.
    """
    average, merge = plan.merge.average, plan.merge.kind
    classes = [label for label, graph in zip(labels, graphs, strict=True) if outputs.classifies or classifies(graph)]
    if not average and classes and plan.n_branches > 1:
        raise InputError(
            f"{classes[0]} is a classifier: the {merge} of its branches can be of logits or of probabilities, which"
            " can name different classes",
            hint=f"say which: --merge {merge}-logits or --merge {merge}-probabilities"
            " (or --average logits, --average probabilities)",
        )
    for label, graph in zip(labels, graphs, strict=True):
        target, form = graph.output_spec.target or outputs.target, form_of(graph)
        if average and target not in ("", "class"):
            raise InputError(f"{label} predicts {target}, which has no {average}", hint=f"use --merge {merge}")
        if average and not form:
            raise InputError(
                f"{label} was fused before it was said what a merge averages, so its numbers may be logits or not",
                hint="fuse its members anew",
            )
        if average == "logits" and form == "probabilities":
            raise InputError(
                f"{label} gives probabilities (its softmax is inside), from which its logits cannot be had",
                hint=f"--merge {merge}-probabilities, or export it without its softmax",
            )


def require_meant(outputs: OutputSpec, graphs: Sequence[Graph], plan: FusionPlan, labels: Sequence[str]) -> None:
    """Make sure that it is known what several numbers per window are before branches of them are merged.

    Raises
    ------
    InputError
        Where no member states its target, none of them ends in a softmax, and the merge does not say what it is of:
        were they classes, logits and probabilities would give different answers.
    """
    known = outputs.target or plan.merge.average or any(classifies(graph) for graph in graphs)
    if known or outputs.n_outputs < 2 or plan.n_branches < 2:
        return
    merge = plan.merge.kind
    raise InputError(
        f"{labels[0]} gives {outputs.n_outputs} numbers per window and does not state what they are: of classes, the"
        f" {merge} of logits and that of probabilities can differ",
        hint=f"for classes --merge {merge}-logits or --merge {merge}-probabilities; for other numbers --target NAME (or"
        " rtserve annotate MEMBER --target NAME)",
    )


def require_kept_classes(outputs: OutputSpec, graphs: Sequence[Graph], calibration: Calibration) -> None:
    """Make sure that a calibration leaves a classifier's numbers what they are said to be.

    Of logits, a scale above 0 is a temperature, and an offset moves the threshold of a single one. Probabilities scaled
    are none; a negative scale turns the classes round, and a clip makes them equal.

    Raises
    ------
    InputError
        Where it does not.
    """
    if not calibration or not (outputs.classifies or any(classifies(graph) for graph in graphs)):
        return
    if outputs.form in ("", "logits") and calibration.scale > 0 and calibration.low is None is calibration.high:
        return
    clip = "" if calibration.low is None is calibration.high else f", clip {calibration.low} to {calibration.high}"
    raise InputError(
        f"a calibration (scale {calibration.scale:g}, offset {calibration.offset:g}{clip}) of the"
        f" {outputs.form or 'logits'} of a classifier would change what they say",
        hint="leave it out; of logits a scale above 0 is a temperature and changes no class",
    )


def in_form(graph: Graph, average: str) -> Graph:
    """Return a member whose outputs are what the merge averages; itself where they are already."""
    form = form_of(graph)
    if average != "probabilities" or form == "probabilities":
        return graph
    model = graph.clone_model()
    value = model.graph.outputs[0]
    value.name = f"{value.name}.{form}"
    emit = Emitter(model.graph, prefix="head")
    n = graph.output_spec.n_outputs
    if form == "log-probabilities":
        made: ir.Value = emit("Exp", value)
    else:
        made = emit("Softmax", value, axis=1) if n > 1 else emit("Sigmoid", value)
    set_output(model.graph, made, n)
    output_spec = replace(graph.output_spec, form="probabilities")
    return replace(graph, model=model, output_spec=output_spec, answers=None, stages=None)


def merged_output(outputs: OutputSpec, graphs: Sequence[Graph], plan: FusionPlan) -> OutputSpec:
    """Return the output spec of a fusion: classes in the form that was averaged, or that its only branch has."""
    if plan.merge.average:
        logarithms = plan.merge.average == "logits" and {*map(form_of, graphs)} == {"log-probabilities"}
        form = "log-probabilities" if logarithms else plan.merge.average
        return replace(outputs, target=outputs.target or "class", form=form)
    if plan.n_branches == 1 and classifies(graphs[0]):
        return replace(outputs, form=form_of(graphs[0]))
    return outputs
