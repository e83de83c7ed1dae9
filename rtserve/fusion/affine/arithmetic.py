"""Sums and products of affine values with constants and with each other, and values side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.toeplitz import EXACT
from rtserve.fusion.affine.value import Affine, inner_axes, side_by_side
from rtserve.fusion.ir.passes import Refused

__all__ = ["NotLinear", "add", "batchnorm", "concat", "divide", "multiply", "times", "where"]


class NotLinear(Refused):
    """A node that no spatial step can be taken across."""


def _operands(value: Affine, array: Any) -> tuple[Affine, np.ndarray]:
    """Return a value as large as a constant makes it, and that constant as (1 or electrodes, ...), as `bias` is."""
    operand = np.asarray(array)
    batch, *dims = np.broadcast_shapes(operand.shape, (1, *value.dims))
    if batch != 1 or len(dims) != len(value.dims):
        raise Refused("a constant operand has a batch, or more axes than the value")
    value, operand = value.enlarged(dims), operand.reshape((1,) * (len(dims) + 1 - operand.ndim) + operand.shape)
    if value.electrode is not None:
        operand = np.swapaxes(operand, 0, value.electrode + 1)
        operand = operand[:1] if np.ptp(operand, axis=0).max() == 0 else operand
    return value, operand


def times(value: Affine, factor: Any) -> Affine:
    """Return a value times a constant, which may be another for every electrode."""
    value, factor = _operands(value, factor)
    if len(factor) == 1:
        return value.mapped(lambda a: a * factor[0], value.electrode)
    own = factor.reshape(len(factor), -1)
    if np.ptp(own, axis=1).max() > 0 or not own.all():
        raise Refused("a constant operand differs between electrodes and along another axis, or is 0")
    return value.along(value.electrode or 0, lambda a, axis: a * own[:, 0].reshape(-1, *(1,) * (a.ndim - 1)))


def _plus(value: Affine, array: Any) -> Affine:
    """Return a value plus a constant, which may be another for every electrode."""
    value, operand = _operands(value, array)
    return replace(value, bias=value.bias + operand)


def multiply(_: ir.Node, left: Any, right: Any) -> Affine:
    """Carry an `Affine` through a Mul."""
    value, factor = (left, right) if isinstance(left, Affine) else (right, left)
    if isinstance(factor, Affine):
        raise NotLinear("a product of two computed values is not linear")
    return times(value, factor)


def divide(node: ir.Node, left: Any, right: Any) -> Affine:
    """Carry an `Affine` through a Div."""
    if isinstance(right, Affine):
        raise NotLinear("dividing by a computed value is not linear")
    return multiply(node, left, 1.0 / right)


def add(_: ir.Node, left: Any, right: Any, sign: float = 1.0) -> Affine:
    """Carry one or two `Affine` through an Add, or with `sign` -1 through a Sub."""
    summed: Callable[[Any, Any], np.ndarray] = np.add if sign > 0 else np.subtract
    if not isinstance(right, Affine):
        return _plus(left, sign * np.asarray(right))
    if not isinstance(left, Affine):
        return _plus(times(right, sign), left)
    first, second = _on_one_side(left, right, why="a sum of values before and after the spatial step")
    forms = {(len(value.dims), value.electrode, value.folded) for value in (first, second)}
    if len(forms) > 1 or (first.mixed and first.dims != second.dims):
        raise Refused("a sum of values of different shape")
    both = replace(
        first,
        dims=np.broadcast_shapes(first.dims, second.dims),
        bias=first.bias + sign * second.bias,
        dropped=first.dropped & second.dropped,
    )
    if (other := _by_mix(first, second)) is not None:
        return replace(both, response=summed(first.response, other.response))
    if (other := _by_response(first, second)) is not None:
        return replace(both, mix=summed(first.mix, other.mix))
    raise Refused("a sum of different spatial filters (rank 2)")


def _on_one_side(*values: Affine, why: str) -> list[Affine]:
    """Return values all before the spatial step, or all behind it."""
    both = len({value.mixed for value in values}) > 1
    return [value.as_electrodes(why) if both and value.mixed else value for value in values]


def _by_mix(first: Affine, value: Affine) -> Affine | None:
    """Return a value with the electrodes of another, mixed to a factor as there; None where they are mixed otherwise."""
    shares = _shares(first, first.mix, value.mix, 0)
    if shares is None:
        return None
    if (shares != 1).any():
        value = replace(value, response=value.response * shares.reshape(-1, *(1,) * (value.response.ndim - 2)))
    return replace(value, mix=first.mix)


def _by_response(first: Affine, value: Affine) -> Affine | None:
    """Return a value with the responses of another, which to a factor it has; None where it has others."""
    shares = _shares(first, first.response, value.response, 1)
    return None if shares is None else replace(value, response=first.response, mix=value.mix * shares[:, None])


def _shares(first: Affine, of: np.ndarray, array: np.ndarray, axis: int) -> np.ndarray | None:
    """Return the factors by which an array is another, one for each spatial filter behind that step; None without."""
    if of.shape != array.shape:
        return None
    pairs = zip(np.moveaxis(of, axis, 0), np.moveaxis(array, axis, 0), strict=True) if first.mixed else [(of, array)]
    found = []
    for pair in pairs:
        found.append(_share(*pair))
        if found[-1] is None:
            return None
    return np.array(found)


def _share(of: np.ndarray, array: np.ndarray) -> float | None:
    """Return the factor by which an array is another; None where it is not."""
    if np.array_equal(of, array):
        return 1.0
    share = np.vdot(of, array) / max(np.vdot(of, of), 1e-300)
    limit = EXACT * max(array.max(), -array.min())
    alike = all(np.abs(b - share * a).max() <= limit for a, b in zip(of, array, strict=True))
    return float(share) if alike else None


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
    (axis,) = inner_axes(node)
    first, *others = _on_one_side(*values, why="it joins values before and after the spatial step")
    if len({(v.electrode, v.folded) for v in (first, *others)}) > 1:
        raise Refused("it joins electrodes along different axes")
    if not (first.mixed and axis == 0):
        alike, why = _by_mix, "it joins different spatial filters along time"
        if first.electrode == axis:
            alike, why = _by_response, "it joins electrodes behind different filters"
        if None in (matched := [alike(first, other) for other in others]):
            raise Refused(why)
        others = [other for other in matched if other is not None]
    return side_by_side([first, *others], axis)
