"""What the numbers of a classifier are: logits, probabilities, or their logarithms; read off the end of its graph.

A softmax (or, of one output, a sigmoid) inside the graph makes probabilities of logits. Whoever averages several
classifiers must know: the mean of logits and the mean of probabilities can name different classes. Where the end of the
graph does not show it (a mean of heads, a softmax written out), answers that add up to 1 do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from rtserve.errors import RtserveError
from rtserve.graphs.answers import answer_windows
from rtserve.spec import OutputSpec

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph

__all__ = ["adds_up", "classifies", "form_of", "output_form", "with_form"]

_SHAPING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Transpose", "Gather", "Slice", "Split")
"""Operators that hand numbers on as they are, or some of them: the probability of the second class alone, say."""
_GUARDS = ("Clip", "Add")
"""Operators that keep a probability off 0 and 1, where they hardly move it."""
_HARDLY = 1e-2
_SMALL = 1e-5
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
    while node is not None and (node.op_type in _SHAPING or _guards(node)):
        first = node.inputs[0]
        node = None if first is None else first.producer()
    return node


def _guards(node: ir.Node) -> bool:
    """Whether a node keeps probabilities off their ends: ``clamp(1e-7, 1)``, ``+ 1e-8``."""
    from rtserve.graphs.fold import constant

    if node.op_type not in _GUARDS:
        return False
    low, high = [*(constant(value) for value in node.inputs[1:3]), None, None][:2]
    if node.op_type == "Add":
        return low is not None and bool(np.abs(low).max(initial=0.0) <= _HARDLY)
    ends = (0.0 if low is None else float(np.ravel(low)[0]), 1.0 if high is None else float(np.ravel(high)[0]))
    return ends[0] <= _HARDLY and ends[1] >= 1 - _HARDLY


def adds_up(answers: np.ndarray) -> bool:
    """Whether answers (n, n_outputs) of several numbers each are from 0 to 1 and add up to 1."""
    if answers.ndim != 2 or answers.shape[1] < 2 or not len(answers) or not np.isfinite(answers).all():
        return False
    return bool(answers.min() >= -_SMALL and np.abs(answers.sum(axis=1, dtype=np.float64) - 1).max() <= 10 * _SMALL)


_ADD_UP: WeakKeyDictionary[ir.Model, bool] = WeakKeyDictionary()
"""What was found; a graph is asked about its form several times."""


def _answers_add_up(graph: Graph) -> bool:
    """Whether a graph's answers to a few windows do, in onnxruntime."""
    from rtserve.graphs.runners import OnnxruntimeRunner

    if graph.output_spec.n_outputs < 2 or graph.output_spec.target not in ("", "class"):
        return False
    if graph.model not in _ADD_UP:
        try:
            x = answer_windows(graph.input_spec, graph.fixed_batch or 5)
            _ADD_UP[graph.model] = adds_up(OnnxruntimeRunner(graph).infer(x))
        except RtserveError:  # what cannot run is refused where it is to run
            _ADD_UP[graph.model] = False
    return _ADD_UP[graph.model]


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
    if said or graph.provenance.kind == "fuse":
        return said
    return "probabilities" if _answers_add_up(graph) else "logits"


def with_form(spec: OutputSpec, model: ir.Model) -> OutputSpec:
    """Return the output spec of a classifier that does not state its form with the one its graph ends in."""
    if not spec.classifies or spec.form:
        return spec
    return replace(spec, form=output_form(model) or "logits")
