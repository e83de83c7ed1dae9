"""Sums and products of affine values with constants and with each other, and values side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.value import Affine, inner_axes, side_by_side
from rtserve.fusion.ir.passes import Refused

__all__ = ["add", "batchnorm", "concat", "divide", "multiply", "times", "where"]


def _operand(value: Affine, array: Any) -> np.ndarray:
    """Return a constant operand as (1 or electrodes, ...), broadcastable to `bias`."""
    whole, operand = (1, *value.dims), np.asarray(array)
    if np.broadcast_shapes(operand.shape, whole) != whole:
        raise Refused("a constant operand enlarges the value")
    operand = operand.reshape((1,) * (len(whole) - operand.ndim) + operand.shape)
    if value.electrode is not None:
        operand = np.swapaxes(operand, 0, value.electrode + 1)
        operand = operand[:1] if np.ptp(operand, axis=0).max() == 0 else operand
    return operand


def times(value: Affine, factor: Any) -> Affine:
    """Return a value times a constant, which may be another for every electrode."""
    factor = _operand(value, factor)
    if len(factor) == 1:
        return value.mapped(lambda a: a * factor[0], value.electrode)
    own = factor.reshape(len(factor), -1)
    if np.ptp(own, axis=1).max() > 0 or not own.all():
        raise Refused("a constant operand differs between electrodes and along another axis, or is 0")
    return value.along(value.electrode or 0, lambda a, axis: a * own[:, 0].reshape(-1, *(1,) * (a.ndim - 1)))


def _plus(value: Affine, array: Any) -> Affine:
    """Return a value plus a constant, which may be another for every electrode."""
    return replace(value, bias=value.bias + _operand(value, array))


def multiply(_: ir.Node, left: Any, right: Any) -> Affine:
    """Carry an `Affine` through a Mul."""
    value, factor = (left, right) if isinstance(left, Affine) else (right, left)
    if isinstance(factor, Affine):
        raise Refused("a product of two computed values is not linear")
    return times(value, factor)


def divide(node: ir.Node, left: Any, right: Any) -> Affine:
    """Carry an `Affine` through a Div."""
    if isinstance(right, Affine):
        raise Refused("dividing by a computed value is not linear")
    return multiply(node, left, 1.0 / right)


def add(_: ir.Node, left: Any, right: Any, sign: float = 1.0) -> Affine:
    """Carry one or two `Affine` through an Add, or with `sign` -1 through a Sub."""
    if not isinstance(right, Affine):
        return _plus(left, sign * right)
    if not isinstance(left, Affine):
        return _plus(times(right, sign), left)
    if left.mixed != right.mixed:
        raise Refused("a sum of values before and after the spatial step")
    forms = {(len(value.dims), value.electrode, value.folded) for value in (left, right)}
    if len(forms) > 1 or (left.mixed and left.dims != right.dims):
        raise Refused("a sum of values of different shape")
    both = replace(
        left,
        dims=np.broadcast_shapes(left.dims, right.dims),
        bias=left.bias + sign * right.bias,
        dropped=left.dropped & right.dropped,
    )
    if np.array_equal(left.mix, right.mix):
        return replace(both, response=left.response + sign * right.response)
    if left.mixed or not np.array_equal(left.response, right.response):
        raise Refused("a sum of different spatial filters (rank 2)")
    return replace(both, mix=left.mix + sign * right.mix)


def where(_: ir.Node, mask: Any, left: Any, right: Any) -> Affine:
    """Leave electrodes out."""
    value, other, keep = (left, right, mask) if isinstance(left, Affine) else (right, left, ~np.asarray(mask))
    if isinstance(other, Affine) or not isinstance(value, Affine) or value.electrode is None or np.any(other):
        raise Refused("it chooses between computed values")
    shape = (1,) * (len(value.dims) + 1 - keep.ndim) + keep.shape
    if keep.size != value.dims[value.electrode] or shape[value.electrode + 1] != keep.size:
        raise Refused("it chooses otherwise than by electrode")
    return value.along(value.electrode, lambda a, axis: np.where(keep.reshape(-1, *(1,) * (a.ndim - 1)), a, 0.0))


def batchnorm(node: ir.Node, value: Affine, g: Any, beta: Any, mean: Any, var: Any) -> Affine:
    """Carry an `Affine` through a BatchNormalization."""
    scale = g / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    scale, shift = (a.reshape(-1, *(1,) * (len(value.dims) - 1)) for a in (scale, beta - mean * scale))
    return _plus(times(value, scale), shift)


def concat(node: ir.Node, *values: Any) -> Affine:
    """Carry values through a Concat."""
    if not all(isinstance(value, Affine) for value in values):
        raise Refused("it joins a constant")
    first = values[0]
    (axis,) = inner_axes(node)
    if len({(v.electrode, v.folded, v.mixed) for v in values}) > 1:
        raise Refused("it joins values before and after the spatial step")
    if first.electrode == axis:
        if any(not np.array_equal(v.response, first.response) for v in values):
            raise Refused("it joins electrodes behind different filters")
    elif not (first.mixed and axis == 0) and any(not np.array_equal(v.mix, first.mix) for v in values):
        raise Refused("it joins different spatial filters along time")
    return side_by_side(values, axis)
