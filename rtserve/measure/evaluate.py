"""What a graph is worth on a window set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rtserve.errors import InputError
from rtserve.graphs.graph import Graph
from rtserve.measure.evaluation import REGRESSION, Evaluation, score_predictions
from rtserve.measure.predict import as_graph, as_windows, learned_parameters, predict
from rtserve.measure.statistics import RESAMPLES
from rtserve.signals.windows import WindowSet

__all__ = ["Evaluation", "evaluate", "to_predictions"]

CLASSIFICATION = ("balanced_accuracy",)


def evaluate(
    graph: Graph | str | Path,
    windows: WindowSet | str | Path,
    *,
    metrics: Sequence[str] | None = None,
    split: str = "all",
    engine: str = "onnxruntime",
    threads: int = 1,
    batch: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a graph on windows.

    Parameters
    ----------
    graph : Graph or path
        What predicts.
    windows : WindowSet or path
        X (n_windows, n_chans, n_times) in volts, y (n_windows,).
    metrics : sequence of str, optional
        Names from `rtserve.measure.metrics.METRICS`; by default NRMSE, RMSE and MSE, or balanced accuracy for classes.
    split : str
        Score only the windows that the file marks so.
    engine, threads, batch : str, int, int
        See `rtserve.measure.predict.predict`.
    resamples, seed : int
        Of the bootstrap.
    name : str, optional
        What the graph is called; its file's name by default.
    progress : callable, optional
        Called with (windows done, windows in all).

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        Where graph or windows cannot be read, do not fit each other, or the metric is not defined (a constant y).
    """
    name = name or (Path(graph).name if isinstance(graph, str | Path) else "graph")
    graph = as_graph(graph)
    windows = as_windows(windows, split=split)
    outputs = predict(graph, windows, engine=engine, threads=threads, batch=batch, name=name, progress=progress)
    classes = graph.output_spec.target == "class" or graph.output_spec.n_outputs > 1
    return score_predictions(
        to_predictions(outputs, windows, name=name),
        windows,
        metrics=metrics or (CLASSIFICATION if classes else REGRESSION),
        split=split,
        resamples=resamples,
        seed=seed,
        name=name,
        graph_digest=graph.digest,
        engine=engine,
        threads=threads,
        parameters=learned_parameters(graph),
    )


def to_predictions(outputs: np.ndarray, windows: WindowSet, *, name: str) -> np.ndarray:
    """Return one number per window: the output itself, or the class of the largest where there are several.

    Raises
    ------
    InputError
        Where several outputs meet targets that are no class numbers.
    """
    if windows.y.ndim != 1:
        raise InputError(f"y is {windows.y.shape}: several targets per window", hint="score one target at a time")
    if outputs.shape[1] == 1:
        return outputs[:, 0]
    k = outputs.shape[1]
    bad = (windows.y != np.round(windows.y)) | (windows.y < 0) | (windows.y >= k)
    if bad.any():
        raise InputError(
            f"{name} gives {k} outputs, so y must be classes 0..{k - 1}; window {int(np.argmax(bad))} has"
            f" {float(windows.y[np.argmax(bad)]):g}",
            hint="give class numbers from 0, or a graph with one output",
        )
    return np.asarray(outputs.argmax(axis=1), np.float32)
