"""Running a step graph in onnxruntime: it holds the state, and says when an answer is a window's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import ExportError, InputError
from rtserve.graphs.graph import INPUT_NAME
from rtserve.graphs.sessions import cpu_session

if TYPE_CHECKING:
    from rtserve.streaming.step_graph import StepGraph

__all__ = ["StepRunner", "require_samples"]


class StepRunner:
    """A stream, or several side by side, through a step graph.

    Parameters
    ----------
    step : StepGraph
        What is run.
    batch : int
        Streams side by side.
    threads : int
        Threads inside an operator.
    """

    def __init__(self, step: StepGraph, *, batch: int = 1, threads: int = 1) -> None:
        try:
            self.session: Any = cpu_session(step.to_bytes(), threads=threads)
        except Exception as error:
            raise ExportError(
                f"onnxruntime cannot load the step: {str(error).splitlines()[0]}", hint="this is a defect of rtserve"
            ) from None
        self.step, self.batch = step, batch
        self._names = [name for name, _ in step.states]
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next `step.first_answer` - 1 steps have no answer."""
        self.steps = 0
        self._state = {
            name: np.zeros([dim if isinstance(dim, int) else self.batch for dim in shape], np.float32)
            for name, shape in self.step.states
        }

    @property
    def ready(self) -> bool:
        """Whether the last answer was a window's."""
        return self.steps >= self.step.first_answer

    def push(self, x: np.ndarray) -> np.ndarray | None:
        """Take the next samples.

        Parameters
        ----------
        x : ndarray, (batch, n_chans, hop)
            Float32.

        Returns
        -------
        ndarray or None, (batch, n_outputs)
            The answer to the window that ends here; None until there was a whole one.

        Raises
        ------
        InputError
            Where the samples have another shape: the state stays as it was.
        """
        require_samples(self.step, self.batch, x)
        y, *states = self.session.run(None, {INPUT_NAME: np.ascontiguousarray(x, np.float32), **self._state})
        self._state = dict(zip(self._names, states, strict=True))
        self.steps += 1
        return y if self.ready else None


def require_samples(step: StepGraph, batch: int, x: np.ndarray) -> None:
    """Raise `InputError` unless samples are those of a step, (batch, n_chans, hop)."""
    wanted = (batch, step.input_spec.n_chans, step.hop)
    if x.shape != wanted:
        raise InputError(
            f"{x.shape} samples came for a step of {wanted} (streams, channels, samples)",
            hint="hand over exactly a hop; make the step anew for another hop",
        )
