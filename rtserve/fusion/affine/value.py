r"""An affine value: what a part of a graph computes, as one exact map of the window.

Before the electrodes are mixed, every element is one electrode seen through a temporal operator,

.. math:: v[f, e, t] = \sum_\tau P[f, t, \tau]\, z[e, \tau] + b[e, f, t], \qquad z = M x,

and P is kept with the electrode axis reduced to length 1. M is what was done to the electrodes as such: scales, references,
differences, a choice of them. After a spatial step the electrodes are gone:

.. math:: v[g, t] = \sum_e S[g, e] \sum_\tau P[g, t, \tau]\, x[e, \tau] + b[g, t].

All arrays are float64. Padding, chained filters, views and filter banks by Fourier transform are all just other P.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.operator import Operator, operator_of, probes
from rtserve.fusion.ir.passes import Refused

__all__ = ["Affine", "axes_in", "guard", "static_dims"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """An affine value of non-batch shape `dims`.

    Parameters
    ----------
    response : ndarray, float64, (probes, *reduced)
        What is made of `rtserve.fusion.affine.operator.probes`: P with the input's time first, or of a long window what
        says the same; `reduced` is `dims` with the electrode axis, if any, of length 1.
    bias : ndarray, float64, (1 or electrodes, *reduced)
        b; one for all where it is the same for all.
    dims : tuple of int
        True shape without the batch.
    n_times : int
        Samples of the window.
    electrode : int or None
        Axis of `dims` along which electrodes still lie.
    spatial : ndarray, float64, (features, n_chans), or None
        S, once mixed; features are axis 0 of `dims`.
    mix : ndarray, float64, (electrodes, n_chans), or None
        M; None where the electrodes are the window's channels.
    dropped : frozenset of int
        Channels of the window that were left out on the way: what is in them, NaN too, must not be read.
    folded : int
        Where a reshape laid the electrodes on the batch, as encoders of one channel do, how many they are; else 0.
    bank : int
        Where a reshape laid the electrodes of several filters end to end on axis 0, how many filters; `response` keeps
        that axis at one entry per filter. Only a grouped spatial step can follow.
    """

    response: np.ndarray
    bias: np.ndarray
    dims: tuple[int, ...]
    n_times: int
    electrode: int | None
    spatial: np.ndarray | None = None
    mix: np.ndarray | None = None
    dropped: frozenset[int] = frozenset()
    folded: int = 0
    bank: int = 1

    @classmethod
    def source(cls, n_chans: int, n_times: int, apart: int) -> Affine:
        """Return the input itself, (n_chans, n_times), traced by impulses so far apart."""
        return cls(
            response=probes(n_times, apart)[:, None, :], bias=np.zeros((1, 1, n_times)), dims=(n_chans, n_times),
            n_times=n_times, electrode=0,
        )  # fmt: skip

    @property
    def mixed(self) -> bool:
        """Whether a spatial step has been taken."""
        return self.spatial is not None

    @property
    def reduced(self) -> tuple[int, ...]:
        """`dims` with the electrode axis of length 1 (or of one entry per filter, where a bank lies on it)."""
        return tuple(self.bank if axis == self.electrode else dim for axis, dim in enumerate(self.dims))

    @cached_property
    def operator(self) -> Operator:
        """P, what follows the features flattened."""
        return operator_of(self.response.reshape(len(self.response), self.dims[0], -1), self.n_times)

    @property
    def tangled(self) -> bool:
        """Whether what the value reads cannot be told from its responses."""
        try:
            return not len(self.operator.array)
        except Refused:
            return True

    def mapped(
        self, linear: Callable[[np.ndarray], np.ndarray], dims: tuple[int, ...], electrode: int | None
    ) -> Affine:
        """Return the value after a linear map that acts on arrays (batch, *reduced)."""
        both = linear(np.concatenate([self.response, self.bias]))
        n = len(self.response)
        return replace(self, response=both[:n], bias=both[n:], dims=dims, electrode=electrode)

    @property
    def electrodes(self) -> np.ndarray:
        """M, (electrodes, n_chans)."""
        return np.eye(self.folded or self.dims[self.electrode or 0]) if self.mix is None else self.mix

    def along(self, axis: int, linear: Callable[[np.ndarray, int], np.ndarray]) -> Affine:
        """Return the value after a linear map along one axis of `dims`, given the array and the axis there."""
        if axis == self.electrode:
            return self._over_electrodes(lambda a: linear(a, 0))
        guard(self, [axis])
        made = self.mapped(lambda a: linear(a, axis + 1), self.dims, self.electrode)
        return replace(made, dims=(*self.dims[:axis], made.response.shape[axis + 1], *self.dims[axis + 1 :]))

    def _over_electrodes(self, linear: Callable[[np.ndarray], np.ndarray]) -> Affine:
        """Return the value after a linear map along the first axis of arrays that have the electrodes there."""
        axis, before = self.electrode or 0, self.electrodes
        mix, bias = linear(before), self.bias[:1]
        if self.bias.any():
            bias = linear(np.broadcast_to(self.bias, (len(before), *bias.shape[1:])))
        return replace(
            self,
            mix=mix,
            bias=bias,
            dims=(*self.dims[:axis], len(mix), *self.dims[axis + 1 :]),
            dropped=self.dropped | {int(c) for c in np.flatnonzero(before.any(axis=0) & ~mix.any(axis=0))},
        )

    def spatial_step(self, weights: np.ndarray, shift: np.ndarray, source: np.ndarray, dims: tuple[int, ...]) -> Affine:
        """Return what weighs the electrodes, weights (features, electrodes); each output reads one of the filters."""
        shape = (self.response.shape[0], len(weights), *self.response.shape[2:])
        response = np.broadcast_to(self.response, shape) if self.response.shape[1] == 1 else self.response[:, source]
        column = (-1, *(1,) * (self.bias.ndim - 2))
        own = self.bias[:, source]
        summed = weights.sum(1).reshape(column) * own[0] if len(own) == 1 else np.einsum("ge,eg...->g...", weights, own)
        spatial = weights if self.mix is None else weights @ self.mix
        return replace(
            self, response=response, bias=(summed + shift.reshape(column))[None], dims=dims, electrode=None,
            spatial=spatial, mix=None, bank=1,
        )  # fmt: skip

    def as_electrodes(self) -> Affine:
        """Return mixed electrodes as electrodes, which they still are while nothing has told them apart.

        Raises
        ------
        Refused
            Where each has a filter of its own.
        """
        first = np.broadcast_to(self.response[:, :1], self.response.shape)
        if self.spatial is None or not np.array_equal(self.response, first):
            raise Refused("it splits, mixes or moves spatial filters")
        bias = self.bias[0][:, None]
        return replace(self, response=self.response[:, :1], bias=bias, electrode=0, mix=self.spatial, spatial=None)

    def reshaped(self, dims: tuple[int, ...]) -> Affine:
        """Return the value under another shape; the electrode axis must stay whole."""
        electrode = None
        if self.mixed and dims[0] != self.dims[0]:
            return self.as_electrodes().reshaped(dims)
        if self.electrode == 1 and self.dims[0] > 1 and dims == (self.dims[0] * self.dims[1], *self.dims[2:]):
            return self._laid_end_to_end(dims)
        if self.folded and math.prod(dims) == self.folded * math.prod(self.dims):
            return self._off_the_batch().reshaped(dims)
        on_the_batch = self.electrode == 0 and self.bank == 1 < self.dims[0]
        if on_the_batch and math.prod(dims) == math.prod(self.dims[1:]):
            return self._on_the_batch().reshaped(dims)
        if self.electrode is not None:
            electrode = _same_axis(self.dims, dims, self.electrode)
        reduced = tuple(1 if axis == electrode else dim for axis, dim in enumerate(dims))
        return self.mapped(lambda a: a.reshape(len(a), *reduced), dims, electrode)

    def _on_the_batch(self) -> Affine:
        """Return the value with its electrodes, which are in front, laid on the batch."""
        return replace(
            self, response=self.response[:, 0], bias=self.bias[:, 0], dims=self.dims[1:], electrode=None,
            folded=self.dims[0],
        )  # fmt: skip

    def _off_the_batch(self) -> Affine:
        """Return the value with its electrodes in front again."""
        return replace(
            self, response=self.response[:, None], bias=self.bias[:, None], dims=(self.folded, *self.dims), electrode=0,
            folded=0,
        )  # fmt: skip

    def _laid_end_to_end(self, dims: tuple[int, ...]) -> Affine:
        """Return the electrodes of all filters on one axis, filter by filter."""
        filters = self.dims[0]
        return replace(
            self,
            response=self.response.reshape(len(self.response), filters, *self.dims[2:]),
            bias=self.bias.reshape(len(self.bias), filters, *self.dims[2:]),
            dims=dims,
            electrode=0,
            bank=filters,
        )


def _same_axis(old: tuple[int, ...], new: tuple[int, ...], axis: int) -> int:
    """Return where axis `axis` of `old` is in `new`, if a reshape leaves it whole."""
    for candidate, dim in enumerate(new):
        whole = math.prod(new) == math.prod(old)
        if whole and dim == old[axis] and math.prod(new[:candidate]) == math.prod(old[:axis]):
            return candidate
    raise Refused("a reshape mixes the electrode axis with another")


def static_dims(value: ir.Value | None) -> tuple[int, ...]:
    """Return the shape of a value without its batch; refuse where it is not known or the batch is not first."""
    if value is None or value.shape is None or not len(value.shape):
        raise Refused("a shape is not known")
    dims = list(value.shape)
    if isinstance(dims[0], int) or not all(isinstance(dim, int) for dim in dims[1:]):
        raise Refused(f"shape {value.shape} has no batch in front")
    return tuple(int(dim) for dim in dims[1:])  # type: ignore[arg-type]


def guard(value: Affine, axes: list[int]) -> None:
    """Refuse where `axes` of a value hold its electrodes or its spatial filters."""
    if value.electrode in axes:
        raise Refused("it acts on the electrodes")
    if value.mixed and 0 in axes:
        raise Refused("it acts on the spatial filters")


def axes_in(value: Affine, axes: Any) -> list[int]:
    """Return axes of a node as axes of `dims`; touching the batch is refused."""
    rank = len(value.dims) + 1
    mine = [int(axis) % rank - 1 for axis in np.atleast_1d(axes)]
    if any(axis < 0 for axis in mine):
        raise Refused("it acts on the batch")
    return mine
