"""`StepModule`: the step of a stream as a torch module that holds its state.

`copy.deepcopy` gives another stream a module of its own; `reset_state` begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rtserve.runtime.executor import PlanModule


class StepModule(nn.Module):  # type: ignore[misc]
    """A stream, or several side by side.

    Parameters
    ----------
    plan : dict
        Of the packed step: (batch, 1, samples and state) to (batch, answer and next state).
    tensors : dict of str to Tensor
        Its weights.
    shape : tuple of int
        Channels and new samples of a step.
    state_size : int
        Numbers that a stream keeps.
    first_answer : int
        The step, counted from 1, whose answer is the first that is a window's.
    """

    def __init__(
        self,
        plan: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        *,
        shape: tuple[int, int],
        state_size: int,
        first_answer: int,
    ) -> None:
        super().__init__()
        self.plan = PlanModule(plan, tensors)
        self.shape, self.state_size, self.first_answer = shape, state_size, first_answer
        self.reset_state()

    def reset_state(self) -> None:
        """Forget everything: the next ``first_answer - 1`` answers mean nothing."""
        self.state: Tensor | None = None
        self.steps = 0

    @property
    def ready(self) -> bool:
        """Whether the last answer was a window's."""
        return self.steps >= self.first_answer

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for the next samples (batch, n_chans, hop).

        Raises
        ------
        ValueError
            Where the samples have another shape, or come for another number of streams; the state stays as it was.
        """
        streams = x.shape[0] if self.state is None else self.state.shape[0]
        if tuple(x.shape) != (streams, *self.shape):
            raise ValueError(
                f"samples {tuple(x.shape)} came for a step of {(streams, *self.shape)}; reset_state begins anew"
            )
        state = x.new_zeros((streams, self.state_size)) if self.state is None else self.state
        together = self.plan(torch.cat([x.flatten(1), state], 1)[:, None])
        n_outputs = together.shape[1] - self.state_size
        self.state = together[:, n_outputs:]
        self.steps += 1
        return together[:, :n_outputs]
