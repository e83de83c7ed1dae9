"""A bound plan on a CUDA device: every kernel of a call launched at once, as a CUDA graph.

At small batches a plan on a GPU waits for launches, a few microseconds each, not for arithmetic. A CUDA graph holds the
kernels of one call with their addresses; replaying it is one launch. So that nobody can tell but by the time:

- a graph is for one batch size. The first call of a size runs plainly, which also lets the libraries settle; the second
  is captured, which takes about three calls and some milliseconds; from then on it is replayed. `MOST` sizes are kept,
  others run plainly.
- the input is copied into the graph's own and the answer out of it, so neither changes behind the caller's back, and
  calls on several streams or threads are put in order.
- where a graph would not do what the call asks for (gradients, other types or devices, tracing, compiling, vmap, a
  caller who captures by himself), or cannot be captured, the call runs plainly; in the latter case `reason` says why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rtserve.runtime.precision import computing_in

MOST = 4
"""Batch sizes whose graphs are kept; their memory is one pool."""

Replayed = Callable[[Tensor], Tensor]
"""What a capture gives: the input's numbers in, the answer's numbers out."""


class Replays:
    """Runs a bound plan by CUDA graphs where they serve.

    Parameters
    ----------
    program : Program
        A plan bound to a CUDA device.
    precision : str
        One of `rtserve.runtime.precision.PRECISIONS`.
    capture : callable
        From a program, an input and a precision to what replays it; a test gives its own.
    """

    def __init__(self, program: Any, precision: str, capture: Callable[..., Replayed] | None = None) -> None:
        self.program, self.precision = program, precision
        self.capture = capture if capture is not None else Captures().capture
        self.kept: dict[int, Replayed] = {}
        self.seen: list[int] = []
        self.reason = ""
        self.lock = threading.Lock()

    def run(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        if self.reason or not self._fits(x):
            return self._plainly(x)
        with self.lock:
            replay = self.kept.get(x.shape[0])
            if replay is None:
                replay = self._captured(x)
            if replay is not None:
                return replay(x)
        return self._plainly(x)

    def _plainly(self, x: Tensor) -> Tensor:
        with computing_in(self.precision):
            y: Tensor = self.program.run(x)
        return y

    def _captured(self, x: Tensor) -> Replayed | None:
        size = x.shape[0]
        if size not in self.seen or len(self.kept) >= MOST:
            self.seen = [*self.seen, size][-2 * MOST :]
            return None
        try:
            self.kept[size] = self.capture(self.program, x, self.precision)
        except Exception as error:  # an operator that asks the device for a number, a driver that cannot
            self.reason = f"runs without CUDA graphs: {type(error).__name__}: {str(error).splitlines()[0]}"
        return self.kept.get(size)

    def _fits(self, x: Tensor) -> bool:
        """Whether a replay gives what this call asks for."""
        if is_followed(x):  # before anything asks x for a number
            return False
        if (torch.is_grad_enabled() and x.requires_grad) or _is_capturing(x):
            return False
        return bool(x.dtype == self.program.dtype and x.device == self.program.device and x.shape[0] > 0)


def is_followed(x: Tensor) -> bool:
    """Whether a call is compiled, traced or transformed rather than run."""
    return bool(_is_compiling() or torch.jit.is_tracing() or type(x) is not Tensor or _is_transformed(x))


_is_compiling = getattr(torch.compiler, "is_compiling", bool)
_is_transformed = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", lambda x: False)
"""Whether x is inside vmap or another transform of functions."""


def _is_capturing(x: Tensor) -> bool:
    return bool(x.is_cuda and torch.cuda.is_current_stream_capturing())


class Captures:
    """Captures calls of one program; their graphs share memory, and follow one another."""

    def __init__(self) -> None:
        self.pool: Any = None
        self.last: torch.cuda.Stream | None = None
        self.done: torch.cuda.Event | None = None

    def capture(self, program: Any, x: Tensor, precision: str) -> Replayed:
        """Capture a call of x's batch size.

        Raises
        ------
        RuntimeError
            Where a step cannot be captured.
        """
        with torch.cuda.device(program.device), torch.inference_mode(False), torch.no_grad():
            held = torch.empty(x.shape, dtype=x.dtype, device=x.device).copy_(x)
            self.pool = self.pool or torch.cuda.graph_pool_handle()
            values = program.start(held)  # sizes become tensors here: that asks the device, and cannot be captured
            graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with computing_in(precision):
                with torch.cuda.stream(side):
                    program.finish(list(values))
                side.synchronize()
                with torch.cuda.graph(graph, pool=self.pool, stream=side, capture_error_mode="thread_local"):
                    answer = program.finish(list(values))
            torch.cuda.current_stream().wait_stream(side)
            self.done, self.last = self.done or torch.cuda.Event(), torch.cuda.current_stream()
            self.done.record(self.last)
        # The graph knows addresses only: what lies there lives as long as it does.
        return lambda x: self._replay(graph, held, answer, x, values)

    def _replay(self, graph: Any, held: Tensor, answer: Tensor, x: Tensor, values: list[Any]) -> Tensor:
        if torch.cuda.current_device() != held.device.index:
            with torch.cuda.device(held.device):
                return self._replay(graph, held, answer, x, values)
        assert self.done is not None
        stream = torch.cuda.current_stream()
        if stream != self.last:  # the call before may still run there, and its graph uses the same memory
            self.done.wait(stream)
            self.last = stream
        held.copy_(x)
        graph.replay()
        y = answer.clone()
        self.done.record(stream)
        return y
