"""Predictions of a graph for windows, in batches that bound the memory."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError, RtserveError
from rtserve.graphs.engines import ENGINES
from rtserve.graphs.graph import Graph
from rtserve.graphs.graph import as_graph as read_graph
from rtserve.graphs.runners import make_runner
from rtserve.measure.vetting import WINDOWS, require_batch, vet
from rtserve.signals.given import as_stated, given_windows
from rtserve.signals.stored import StoredArray
from rtserve.signals.windows import Stated, WindowSet
from rtserve.spec import unit_factor

__all__ = [
    "ENGINES",
    "as_graph",
    "as_windows",
    "in_batches",
    "learned_parameters",
    "make_runner",
    "predict",
    "require_finite",
    "unit_scale",
]

Progress = Callable[[int, int], None]
_NOTHING = Stated()
_BATCH_BYTES = 2 << 20
"""Input bytes of one batch. Activations are about 50 times the input in the widest of the known networks."""


def as_graph(graph: Graph | str | Path) -> Graph:
    """Return a graph, read from its file where a path was given; a zip is no graph, `InputError`."""
    if isinstance(graph, str | Path) and Path(graph).suffix == ".zip":
        raise InputError(
            f"{graph} is a zip, not a graph",
            hint=f"rtserve evaluate {graph} --data W.npz scores a zip through its entry point",
        )
    return read_graph(graph)


def as_windows(windows: Any, *, split: str = "all", stated: Stated = _NOTHING) -> WindowSet:
    """Return windows, read as `rtserve.signals.given` does, and of them the part that the file calls `split`.

    Raises
    ------
    InputError
        Where they are no windows, the file marks no splits, or none of that name.
    """
    found: WindowSet = windows if isinstance(windows, WindowSet) else as_stated(windows, stated)
    if not len(found):
        raise InputError("the window set is empty", hint="give at least one window")
    if split == "all":
        return found
    marks = np.asarray(found.extra.get("split", np.empty(0, "U1"))).astype("U")
    if marks.shape != (len(found),):
        raise InputError(f"these windows mark no splits, so there is no {split!r}", hint="--split all takes them all")
    if split not in marks:
        raise InputError(f"no window is marked {split!r}", hint=f"the splits are {', '.join(np.unique(marks))}, all")
    return found.take(marks == split)


def predict(
    graph: Graph | str | Path,
    windows: Any,
    *,
    unit: str | None = None,
    sfreq: float = 0.0,
    engine: str = "onnxruntime",
    threads: int = 1,
    batch: int | None = None,
    name: str = "the graph",
    progress: Progress | None = None,
) -> np.ndarray:
    """Return (n_windows, n_outputs) float32 predictions.

    Parameters
    ----------
    graph : Graph or path
        What predicts.
    windows : array, tensor, mne.Epochs, data set, WindowSet or path
        X (n_windows, n_chans, n_times), as `rtserve.signals.given` reads it; brought to the unit that the graph takes.
    unit : str, optional
        Unit of the samples where they do not say it: ``"V"``, ``"mV"``, ``"uV"``, ``"1"`` (standardised), or
        ``"graph"``: as the graph takes it.
    sfreq : float
        Rate in Hz where they do not say it; 0 where nobody knows.
    engine, threads : str, int
        One of `ENGINES`; one thread gives the same numbers on every machine of a kind.
    batch : int, optional
        Windows per call; by default what fits 2 MiB of input. A graph with a fixed batch gets that one.
    name : str
        What errors call the graph.
    progress : callable, optional
        Called with (windows done, windows in all) after each batch.

    Raises
    ------
    SpecMismatchError
        Where the windows do not fit the graph.
    InputError
        Where they are none, or do not say their unit and the graph does; where its answers depend on the batch and none
        was chosen.
    ParityError
        Where the graph draws at random, or the engine does not give its reference answers.
    RtserveError
        Where it answers NaN or Inf to finite windows.
    """
    graph = as_graph(graph)
    given = given_windows(windows, unit=unit, sfreq=sfreq, spec=graph.input_spec, name=name, need_y=False)
    given.windows.require_output(graph.output_spec, name=name)
    if not len(given.windows):
        raise InputError("the window set is empty", hint="give at least one window")
    threads, batch = _count(threads, "threads"), _count(batch, "batch") if batch is not None else None
    runner = make_runner(graph, engine, threads=threads)
    scale = unit_scale(graph, given.unit, name=name)
    first = np.ascontiguousarray(given.X[:WINDOWS], dtype=np.float32) * np.float32(scale)
    vetted = vet(graph, runner.infer, engine=engine, name=name, windows=first)
    require_batch(vetted, graph.fixed_batch or batch, name=name)
    y = in_batches(
        runner.infer,
        given.X,
        batch=graph.fixed_batch or batch,
        scale=scale,
        pad=bool(graph.fixed_batch),
        progress=progress,
    )
    require_finite(y, name)
    return y


def _count(value: Any, what: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(f"{what} {value!r:.40}", hint="a whole number, at least 1")
    return number


def require_finite(y: np.ndarray, name: str) -> None:
    """Raise `RtserveError` naming how many predictions are not finite and the first of them."""
    bad = ~np.isfinite(y).all(axis=1)
    if bad.any():
        raise RtserveError(
            f"{name} answers NaN or Inf to {int(bad.sum())} of {len(y)} finite windows (first: {int(np.argmax(bad))})",
            hint="its score would be NaN; look at that window's scale, and at divisions by a spread in the network",
        )


def in_batches(
    infer: Callable[[np.ndarray], np.ndarray],
    X: np.ndarray | StoredArray,
    *,
    batch: int | None = None,
    scale: float = 1.0,
    pad: bool = False,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return ``infer`` over X (n_windows, n_chans, n_times) as float32 (n_windows, n_outputs).

    Windows are multiplied by `scale`; with `pad` the last batch is filled up to a fixed size.
    """
    size = batch or max(1, min(256, _BATCH_BYTES // max(1, 4 * int(np.prod(X.shape[1:])))))
    parts = []
    for start in range(0, len(X), size):
        x = np.ascontiguousarray(X[start : start + size], dtype=np.float32)
        have = len(x)
        if pad and have < size:
            x = np.concatenate([x, np.repeat(x[-1:], size - have, axis=0)])
        y = np.asarray(infer(x * np.float32(scale) if scale != 1.0 else x), dtype=np.float32)
        parts.append(y.reshape(len(x), -1)[:have].copy())
        if progress:
            progress(start + have, len(X))
    return np.concatenate(parts)


def unit_scale(graph: Graph, unit: str | None, *, name: str) -> float:
    """Return what windows in `unit` are multiplied with to be in the graph's; 1 where either is not known.

    Raises
    ------
    SpecMismatchError
        Where one is standardised and the other is not.
    """
    return unit_factor(unit, graph.input_spec.unit, names=("the window set", name))


def learned_parameters(graph: Graph) -> int:
    """Return the learned values of the networks in a graph as their exports counted them, else the stored numbers."""
    details = graph.provenance.details
    members = [m.get("provenance", {}).get("details", {}).get("n_parameters") for m in details.get("members", ())]
    known = members or [details.get("n_parameters")]
    return sum(known) if all(isinstance(count, int) for count in known) else graph.n_parameters
