"""Whether a graph answers a window by that window alone: `rtserve.graphs.behaviour` asked of an ONNX file.

A graph made elsewhere can draw at random (RandomNormalLike, Dropout in training mode) or take statistics over its batch.
The first has no answer to measure; the second is coupled, and has one for every batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import ParityError, RtserveError
from rtserve.graphs.fold import DRAWS
from rtserve.graphs.parity import TOLERANCE, relative_error

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph

__all__ = ["coupled_by", "require_random_free", "require_steady_graph"]

Infer = Callable[[np.ndarray], np.ndarray]
AXIS_OPERATORS = ("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "TopK", "CumSum", "LpNormalization")
CONFIRMED = 1e-7
"""Relative difference in float64 that is no rounding."""


HINT = "export the network in evaluation mode: model.eval(), F.dropout(..., training=self.training)"


def require_random_free(graph: Graph, *, name: str) -> None:
    """Raise `ParityError` naming the nodes of a graph that draw at random."""
    drawing = [_named(node) for node in graph.model.graph.all_nodes() if _draws(node)]
    if drawing:
        raise ParityError(
            f"{name} answers the same windows differently: {'; '.join(drawing[:3])} draws at random", hint=HINT
        )


def require_steady_graph(graph: Graph, infer: Infer, x: np.ndarray, *, name: str) -> None:
    """Raise `ParityError` where a graph draws at random, or answers x (batch, n_chans, n_times) differently again."""
    require_random_free(graph, name=name)
    apart = _apart(np.asarray(infer(x)), np.asarray(infer(x)))
    if apart > TOLERANCE:
        raise ParityError(f"{name} answers the same windows differently, {apart:.1e} apart", hint=HINT)


def coupled_by(graph: Graph, infer: Infer, x: np.ndarray) -> str:
    """Return how the answer to a window depends on the others in its batch, with the cause, or an empty text.

    Parameters
    ----------
    graph : Graph
        What is asked.
    infer : callable
        An engine at work; what it says is confirmed in float64.
    x : ndarray
        (batch, n_chans, n_times), 2 windows or more.
    """
    seen = _seen(infer, x, TOLERANCE, fixed=graph.fixed_batch) if len(x) > 1 else {}
    if not seen:
        return ""
    exact = _exact(graph)
    if exact is not None and not _seen(exact, x, CONFIRMED, fixed=graph.fixed_batch):
        return ""  # rounding: another batch size is another order of summation
    suspects = [_mixing(node) for node in graph.model.graph.all_nodes()]
    cause = "; ".join([text for text in suspects if text][:3]) or "something that mixes the batch axis with another"
    return f"{' and '.join(seen)} it answers {max(seen.values()):.1e} differently: {cause}"


def _seen(infer: Infer, x: np.ndarray, tolerance: float, *, fixed: int) -> dict[str, float]:
    """Return in which company windows are answered differently, and how differently."""
    together, order = np.asarray(infer(x)), np.roll(np.arange(len(x)), 1)
    company = np.concatenate([x[:1], 5 * x[1:] + x[1:].std() + 1e-30]).astype(x.dtype)
    asked: dict[str, tuple[np.ndarray, slice | np.ndarray]] = {
        "among others": (company, slice(0, 1)),
        "in another order": (x[order], np.argsort(order)),
    }
    if not fixed:
        asked = {"alone": (x[:1], slice(0, 1))} | asked
    found = {}
    for how, (given, rows) in asked.items():
        got = np.asarray(infer(np.ascontiguousarray(given)))[rows]
        found[how] = _apart(got, together[:1] if isinstance(rows, slice) else together)
    return {how: apart for how, apart in found.items() if apart > tolerance}


def _exact(graph: Graph) -> Infer | None:
    from rtserve.graphs.runners import PlanRunner, ReferenceRunner

    try:
        return PlanRunner(graph, double=True).infer
    except RtserveError:
        pass
    try:
        return ReferenceRunner(graph).infer
    except RtserveError:
        return None


def _apart(got: np.ndarray, wanted: np.ndarray) -> float:
    if got.shape != wanted.shape or not np.array_equal(np.isfinite(got), np.isfinite(wanted)):
        return float("inf")
    return relative_error(got, wanted)


def _named(node: ir.Node) -> str:
    return f"{node.op_type} {node.name or node.outputs[0].name}"


def _flag(node: ir.Node, index: int) -> bool:
    from rtserve.graphs.fold import constant

    value = constant(node.inputs[index]) if len(node.inputs) > index else None
    return value is not None and bool(np.ravel(value)[0])


def _draws(node: ir.Node) -> bool:
    return node.op_type in DRAWS or (node.op_type == "Dropout" and _flag(node, 2))


def _mixing(node: ir.Node) -> str:
    """Return what a node does over the batch axis, or an empty text."""
    from rtserve.graphs.fold import constant

    if node.op_type == "BatchNormalization":
        training = node.attributes.get_int("training_mode", 0)
        return f"{_named(node)} takes the statistics of its batch (training_mode)" * bool(training)
    shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
    rank = len(shape) if shape is not None else 0
    if node.op_type.startswith("Reduce"):
        value = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        axes = list(np.ravel(value)) if value is not None else node.attributes.get_ints("axes")
        over = axes is None or any(int(axis) in (0, -rank) for axis in axes)
    elif node.op_type in AXIS_OPERATORS:
        default = 0 if node.op_type.startswith("Arg") else -1
        over = node.attributes.get_int("axis", default) in ((0, -rank) if rank > 1 else (0,))
    else:
        over = node.op_type == "MeanVarianceNormalization" and 0 in (node.attributes.get_ints("axes") or (0,))
    return f"{_named(node)} over the batch axis" * over
