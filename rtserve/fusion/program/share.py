r"""What a layer computes for all views: every window that they read, once.

A signal of views is a table of samples and, for every view, which of them each of its samples is, :math:`i_b(n)`. A
convolution of stride s computes its output n from the samples :math:`i_b(s n + d j - l)`, j = 0 .. K - 1, and from nothing
else: where two views read the same ones, in whatever places, the output is the same. Rolls that differ by a multiple of the
strides so far read the same everywhere but at their seams. The outputs are again a table, and every view an index into it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rtserve.fusion.ir.conv import ZERO, Conv1d

__all__ = ["Packing", "pack", "spans"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Packing:
    """What a convolution computes for all views.

    Parameters
    ----------
    conv : Conv1d
        Itself, of one signal that it reads without padding.
    samples : ndarray, (conv.n_in,)
        The samples that the signal is made of; `ZERO` for zeros.
    place : ndarray, (views, n_out)
        Which output every view's output is.
    """

    conv: Conv1d
    samples: np.ndarray
    place: np.ndarray


def pack(index: np.ndarray, conv: Conv1d) -> Packing:
    """Return the signal that holds every distinct window of the views: stretches of them one behind the other.

    A stretch brings windows that no earlier one has, and what it has in common with the end of the one in front of it is
    there once. Outputs across that end are read by nobody; stretches that no more known windows lie between are one.

    Parameters
    ----------
    index : ndarray, (views, n_in)
        Which row every sample of a view is.
    conv : Conv1d
        The convolution.
    """
    windows = conv.reads(index)
    distinct, which = np.unique(windows.reshape(-1, conv.taps), axis=0, return_inverse=True)
    which = which.reshape(windows.shape[:2])
    place = np.full(len(distinct), ZERO)
    across = -(-conv.span // conv.stride) - 1
    samples = np.zeros(0, dtype=np.int64)
    for numbers, view in zip(which, index, strict=True):
        missing = spans(np.flatnonzero(place[numbers] == ZERO), gap=across)
        for low, high in missing[1:] + missing[:1]:  # the beginning behind the end: both may be padding
            at = np.arange(conv.stride * low, conv.stride * (high - 1) + conv.span) - conv.left
            stretch = np.where((at >= 0) & (at < conv.n_in), view[np.clip(at, 0, conv.n_in - 1)], ZERO)
            samples, start = _behind(samples, stretch, conv)
            place[numbers[low:high]] = np.arange(start, start + high - low)
    packed = replace(conv, n_in=len(samples), left=0, right=0)
    return Packing(conv=packed, samples=samples, place=place[which])


def _behind(samples: np.ndarray, stretch: np.ndarray, conv: Conv1d) -> tuple[np.ndarray, int]:
    """Return samples with a stretch behind them, a part of both once, and the output that reads its first samples."""
    for overlap in range(min(len(samples), conv.span - 1), 0, -1):
        start = len(samples) - overlap
        if start % conv.stride == 0 and np.array_equal(samples[start:], stretch[:overlap]):
            return np.concatenate([samples, stretch[overlap:]]), start // conv.stride
    fill = np.full(-len(samples) % conv.stride, stretch[0])
    return np.concatenate([samples, fill, stretch]), (len(samples) + len(fill)) // conv.stride


def spans(numbers: np.ndarray, *, gap: int = 0) -> list[tuple[int, int]]:
    """Return ascending numbers as half-open spans, with at most so many others in between."""
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) > gap + 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]
