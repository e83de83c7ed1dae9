"""Signals as lists of rows: the nodes that go from samples to rows and back.

With time in front of the channels a sample is one contiguous row, (batch, rows, channels), and a signal is a list of row
numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.emit import Emitter

__all__ = ["FROM_ROWS", "ROWS", "TO_ROWS", "as_rows", "from_rows", "spans"]

FROM_ROWS = (0, 3, 1, 2)
"""The turn from (batch, 1, time, channels) to (batch, channels, 1, time)."""
TO_ROWS = (0, 2, 3, 1)
"""The turn back."""
ROWS = "rows of a table"
"""Mark of a value that `from_rows` put together: the numbers of its rows."""


def spans(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as half-open spans of consecutive ones."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


def as_rows(emit: Emitter, value: ir.Value, n: int, channels: int) -> ir.Value:
    """Return (batch, n, channels) of (batch, channels, 1, time), n samples of each window; entries of one are joined.

    The Reshape keeps onnxruntime from moving the Transpose behind what follows, out of the reach of its blocked layout.
    """
    return emit("Reshape", emit("Transpose", value, perm=list(TO_ROWS)), [-1, n, channels])


def from_rows(emit: Emitter, table: ir.Value, signals: np.ndarray, channels: int) -> ir.Value:
    """Return signals, (number, time), put together from the rows of a table: (batch x number, channels, 1, time)."""
    rows = emit("Reshape", emit("Gather", table, signals, axis=1), [-1, 1, signals.shape[1], channels])
    y = emit("Transpose", rows, perm=list(FROM_ROWS))
    y.meta[ROWS] = signals
    return y
