r"""An affine value: what a part of a graph computes, as one exact map of the window.

Before the electrodes are mixed, every element is one electrode seen through a temporal operator,

.. math:: v[f, e, t] = \sum_\tau P[f, t, \tau]\, x[e, \tau] + b[f, t],

and P is kept with the electrode axis reduced to length 1. After a spatial step the electrodes are gone:

.. math:: v[g, t] = \sum_e S[g, e] \sum_\tau P[g, t, \tau]\, x[e, \tau] + b[g, t].

All arrays are float64. Padding, chained filters, views and filter banks by Fourier transform are all just other P.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Affine", "Refused"]


class Refused(Exception):  # noqa: N818 -- a "no" on its way to becoming a value
    """A node that is not affine, or not in a way that is handled; carries the reason."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """An affine value of non-batch shape `dims`.

    Parameters
    ----------
    response : ndarray, float64, (n_times, *reduced)
        P with the input's time first; `reduced` is `dims` with the electrode axis, if any, of length 1.
    bias : ndarray, float64, reduced
        b.
    dims : tuple of int
        True shape without the batch.
    electrode : int or None
        Axis of `dims` along which electrodes still lie.
    spatial : ndarray, float64, (features, n_chans), or None
        S, once mixed; features are axis 0 of `dims`.
    """

    response: np.ndarray
    bias: np.ndarray
    dims: tuple[int, ...]
    electrode: int | None
    spatial: np.ndarray | None = None

    @classmethod
    def source(cls, n_chans: int, n_times: int) -> Affine:
        """Return the input itself, (n_chans, n_times)."""
        return cls(
            response=np.eye(n_times)[:, None, :], bias=np.zeros((1, n_times)), dims=(n_chans, n_times), electrode=0
        )

    @property
    def mixed(self) -> bool:
        """Whether a spatial step has been taken."""
        return self.spatial is not None

    @property
    def reduced(self) -> tuple[int, ...]:
        """`dims` with the electrode axis of length 1."""
        return tuple(1 if axis == self.electrode else dim for axis, dim in enumerate(self.dims))

    def mapped(self, linear: Callable[[np.ndarray], np.ndarray], dims: tuple[int, ...], electrode: int | None) -> Affine:
        """Return the value after a linear map that acts on arrays (batch, *reduced)."""
        both = linear(np.concatenate([self.response, self.bias[None]]))
        return replace(self, response=both[:-1], bias=both[-1], dims=dims, electrode=electrode)

    def reshaped(self, dims: tuple[int, ...]) -> Affine:
        """Return the value under another shape; the electrode axis must stay whole."""
        electrode = None
        if self.electrode is not None:
            electrode = _same_axis(self.dims, dims, self.electrode)
        elif self.mixed and _same_axis(self.dims, dims, 0) != 0:
            raise Refused("a reshape splits or merges the spatial filters")
        reduced = tuple(1 if axis == electrode else dim for axis, dim in enumerate(dims))
        return self.mapped(lambda a: a.reshape(len(a), *reduced), dims, electrode)


def _same_axis(old: tuple[int, ...], new: tuple[int, ...], axis: int) -> int:
    """Return where axis `axis` of `old` is in `new`, if a reshape leaves it whole."""
    before = int(np.prod(old[:axis], dtype=np.int64))
    for candidate, dim in enumerate(new):
        if dim == old[axis] and int(np.prod(new[:candidate], dtype=np.int64)) == before:
            if int(np.prod(new, dtype=np.int64)) == int(np.prod(old, dtype=np.int64)):
                return candidate
    raise Refused("a reshape mixes the electrode axis with another")
