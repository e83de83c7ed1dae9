"""Whether a graph's numbers can be believed and measured at all, asked before any is: the engine, noise, coupling.

A graph is asked once per process and engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rtserve.errors import InputError, RtserveError
from rtserve.graphs.answers import answer_windows, require_engine
from rtserve.graphs.engines import ENGINE_NAMES, engine_called
from rtserve.graphs.graph import Graph
from rtserve.graphs.steady import coupled_by, require_random_free, require_steady_graph

__all__ = ["Vetted", "require_alone", "require_batch", "vet", "vetted"]

WINDOWS = 5
"""Windows of the caller's that are asked about, besides those that every graph is asked about."""


@dataclass(frozen=True, kw_only=True)
class Vetted:
    """What was found.

    Parameters
    ----------
    coupled_by : str
        How an answer depends on the rest of its batch; empty where it does not.
    notes : tuple of str
        What a reader must know.
    """

    coupled_by: str = ""
    notes: tuple[str, ...] = ()


_VETTED: dict[tuple[str, str], Vetted] = {}


def vet(
    graph: Graph,
    infer: Callable[[np.ndarray], np.ndarray],
    *,
    engine: str,
    name: str,
    windows: np.ndarray | None = None,
) -> Vetted:
    """Return what is to be known about a graph in an engine.

    Parameters
    ----------
    graph : Graph
        On trial.
    infer : callable
        The engine at work.
    engine, name : str
        Of `rtserve.graphs.runners.ENGINES`; what messages call the graph.
    windows : ndarray, optional
        (n_windows, n_chans, n_times) float32 in the graph's unit; a few of them are asked about too.

    Raises
    ------
    ParityError
        Where the graph draws at random, or the engine does not give its reference answers.
    """
    key = (graph.digest, engine)
    if key not in _VETTED:
        require_random_free(graph, name=name)
        x = answer_windows(graph.input_spec, graph.fixed_batch or WINDOWS)
        if windows is not None and not graph.fixed_batch:
            x = np.concatenate([windows[:WINDOWS], x[-1:], x[:1]])
        require_steady_graph(graph, infer, x, name=name)
        coupled = _coupled(graph, infer, x)
        note = require_engine(graph, infer, engine=ENGINE_NAMES[engine_called(engine)], name=name)
        _VETTED[key] = Vetted(coupled_by=coupled, notes=(note,) if note else ())
    return _VETTED[key]


def vetted(graph: Graph, engine: str) -> Vetted:
    """Return what `vet` found of a graph in an engine; nothing where it was not asked."""
    return _VETTED.get((graph.digest, engine), Vetted())


def _coupled(graph: Graph, infer: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> str:
    try:
        return graph.coupling or coupled_by(graph, infer, x)
    except RtserveError:  # it runs together and not alone
        return "a window alone is refused"


def require_batch(vetted: Vetted, batch: int | None, *, name: str) -> None:
    """Raise `InputError` where a coupled graph is to be measured at a batch size that nobody chose."""
    if vetted.coupled_by and not batch:
        raise InputError(
            f"the answers of {name} depend on the batch ({vetted.coupled_by}): it has a number for every batch size",
            hint="choose one with --batch of `rtserve evaluate` or `rtserve bench`, as the contest will call it; it becomes"
            " part of the signature",
        )


def require_alone(vetted: Vetted, *, name: str) -> None:
    """Raise `InputError` where a coupled graph is to be a branch: what it answers depends on how it would be called."""
    if vetted.coupled_by:
        raise InputError(
            f"the answers of {name} depend on the batch ({vetted.coupled_by}), so it has none of its own that branches"
            " could be chosen or judged by",
            hint="leave it out, or compare whole graphs by `rtserve evaluate --batch N`",
        )
