"""A stream that proves itself as it runs: now and then the whole window is computed and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import InputError, ParityError
from rtserve.graphs.witness import hear
from rtserve.streaming.check import compared
from rtserve.streaming.runner import StepRunner

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph
    from rtserve.streaming.step_graph import StepGraph

__all__ = ["VerifiedRunner"]


class VerifiedRunner:
    """A `StepRunner` whose every n-th answer is compared with the window's graph on the window itself.

    Parameters
    ----------
    step : StepGraph
        What is run.
    window : Graph
        Of which graph it is the step.
    every : int
        How many answers there are from one comparison to the next; the first is compared.
    batch : int
        Streams side by side.

    Raises
    ------
    InputError
        Where `step` is not the step of `window`, or `every` is no count.
    """

    def __init__(self, step: StepGraph, window: Graph, *, every: int, batch: int = 1) -> None:
        if every < 1:
            raise InputError(f"every {every} answers is impossible", hint="give 1 or more")
        said = step.provenance.details.get("window")
        if window.digest != said:
            raise InputError(
                f"the step was made of graph {said}, not of {window.digest}", hint="hand over the graph it was made of"
            )
        self.step, self.window, self.every = step, window, every
        self._runner = StepRunner(step, batch=batch)
        self.ever_compared = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything, as `StepRunner.reset`, but for `ever_compared`, which counts over all streams."""
        self._runner.reset()
        self.answers = self.compared = 0
        spec = self.step.input_spec
        self._seen = np.zeros((self._runner.batch, spec.n_chans, spec.n_times), np.float32)

    def push(self, x: np.ndarray) -> np.ndarray | None:
        """Take the next samples, as `StepRunner.push`.

        Raises
        ------
        ParityError
            Where an answer is not the window's, within the window graph's own parity bound.
        """
        y = self._runner.push(x)
        self._seen = np.concatenate([self._seen[:, :, self.step.hop :], x], axis=2)
        if y is None:
            return None
        if self.answers % self.every == 0:
            self._compare(y)
        self.answers += 1
        return y

    def _compare(self, y: np.ndarray) -> None:
        name = f"step {self._runner.steps}"
        case = compared(hear(self.window, [(name, self._seen)]).answers[0], y)
        self.compared += 1
        self.ever_compared += 1
        if not case.passed:
            raise ParityError(
                f"the answer of {name} is off by {case.error:.2e} (allowed {case.allowed:.1e}) from the window's",
                hint="this is a defect of rtserve or of the engine; run the window's graph on every window",
            )
