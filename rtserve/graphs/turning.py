"""Which operator an engine computes otherwise: asked where a graph was refused, so that the refusal names it.

The graph is cut in two: what comes before is right, the rest is the engine's. With the cut at the start the answer is
off, at the end it cannot be; in between, by halving, lies an operator on which it turns. So an error is found where it
is made, not where it grows (a coarse resize shows in a mean that cancels), and only a few parts are run however large
the graph is. What is right is said by the executor in float64; for OpenVINO, whose graph is another, by onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rtserve.graphs.cut_model import cut_for_onnxruntime, cut_for_openvino
from rtserve.graphs.cut_program import cut_for_torch
from rtserve.graphs.cuts import Cuts
from rtserve.graphs.engines import ENGINE_NAMES

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph

__all__ = ["turning_point", "turning_words"]

_CUTS: dict[str, Callable[[Graph, np.ndarray], Cuts]] = {
    "openvino": cut_for_openvino,
    "onnxruntime": cut_for_onnxruntime,
    "torch": cut_for_torch,
}


def turning_words(graph: Graph, x: np.ndarray, off: Callable[[np.ndarray], float], allowed: float, engine: str) -> str:
    """Return `turning_point`, or that it could not be found: the refusal beside it stands without it."""
    if engine not in _CUTS:
        return ""
    try:
        return turning_point(graph, x, off, allowed, engine)
    except Exception as error:  # whatever engines raise on parts of a graph
        return f"which operator it turns on could not be found ({type(error).__name__})"


def turning_point(graph: Graph, x: np.ndarray, off: Callable[[np.ndarray], float], allowed: float, engine: str) -> str:
    """Return the operator that must not be the engine's for the answer to be allowed, in one sentence.

    Parameters
    ----------
    graph : Graph
        What was refused.
    x : ndarray
        The windows (batch, n_chans, n_times) that it was refused on.
    off : callable
        How far an answer (batch, n_outputs) is off; NaN where it cannot be compared.
    allowed : float
        How far it may be.
    engine : str
        The one that it was refused in: ``onnxruntime``, ``torch`` or ``openvino``.
    """
    cuts = _CUTS[engine](graph, x)
    name, errors = ENGINE_NAMES[engine], {cuts.last: off(cuts.answer(cuts.last))}
    if not errors[cuts.last] <= allowed:
        return f"{cuts.by} is off on this input as well"
    low, high = 0, cuts.last
    errors[low] = off(cuts.answer(low))
    if errors[low] <= allowed:
        return "no operator could be found that it turns on"
    while high - low > 1:
        middle = (low + high) // 2
        errors[middle] = off(cuts.answer(middle))
        low, high = (low, middle) if errors[middle] <= allowed else (middle, high)
    return (
        f"it turns on {cuts.called(low)}: with everything before it computed by {cuts.by} {name} is off by"
        f" {errors[low]:.1e}, with it as well by {errors[high]:.1e}"
    )
