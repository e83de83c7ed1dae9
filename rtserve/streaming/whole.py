"""A whole recording through a step at once: cut into pieces that are streams side by side, each begun a window early.

The answers are those of one stream from end to end: a stream that was begun a window ago answers as one that has run for
long, and which stream stands beside it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rtserve.streaming.packed import PackedRunner
from rtserve.streaming.runner import StepRunner

if TYPE_CHECKING:
    from rtserve.streaming.step_graph import StepGraph

__all__ = ["answer_starts", "stream_answers"]

STREAMS = 16
"""Side by side at most: from here on a call costs what its arithmetic does."""
AHEAD = 8
"""How many times as many answers as steps without one a stream gives at least: what is done twice stays under an eighth."""


def answer_starts(step: StepGraph, length: int) -> np.ndarray:
    """Return the first sample of the window of every answer to a stretch of so many samples, (n_answers,)."""
    hops = np.arange(step.first_answer, length // step.hop + 1)
    starts: np.ndarray = hops * step.hop - step.input_spec.n_times
    return starts


def stream_answers(
    step: StepGraph,
    data: np.ndarray,
    *,
    factor: float = 1.0,
    engine: str = "onnxruntime",
    told: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, int]:
    """Return the answers to every window of a stretch without a gap, and how many steps were made for them.

    Parameters
    ----------
    step : StepGraph
        What answers.
    data : ndarray, (n_chans, length)
        Samples; where one is no number, the answers to the windows that hold it are what the graph makes of it.
    factor : float
        By which they are multiplied.
    engine : str
        One of `rtserve.graphs.engines.ENGINES`.
    told : callable, optional
        Called after every step with how many samples it has answered.

    Returns
    -------
    ndarray, float32, (n_answers, n_outputs)
        In order, to the windows that begin at `answer_starts`.
    int
    """
    n, first, hop = len(answer_starts(step, data.shape[1])), step.first_answer, step.hop
    if not n:
        return np.zeros((0, step.output_spec.n_outputs), np.float32), 0
    streams = int(np.clip(n // (AHEAD * first), 1, STREAMS))
    each = -(-n // streams)
    begins = np.minimum(np.arange(streams) * each, n - each)  # the last one ends with the recording
    runner = _runner(step, engine, streams)
    answers = np.empty((n, step.output_spec.n_outputs), np.float32)
    x = np.empty((streams, data.shape[0], hop), np.float32)
    for k in range(first - 1 + each):
        for place, begin in enumerate((begins + k) * hop):
            np.multiply(data[:, begin : begin + hop], factor, out=x[place], casting="same_kind")
        y = runner.push(x)
        if y is not None:
            answers[begins + k - first + 1] = y
        if told is not None:
            told(streams * hop)
    return answers, first - 1 + each


def _runner(step: StepGraph, engine: str, streams: int) -> StepRunner | PackedRunner:
    if engine == "onnxruntime":
        return StepRunner(step, batch=streams)
    return PackedRunner(step, engine=engine, batch=streams)
