"""How the columns of a node's outputs follow from those of what it reads: the one thing to know of an operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rtserve.streaming.columns import Columns

__all__ = ["ALIGNED", "PICKED", "SLID", "Link", "Reading", "Slide", "Track", "Whole"]

ALIGNED, SLID, PICKED = "aligned", "slid", "picked"
"""Column i of column i; column i of a window that slides; column i is one that is there already, or zeros."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """Where time lies in a value.

    Parameters
    ----------
    axis : int
        Along which axis.
    rows : bool
        Whether that axis, the first then, holds (batch x time).
    columns : Columns
        What lies there.
    """

    axis: int
    rows: bool = False
    columns: Columns

    @property
    def length(self) -> int:
        """How many columns there are."""
        return len(self.columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What an operand gives.

    Parameters
    ----------
    place : int
        Which operand.
    index : ndarray, (columns of the output, readings of each)
        Its columns; `NONE` for padding.
    """

    place: int
    index: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Slide:
    """A window of `taps` columns, `dilation` apart, from column ``stride * i - left`` on; `spatial` is time's axis among
    those that the node's attributes are about."""  # fmt: skip

    taps: int
    stride: int
    dilation: int
    left: int
    spatial: int

    def reads(self, start: int, end: int, n_in: int) -> tuple[int, int, tuple[int, int]]:
        """Return the first column that outputs [start, end) read, the one behind the last, and the padding around."""
        low = self.stride * start - self.left
        high = self.stride * (end - 1) + self.dilation * (self.taps - 1) - self.left + 1
        return max(low, 0), min(high, n_in), (max(-low, 0), max(high - n_in, 0))

    def index(self, n_in: int, n_out: int) -> np.ndarray:
        """Return the columns that every output reads."""
        at = self.stride * np.arange(n_out)[:, None] + self.dilation * np.arange(self.taps) - self.left
        return np.where((at >= 0) & (at < n_in), at, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Link:
    """A node whose outputs have columns.

    Parameters
    ----------
    kind : str
        One of `ALIGNED`, `SLID`, `PICKED`.
    axis, rows : int, bool
        Time's place in the outputs, as in `Track`.
    readings : tuple of Reading
        Of the operands that have columns. Of a `PICKED` output each column reads one of them.
    constants : mapping
        Operand that is constant and differs along time, to its axis.
    slide : Slide or None
        Of a `SLID` one.
    outputs : tuple of int
        For a node that cuts time into several outputs, the first column of each, and the one behind the last.
    """

    kind: str
    axis: int
    rows: bool = False
    readings: tuple[Reading, ...]
    constants: Mapping[int, int] = field(default_factory=dict)
    slide: Slide | None = None
    outputs: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """How many columns its outputs have (together, where they are cut)."""
        return len(self.readings[0].index)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A node that mixes time, and why it does.

    Parameters
    ----------
    reason : str
        For a person.
    needs : mapping
        Operand to the one column that it reads of it; of others it reads all.
    """

    reason: str
    needs: Mapping[int, int] = field(default_factory=dict)
