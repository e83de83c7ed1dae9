"""`answers`: a network on every window of a recording, in onnxruntime: a window's graph, or the step of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["answers", "probabilities", "window_starts"]

STREAMS, WINDOWS = 16, 64
"""Pieces of a recording that run side by side through a step, and windows of one call through a window's graph."""
AHEAD = 8
"""Answers of a piece for each step that only fills its window: what is done twice stays under an eighth."""


def window_starts(length: int, n_times: int, hop: int) -> np.ndarray:
    """Return the first sample of every window: they end at multiples of the hop, the first as soon as one is whole."""
    found: np.ndarray = np.arange(-(-n_times // hop), length // hop + 1) * hop - n_times
    return found


def answers(path: str, data: np.ndarray, *, n_times: int, hop: int, threads: int = 1) -> np.ndarray:
    """Return the answers (windows, n_outputs), float32, to the windows that begin at `window_starts`.

    Parameters
    ----------
    path : str
        A window's graph, or the step of one: it then has states among its inputs.
    data : ndarray, float32, (n_chans, length)
        In the network's unit and rate.
    n_times, hop : int
        Samples of a window, and from one to the next.
    threads : int
        Inside an operator.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    starts = window_starts(data.shape[1], n_times, hop)
    if not len(starts):
        return np.zeros((0, 1), np.float32)
    if len(session.get_inputs()) > 1:
        return _stepped(session, data, len(starts), -(-n_times // hop), hop)
    return np.concatenate(list(_windowed(session, data, starts, n_times)))


def _windowed(session: Any, data: np.ndarray, starts: np.ndarray, n_times: int) -> Iterator[np.ndarray]:
    (given,) = session.get_inputs()
    at_once = WINDOWS if not isinstance(given.shape[0], int) else int(given.shape[0])
    views = np.lib.stride_tricks.sliding_window_view(data, n_times, axis=1)
    for first in range(0, len(starts), at_once):
        places = starts[first : first + at_once]
        x = np.ascontiguousarray(views[:, places].swapaxes(0, 1))
        if len(x) < at_once and isinstance(given.shape[0], int):
            x = np.concatenate([x, np.repeat(x[-1:], at_once - len(x), axis=0)])
        yield session.run(None, {given.name: x})[0][: len(places)]


def _stepped(session: Any, data: np.ndarray, n: int, first: int, hop: int) -> np.ndarray:
    """Return the answers of streams that run side by side, each begun a window early, which changes none of them."""
    x_in, *state_in = session.get_inputs()
    streams = int(np.clip(n // (AHEAD * first), 1, STREAMS))
    each = -(-n // streams)
    begins = np.minimum(np.arange(streams) * each, n - each)  # the last one ends with the recording
    state = {one.name: np.zeros([d if isinstance(d, int) else streams for d in one.shape], "f4") for one in state_in}
    x = np.empty((streams, data.shape[0], hop), np.float32)
    found: np.ndarray | None = None
    for k in range(first - 1 + each):
        for place, begin in enumerate((begins + k) * hop):
            x[place] = data[:, begin : begin + hop]
        y, *after = session.run(None, {x_in.name: x, **state})
        state = dict(zip(state, after, strict=True))
        if k >= first - 1:
            found = np.empty((n, y.shape[1]), np.float32) if found is None else found
            found[begins + k - first + 1] = y
    assert found is not None
    return found


def probabilities(y: np.ndarray, score: Mapping[str, Any]) -> np.ndarray:
    """Return the probability of an event for each answer, (windows,).

    Parameters
    ----------
    y : ndarray, (windows, n_outputs)
        Answers.
    score : mapping
        ``output``, which of the numbers is an event's; ``form``, what they are: ``logits``, ``probabilities`` or
        ``log-probabilities``; ``other``, whether a lone number is of what is no event.
    """
    y = y.astype(np.float64)
    if score["form"] == "logits" and y.shape[1] > 1:
        y = np.exp(y - y.max(axis=1, keepdims=True))
        y = y / y.sum(axis=1, keepdims=True)
    elif score["form"] == "logits":
        y = 1 / (1 + np.exp(-np.clip(y, -700, 700)))
    elif score["form"] == "log-probabilities":
        y = np.exp(y)
    found = y[:, score["output"]]
    probability: np.ndarray = np.clip(1 - found if score["other"] else found, 0, 1)
    return probability
