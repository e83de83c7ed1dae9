"""A graph in two parts: what comes before a step is right, the rest is an engine's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["EXACT", "Cuts"]

EXACT = "the executor in float64"


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """A graph that can be cut before each of its steps.

    Parameters
    ----------
    last : int
        Number of steps.
    answer : callable
        From a step's number to the answer (batch, n_outputs) with everything before it right; of `last` all is.
    called : callable
        What a step is: its operator and its value.
    by : str
        Who says what is right.
    """

    last: int
    answer: Callable[[int], np.ndarray]
    called: Callable[[int], str]
    by: str
