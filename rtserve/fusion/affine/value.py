r"""An affine value: what a part of a graph computes, as one exact map of the window.

Before the electrodes are mixed, every element is one electrode seen through a temporal operator,

.. math:: v[f, e, t] = \sum_\tau P[f, t, \tau]\, z[e, \tau] + b[e, f, t], \qquad z = M x,

and P is kept with the electrode axis reduced to length 1. M is what was done to the electrodes as such: scales, references,
differences, a choice of them. A spatial step is one more M, S, but each of its rows has a P of its own from then on:

.. math:: v[g, t] = \sum_e S[g, e] \sum_\tau P[g, t, \tau]\, x[e, \tau] + b[g, t].

All arrays are float64. Padding, chained filters, views and filter banks by Fourier transform are all just other P.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.operator import Operator, operator_of, probes, require_followed
from rtserve.fusion.ir.nodes import inner_dims
from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.ir.widened import acts_along

__all__ = ["Affine", "inner_axes", "side_by_side", "static_dims"]


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
        Axis of `dims` along which electrodes still lie; None where they are mixed, or lie on the batch.
    mix : ndarray, float64, (electrodes or features, n_chans)
        M, or S where `mixed`.
    mixed : bool
        Whether a spatial step has been taken; features are axis 0 of `dims` then.
    dropped : frozenset of int
        Channels of the window that were left out on the way: what is in them, NaN too, must not be read.
    bank : int
        Where a reshape laid the electrodes of several filters end to end on axis 0, how many filters; `response` keeps
        that axis at one entry per filter. Only a grouped spatial step can follow.
    rows : ndarray of int or None
        Right behind a spatial step, which entry of axis 0 of `response` each feature has; None where it has its own.
    weighed_out : bool
        Whether a weight on the way was 0: what is not in the response then may be read nevertheless.
    """

    response: np.ndarray
    bias: np.ndarray
    dims: tuple[int, ...]
    n_times: int
    electrode: int | None
    mix: np.ndarray
    mixed: bool = False
    dropped: frozenset[int] = frozenset()
    bank: int = 1
    rows: np.ndarray | None = None
    weighed_out: bool = False

    @classmethod
    def source(cls, n_chans: int, n_times: int, apart: int) -> Affine:
        """Return the input itself, (n_chans, n_times), traced by impulses so far apart."""
        return cls(
            response=probes(n_times, apart)[:, None, :], bias=np.zeros((1, 1, n_times)), dims=(n_chans, n_times),
            n_times=n_times, electrode=0, mix=np.eye(n_chans),
        )  # fmt: skip

    @property
    def folded(self) -> int:
        """How many electrodes a reshape laid on the batch, as encoders of one channel do."""
        return 0 if self.mixed or self.electrode is not None else len(self.mix)

    @cached_property
    def operator(self) -> Operator:
        """P, what follows the features flattened."""
        probes, features = self.response.shape[:2] if self.rows is not None else (len(self.response), self.dims[0])
        found = operator_of(self.response.reshape(probes, features, -1), self.n_times)
        return replace(found, rows=self.rows, weighed_out=self.weighed_out)

    @property
    def whole(self) -> Affine:
        """The value with a response for each feature."""
        if self.rows is None:
            return self
        require_followed(self.response[:, 0].size * len(self.rows))
        return replace(self, response=self.response[:, self.rows], rows=None)

    @property
    def told(self) -> Affine:
        """What is left to know of a value that nothing follows any more: all but its numbers."""
        return replace(self, response=np.empty(0), bias=np.empty(0))

    def mapped(self, linear: Callable[[np.ndarray], np.ndarray], electrode: int | None) -> Affine:
        """Return the value after a linear map of arrays (batch, *reduced), and where it leaves the electrodes."""
        response, bias = linear(self.response), linear(self.bias)
        dims = list(response.shape[1:])
        if electrode is not None:
            dims[electrode] = len(self.mix)
        return replace(self, response=response, bias=bias, dims=tuple(dims), electrode=electrode)

    def along(self, axis: int, linear: Callable[[np.ndarray, int], np.ndarray]) -> Affine:
        """Return the value after a linear map along one axis of `dims`, given the array and the axis there."""
        if axis == self.electrode:
            return self._over_electrodes(axis, linear)
        if self.mixed and axis == 0:
            raise Refused("it acts on the spatial filters")
        return self.mapped(lambda a: linear(a, axis + 1), self.electrode)

    def _over_electrodes(self, axis: int, linear: Callable[[np.ndarray, int], np.ndarray]) -> Affine:
        """Return the value after a linear map of the electrodes, which are the first axis of `mix` and `bias`."""
        mix, bias = linear(self.mix, 0), self.bias[:1]
        if self.bias.any():
            bias = linear(np.broadcast_to(self.bias, (len(self.mix), *bias.shape[1:])), 0)
        return replace(
            self,
            mix=mix,
            bias=bias,
            dims=(*self.dims[:axis], len(mix), *self.dims[axis + 1 :]),
            dropped=self.dropped | {int(c) for c in np.flatnonzero(self.mix.any(axis=0) & ~mix.any(axis=0))},
        )

    def picked(self, axis: int, numbers: np.ndarray) -> Affine:
        """Return some entries along an axis; the value itself where they are all, in order."""
        if np.array_equal(numbers, np.arange(self.dims[axis])):
            return self
        return self.along(axis, lambda a, at: np.take(a, numbers, axis=at))

    def enlarged(self, dims: Sequence[int]) -> Affine:
        """Return the value repeated along axes of length 1, electrodes too."""
        value = self
        if self.mixed and dims[0] != self.dims[0]:
            value = self.as_electrodes()
        for axis in np.flatnonzero(np.not_equal(self.dims, dims)).tolist():
            if value.mixed:
                raise Refused("it repeats a number after the spatial step")
            value = value.along(axis, partial(_repeated, times=dims[axis]))
        return value

    def product(self, matrix: np.ndarray) -> Affine:
        """Return electrodes, or what a spatial step made of them, times a matrix (rows, electrodes): a spatial step."""
        value, n = self.as_electrodes() if self.mixed else self, len(matrix)
        if value.electrode == 0 and len(value.dims) == 2:
            return value.spatial_step(matrix, np.zeros(n), np.zeros(n, np.int64))
        if value.electrode is None:
            raise Refused("a matrix product of an unusual kind")
        made = value.along(value.electrode, lambda a, at: np.moveaxis(np.tensordot(matrix, a, (1, at)), 0, at))
        return replace(made, dropped=value.dropped)  # 0 times what is left out is read

    def spatial_step(self, weights: np.ndarray, shift: np.ndarray, source: np.ndarray) -> Affine:
        """Return what weighs the electrodes, weights (features, electrodes); each output reads one of the filters."""
        own = self.bias[:, source]
        column = (-1, *(1,) * (own.ndim - 2))
        summed = weights.sum(1).reshape(column) * own[0] if len(own) == 1 else np.einsum("ge,eg...->g...", weights, own)
        return replace(
            self, rows=source, bias=(summed + shift.reshape(column))[None],
            dims=(len(weights), *self.response.shape[2:]), electrode=None, mix=weights @ self.mix, mixed=True, bank=1,
        )  # fmt: skip

    def as_electrodes(self, why: str = "it splits, mixes or moves spatial filters") -> Affine:
        """Return mixed electrodes as electrodes, which they still are while nothing has told them apart.

        Raises
        ------
        Refused
            Where each has a filter of its own, for that reason.
        """
        if any((one != one[:1]).any() for one in self.response):
            raise Refused(why)
        return replace(self, response=self.response[:, :1], bias=self.bias[0][:, None], electrode=0, mixed=False)

    def reshaped(self, dims: tuple[int, ...]) -> Affine:
        """Return the value under another shape; the electrode axis must stay whole."""
        size = math.prod(dims)
        if self.mixed and dims[:1] != self.dims[:1]:
            return self.as_electrodes().reshaped(dims)
        if self.electrode == 1 and self.dims[0] > 1 and dims == (self.dims[0] * self.dims[1], *self.dims[2:]):
            return replace(self.mapped(lambda a: a[:, :, 0], 0), dims=dims, bank=self.dims[0])
        if self.folded and size == self.folded * math.prod(self.dims):
            return self.mapped(lambda a: a[:, None], 0).reshaped(dims)  # electrodes come off the batch
        if self.electrode == 0 and self.bank == 1 < self.dims[0] and size == math.prod(self.dims[1:]):
            return self.mapped(lambda a: a[:, 0], None).reshaped(dims)  # or are laid on it
        electrode = self.electrode
        if electrode is not None:
            front = math.prod(self.dims[:electrode])
            starts = (k for k, dim in enumerate(dims) if dim == len(self.mix) and math.prod(dims[:k]) == front)
            electrode = next(starts, None)
            if electrode is None and len(self.mix) == 1 == self.bank:
                return self.mapped(lambda a: a.reshape(len(a), *dims), None)  # one alone needs no axis
        if size != math.prod(self.dims) or (electrode is None) != (self.electrode is None):
            raise Refused("a reshape mixes the electrode axis with another")
        reduced = tuple(1 if axis == electrode else dim for axis, dim in enumerate(dims))
        return self.mapped(lambda a: a.reshape(len(a), *reduced), electrode)

    def transposed(self, perm: Sequence[int] | None) -> Affine:
        """Return the value with its axes, the batch included, in another order."""
        if perm is None or perm[0] != 0:
            raise Refused("a transpose moves the batch")
        if self.mixed and perm[1] != 1:
            return self.as_electrodes().transposed(perm)
        electrode = None if self.electrode is None else perm.index(self.electrode + 1) - 1
        return self.mapped(lambda a: a.transpose(perm), electrode)


def _repeated(array: np.ndarray, axis: int, *, times: int) -> np.ndarray:
    return np.repeat(array, times, axis)


def side_by_side(values: Sequence[Affine], axis: int) -> Affine:
    """Return values that are alike but along an axis as one."""
    if len(values) == 1:
        return values[0]
    values = [value.whole for value in values]
    first, rows = values[0], [max(len(v.bias) for v in values)] * len(values)
    joined, at = first, axis + 1
    if axis == first.electrode:
        rows, at = [len(v.mix) for v in values], 0
    else:
        joined = replace(first, response=np.concatenate([v.response for v in values], axis=at))
    if axis == first.electrode or (first.mixed and axis == 0):
        joined = replace(joined, mix=np.concatenate([v.mix for v in values]))
    biases = [np.broadcast_to(v.bias, (n, *v.bias.shape[1:])) for v, n in zip(values, rows, strict=True)]
    return replace(
        joined,
        bias=np.concatenate(biases, axis=at),
        dims=(*first.dims[:axis], sum(v.dims[axis] for v in values), *first.dims[axis + 1 :]),
        dropped=frozenset.intersection(*(v.dropped for v in values)),
        weighed_out=any(v.weighed_out for v in values),
    )


def static_dims(value: ir.Value | None) -> tuple[int, ...]:
    """Return the shape of a value without its batch; refuse where it is not known or the batch is not first."""
    if value is None or value.shape is None or not len(value.shape):
        raise Refused("a shape is not known")
    dims = inner_dims(value)
    if dims is None or isinstance(value.shape[0], int):
        raise Refused(f"shape {value.shape} has no batch in front")
    return tuple(dims)


def inner_axes(node: ir.Node) -> list[int]:
    """Return along which axes of `dims` a node acts; the batch is refused."""
    axes = acts_along(node)
    if 0 in axes:
        raise Refused("it acts on the batch")
    return [axis - 1 for axis in axes]
