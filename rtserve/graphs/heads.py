"""What the numbers of a classifier are: logits, probabilities, or their logarithms; read off the end of its graph.

A softmax (or, of one output, a sigmoid) inside the graph makes probabilities of logits. Whoever averages several
classifiers must know: the mean of logits and the mean of probabilities can name different classes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rtserve.spec import OutputSpec

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph

__all__ = ["classifies", "form_of", "output_form", "with_form"]

_SHAPING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")
"""Operators that hand numbers on as they are."""
_FORMS = {"Softmax": "probabilities", "Sigmoid": "probabilities", "LogSoftmax": "log-probabilities"}


def output_form(model: ir.Model) -> str:
    """Return the form that the last operators of a graph give its numbers: ``""`` where they are none of a softmax."""
    value = model.graph.outputs[0]
    node = _maker(value)
    if node is not None and node.op_type == "Log":
        inner = _maker(node.inputs[0])
        return "log-probabilities" if inner is not None and inner.op_type == "Softmax" else ""
    return "" if node is None else _FORMS.get(node.op_type, "")


def _maker(value: ir.Value | None) -> ir.Node | None:
    """Return the node that made a value's numbers, past those that only shape them."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in _SHAPING:
        first = node.inputs[0]
        node = None if first is None else first.producer()
    return node


def classifies(graph: Graph) -> bool:
    """Whether a graph's outputs stand for classes: it says so, or several of them go through a softmax."""
    spec = graph.output_spec
    softmax = spec.n_outputs > 1 and not spec.target and output_form(graph.model) != ""
    return spec.classifies or softmax


def form_of(graph: Graph) -> str:
    """Return what a classifier's numbers are: what it says, else what its graph ends in.

    A fused graph of version 0.1 says nothing, and ends in its merge: ``""``.
    """
    said = graph.output_spec.form or output_form(graph.model)
    return said or ("" if graph.provenance.kind == "fuse" else "logits")


def with_form(spec: OutputSpec, model: ir.Model) -> OutputSpec:
    """Return the output spec of a classifier that does not state its form with the one its graph ends in."""
    if not spec.classifies or spec.form:
        return spec
    return replace(spec, form=output_form(model) or "logits")
