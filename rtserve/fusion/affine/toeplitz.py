r"""What kind of temporal operator is P (features, n_out, n_in): nothing, a filter with exact edges, or a dense matrix.

A filter of kernel h, stride s and left padding p is :math:`Z[t, \tau] = h[\tau - s t + p]`. Chained padded filters are
one longer filter in the middle of the window and something else near its ends, where the inner padding cut the
intermediate signal: the difference :math:`D = P - Z` lives in a few rows at each end and is applied as two small
matrices. The middle row gives h; nothing is estimated, the arithmetic is float64 and the support is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.fusion.ir.conv import Conv1d

__all__ = ["EXACT", "Corner", "Filter", "analyse", "distinct", "read_by", "strides"]

EXACT = 1e-13
"""Entries below this share of the largest are rounding of a zero."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Corner:
    """Corrections at one end: ``y[:, rows] += u[:, columns] @ matrix``, matrix (features, columns, rows).

    Rows and columns are counted from that end, so that a corner is the same in a longer window.
    """

    rows: slice
    columns: slice
    matrix: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Filter:
    """A filter with exact edges: a depthwise convolution on (batch, features, 1, n_in), and at most one corner per end."""

    conv: Conv1d
    corners: tuple[Corner, ...] = ()

    @property
    def trivial(self) -> bool:
        """Whether it is only a factor per feature."""
        return self.conv.by_sample and not self.corners


def analyse(operator: np.ndarray) -> Filter | None:
    """Return the filter that `operator` (features, n_out, n_in) is, or None where it is none.

    The operator is taken as it is given; entries that are rounding noise of zero are treated as zero.
    """
    _, n_out, n_in = operator.shape
    noise = EXACT * max(_size(operator), 1e-300)
    clean = np.where((operator > noise) | (operator < -noise), operator, 0.0)
    for stride in strides(n_out, n_in):
        found = _as_filter(clean, stride)
        if found is not None:
            return found
    return None


def strides(n_out: int, n_in: int) -> list[int]:
    """Return strides in the order of likelihood."""
    guess = max(1, round(n_in / max(n_out, 1)))
    return sorted({1, guess, max(1, guess - 1), guess + 1, n_in // max(n_out, 1) or 1}, key=lambda s: abs(s - guess))


def _as_filter(operator: np.ndarray, stride: int) -> Filter | None:
    _, n_out, n_in = operator.shape
    middle = n_out // 2
    support = np.flatnonzero(_size(operator[:, middle], 0))
    if not len(support):
        return None
    low, taps = int(support[0]), int(support[-1] - support[0]) + 1
    if taps > 0.8 * n_in or (n_out > 2 and (low == 0 or low + taps == n_in)):
        return None
    kernel, left = operator[:, middle, low : low + taps].copy(), stride * middle - low
    offset = np.arange(n_in) - stride * np.arange(n_out)[:, None] + left
    inside = (offset >= 0) & (offset < taps)
    difference = np.pad(kernel, ((0, 0), (0, 1)))[:, np.where(inside, offset, -1)]  # Z, so far
    np.subtract(operator, difference, out=difference)
    size = _size(operator)
    rows = np.flatnonzero(_size(difference, (0, 2)) > EXACT * size)
    right = (n_out - 1) * stride + taps - left - n_in
    corners = _corners(difference, rows, middle, size)
    if corners is None:
        return None
    conv = Conv1d(weight=kernel[:, None], stride=stride, left=left, right=right, group=len(kernel), n_in=n_in)
    return Filter(conv=conv, corners=corners)


def _size(array: np.ndarray, axis: int | tuple[int, ...] | None = None) -> Any:
    """Return the largest size of a number, along axes, without writing all of them down."""
    return np.maximum(array.max(axis), -array.min(axis))


def _corners(difference: np.ndarray, rows: np.ndarray, middle: int, size: float) -> tuple[Corner, ...] | None:
    """Return the two ends' corrections, or None where the rows that differ are not at the ends."""
    _, n_out, n_in = difference.shape
    corners = []
    for part in (rows[rows < middle], rows[rows > middle]):
        if not len(part):
            continue
        at_start = part[0] < middle
        span = slice(0, int(part[-1]) + 1) if at_start else slice(int(part[0]) - n_out, None)
        block = difference[:, span]
        columns = np.flatnonzero(_size(block, (0, 1)) > EXACT * size)
        first, end = int(columns[0]), int(columns[-1]) + 1
        if block.shape[1] > 0.3 * n_out or end - first > 0.6 * n_in:
            return None
        reach = slice(first, end) if at_start else slice(first - n_in, end - n_in or None)
        corners.append(Corner(rows=span, columns=reach, matrix=block[:, :, reach].transpose(0, 2, 1).copy()))
    return tuple(corners)


def distinct(operator: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the distinct temporal matrices when equal ones lie side by side in runs of one length, and that length."""
    first = [0] + [g for g in range(1, len(operator)) if not np.array_equal(operator[g], operator[g - 1])]
    runs = np.diff([*first, len(operator)])
    return (operator[first], int(runs[0])) if len(set(runs.tolist())) == 1 else (operator, 1)


def read_by(operator: np.ndarray) -> np.ndarray:
    """Return which samples P (features, n_out, n_in) reads: of one that it does not, 0 times infinity would be none."""
    size = _size(operator, (0, 1))
    return np.flatnonzero(size > EXACT * size.max()) if size.any() else np.arange(len(size))
