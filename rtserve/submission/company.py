"""In which company a scorer gives a window: what a coupled network answers depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph

__all__ = ["calls", "calls_for"]


def calls(windows: np.ndarray, size: int, total: int) -> list[np.ndarray]:
    """Return the batches of `size` in which the drive gives windows (n, n_chans, n_times) until `total` have been given.

    The windows begin again where they end, as in `rtserve.submission.harness.probes`.
    """
    return [windows[np.arange(first, first + size) % len(windows)] for first in range(0, total, size)]


def calls_for(graph: Graph, size: int, windows: np.ndarray, total: int) -> list[np.ndarray]:
    """Return the batches that a graph must be asked in: those of the drive where it is coupled, else all as one."""
    return calls(windows, size if graph.output_spec.coupled else total, total)
