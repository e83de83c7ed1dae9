r"""What kind of temporal operator is P (features, n_out, n_in): nothing, a filter with exact edges, or a dense matrix.

A filter of kernel h, stride s and left padding p is :math:`Z[t, \tau] = h[\tau - s t + p]`. Chained padded filters are
one longer filter in the middle of the window and something else near its ends, where the inner padding cut the
intermediate signal: the difference :math:`D = P - Z` lives in a few rows at each end and is applied as two small
matrices. The middle row gives h; nothing is estimated, the arithmetic is float64 and the support is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    read: np.ndarray | None = None
    """Samples that it is applied to, where others must not be read: 0 times infinity is no number."""

    @property
    def touched(self) -> np.ndarray:
        """Which samples of what it is applied to are read, if only to be taken off again."""
        reach = np.arange(self.conv.taps) - self.conv.left
        at = (np.arange(self.conv.n_out) * self.conv.stride + reach[:, None]).ravel()
        found = np.zeros(self.conv.n_in, dtype=bool)
        found[at[(at >= 0) & (at < self.conv.n_in)]] = True
        for corner in self.corners:
            found[corner.columns] = True
        return found

    @property
    def trivial(self) -> bool:
        """Whether it is only a factor per feature."""
        return self.conv.by_sample and not self.corners and self.read is None

    def picked(self, rows: np.ndarray) -> Filter:
        """Return some of its features, in that order."""
        corners = tuple(replace(corner, matrix=corner.matrix[rows]) for corner in self.corners)
        return replace(self, conv=replace(self.conv, weight=self.conv.weight[rows], group=len(rows)), corners=corners)


def analyse(operator: np.ndarray) -> Filter | None:
    """Return the filter that `operator` (features, n_out, n_in) is, or None where it is none.

    The operator is taken as it is given; entries that are rounding noise of zero are treated as zero.
    """
    _, n_out, n_in = operator.shape
    for stride in strides(n_out, n_in):
        found = _as_filter(operator, stride)
        if found is not None:
            return found
    return None


def strides(n_out: int, n_in: int) -> list[int]:
    """Return strides in the order of likelihood."""
    guess = max(1, round(n_in / max(n_out, 1)))
    return sorted({1, guess, max(1, guess - 1), guess + 1, n_in // max(n_out, 1) or 1}, key=lambda s: abs(s - guess))


def _as_filter(operator: np.ndarray, stride: int) -> Filter | None:
    _, n_out, n_in = operator.shape
    middle, size = n_out // 2, _size(operator)
    support = np.flatnonzero(_size(operator[:, middle], 0) > EXACT * size)
    if not len(support):
        return None
    low, taps = int(support[0]), int(support[-1] - support[0]) + 1
    if taps > 0.8 * n_in or (n_out > 2 and (low == 0 or low + taps == n_in)):
        return None
    kernel, left = _clean(operator[:, middle, low : low + taps], size), stride * middle - low
    offset = np.arange(n_in) - stride * np.arange(n_out)[:, None] + left
    tap = np.where((offset >= 0) & (offset < taps), offset, -1)
    reads = np.pad(kernel, ((0, 0), (0, 1)))
    apart = [_size(_clean(one, size) - row[tap], 1) for one, row in zip(operator, reads, strict=True)]
    rows = np.flatnonzero(np.max(apart, axis=0) > EXACT * size)
    corners = _corners(lambda span: _clean(operator[:, span], size) - reads[:, tap[span]], rows, (n_out, n_in), size)
    right = (n_out - 1) * stride + taps - left - n_in
    if corners is None:
        return None
    conv = Conv1d(weight=kernel[:, None], stride=stride, left=left, right=right, group=len(kernel), n_in=n_in)
    return Filter(conv=conv, corners=corners)


def _clean(array: np.ndarray, size: float) -> np.ndarray:
    """Return an array without the rounding of zeros."""
    return np.where((array > EXACT * size) | (array < -EXACT * size), array, 0.0)


def _size(array: np.ndarray, axis: int | tuple[int, ...] | None = None) -> Any:
    """Return the largest size of a number, along axes, without writing all of them down."""
    return np.maximum(array.max(axis), -array.min(axis))


def _corners(
    difference: Callable[[slice], np.ndarray], rows: np.ndarray, shape: tuple[int, int], size: float
) -> tuple[Corner, ...] | None:
    """Return the two ends' corrections, or None where the rows that differ are not at the ends."""
    (n_out, n_in), corners = shape, []
    for part in (rows[rows < n_out // 2], rows[rows > n_out // 2]):
        if not len(part):
            continue
        at_start = part[0] < n_out // 2
        span = slice(0, int(part[-1]) + 1) if at_start else slice(int(part[0]) - n_out, None)
        if len(range(n_out)[span]) > 0.3 * n_out:
            return None
        block = difference(span)
        columns = np.flatnonzero(_size(block, (0, 1)) > EXACT * size)
        first, end = int(columns[0]), int(columns[-1]) + 1
        if end - first > 0.6 * n_in:
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
