"""Carrying an affine value through operators, each of which takes the node and its inputs, as ONNX has them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.value import Affine, inner_axes, static_dims
from rtserve.fusion.ir.nodes import auto_padded, geometry_of
from rtserve.fusion.ir.passes import Refused

__all__ = ["average_pool", "dft", "einsum", "expand", "gather", "matmul", "pad", "reduce", "reshape", "running_sum",
           "slices", "split", "tile"]  # fmt: skip


def reshape(node: ir.Node, value: Affine, *_: Any) -> Affine:
    """Carry an `Affine` through a change of shape."""
    return value.reshaped(static_dims(node.outputs[0]))


def slices(node: ir.Node, value: Affine, starts: Any, ends: Any, _: Any = None, steps: Any = None) -> Affine:
    """Carry an `Affine` through a Slice."""
    steps = np.ones_like(starts) if steps is None else steps
    for axis, *span in zip(inner_axes(node), starts, ends, steps, strict=True):
        value = value.picked(axis, np.arange(value.dims[axis])[slice(*span)])
    return value


def split(node: ir.Node, value: Affine, *_: Any) -> list[Affine]:
    """Carry an `Affine` through a Split."""
    (axis,) = inner_axes(node)
    ends = np.cumsum([static_dims(out)[axis] for out in node.outputs])
    return [value.picked(axis, part) for part in np.split(np.arange(value.dims[axis]), ends[:-1])]


def gather(node: ir.Node, value: Affine, index: np.ndarray) -> Affine:
    """Carry an `Affine` through a Gather."""
    if index.ndim > 1:
        raise Refused("it gathers with more than one axis of indices")
    (axis,) = inner_axes(node)
    picked = value.picked(axis, index.reshape(-1))
    return picked if index.ndim else picked.reshaped(static_dims(node.outputs[0]))


def pad(node: ir.Node, value: Affine, pads: np.ndarray, fill: Any = None, axes: Any = None) -> Affine:
    """Carry an `Affine` through a Pad by zeros, edges or reflection."""
    mode: Any = node.attributes.get_string("mode", "constant")
    widths = np.zeros((len(value.dims) + 1, 2), np.int64)
    widths[slice(None) if axes is None else axes] = pads.reshape(2, -1).T
    if widths[0].any() or widths.min() < 0:
        raise Refused("a pad of an unusual kind")
    if (fill is not None and np.any(fill)) or mode not in ("constant", "edge", "reflect"):
        raise Refused("it pads with a number that is not 0")
    for axis in np.flatnonzero(widths.any(axis=1)).tolist():
        value = value.along(axis - 1, partial(_padded, width=widths[axis], mode=mode))
    return value


def _padded(array: np.ndarray, axis: int, *, width: np.ndarray, mode: Any) -> np.ndarray:
    return np.pad(array, np.where(np.arange(array.ndim)[:, None] == axis, width, 0), mode=mode)


def reduce(node: ir.Node, value: Affine, *_: Any) -> Affine:
    """Carry an `Affine` through a sum or mean."""
    function: Any = np.mean if node.op_type == "ReduceMean" else np.sum
    for axis in inner_axes(node):
        value = value.along(axis, partial(function, keepdims=True))
    return value if node.attributes.get_int("keepdims", 1) else value.reshaped(static_dims(node.outputs[0]))


def expand(node: ir.Node, value: Affine, *_: Any) -> Affine:
    """Carry an `Affine` through an Expand."""
    dims = static_dims(node.outputs[0])
    if len(dims) != len(value.dims):
        raise Refused("it puts axes in front")
    return value.enlarged(dims)


def tile(node: ir.Node, value: Affine, repeats: np.ndarray) -> Affine:
    """Carry an `Affine` through a Tile of axes of length 1."""
    dims = [n * int(times) for n, times in zip(value.dims, repeats[1:], strict=True)]
    if repeats[0] != 1 or any(n not in (1, now) for n, now in zip(value.dims, dims, strict=True)):
        raise Refused("it repeats more than one number")
    return value.enlarged(dims)


def running_sum(node: ir.Node, value: Affine, _: Any) -> Affine:
    """Carry an `Affine` through a CumSum."""
    if node.attributes.get_int("exclusive", 0) or node.attributes.get_int("reverse", 0):
        raise Refused("a running sum of an unusual kind")
    (axis,) = inner_axes(node)
    return value.along(axis, np.cumsum)


def matmul(_: ir.Node, left: Any, right: Any) -> Affine:
    """Carry an `Affine` through a product with a matrix: behind it along the last axis, in front of it a spatial step."""
    if isinstance(left, Affine) and isinstance(right, np.ndarray) and right.ndim == 2:
        made = left.along(len(left.dims) - 1, lambda a, axis: np.moveaxis(np.moveaxis(a, axis, -1) @ right, -1, axis))
        return replace(made, dropped=left.dropped)  # 0 times what is left out is read
    if isinstance(right, Affine) and isinstance(left, np.ndarray) and left.ndim == 2 <= len(right.dims):
        at = len(right.dims) - 2
        if right.electrode == at or (right.mixed and at == 0):
            return right.product(left)
    raise Refused("a matrix product of an unusual kind")


def einsum(node: ir.Node, *operands: Any) -> Affine:
    """Carry an `Affine` through an Einsum with a constant: a product over electrodes, or one along other axes."""
    terms, _, out = (node.attributes.get_string("equation") or "").replace(" ", "").partition("->")
    place = next(k for k, one in enumerate(operands) if isinstance(one, Affine))
    value: Affine = operands[place]
    array = operands[not place]
    mine, other = (*terms.split(","), "", "")[:2][:: -1 if place else 1]
    unusual = "." in terms or len(operands) != 2 or isinstance(array, Affine) or len({*mine}) != len(value.dims) + 1
    if unusual or mine[0] != out[:1] or mine[0] in other:
        raise Refused("an Einsum of an unusual kind")
    lead = mine[1] if value.mixed else "" if value.electrode is None else mine[value.electrode + 1]
    if lead and lead in other:
        new = other.replace(lead, "")
        if len(new) != 1 or new in mine or mine.replace(lead, new) != out:
            raise Refused("an Einsum of an unusual kind")
        return value.product(array if other[1] == lead else array.T)
    if lead and (lead not in out or (value.mixed and out[1] != lead)):
        raise Refused("an Einsum of an unusual kind")
    electrode = None if value.electrode is None else out.index(lead) - 1
    return value.mapped(lambda a: np.einsum(f"{mine},{other}->{out}", a, array, optimize=True), electrode)


def average_pool(node: ir.Node, value: Affine) -> Affine:
    """Carry an `Affine` through an average pool, one axis after the other."""
    rank = len(value.dims) - 1
    if auto_padded(node):
        raise Refused("automatic padding")
    strides, dilations, pads = geometry_of(node, rank)
    kernel = node.attributes.get_ints("kernel_shape") or ()
    counted = bool(node.attributes.get_int("count_include_pad", 0))
    made = static_dims(node.outputs[0])[1:]
    for k, form in enumerate(zip(kernel, strides, dilations, pads[:rank], pads[rank:], made, strict=True)):
        if form[:2] != (1, 1) or any(form[3:5]):
            value = value.along(k + 1, partial(_averaged, form=form, counted=counted))
    return value


def _averaged(array: np.ndarray, axis: int, *, form: tuple[int, ...], counted: bool) -> np.ndarray:
    """Return means along an axis: taps, stride, dilation, pads, and how many of them; padding is counted or not."""
    taps, stride, dilation, left, right, n_out = form
    n = array.shape[axis]
    at = stride * np.arange(n_out)[:, None] + dilation * np.arange(taps) - left
    count = ((at >= 0) & (at < n)).sum(1)
    if not count.all() or (counted and at.max() >= n + right):
        raise Refused("its windows reach beyond the padding")
    beyond = max(int(at.max()) + 1 - n, 0)
    padded = _padded(array, axis, width=np.array([left, beyond]), mode="constant") if left or beyond else array
    padded = np.moveaxis(padded, axis, -1)
    span = stride * (n_out - 1) + 1
    total = padded[..., :span:stride].copy()
    for tap in range(dilation, dilation * taps, dilation):
        total += padded[..., tap : tap + span : stride]
    total /= taps if counted else count
    return np.moveaxis(total, -1, axis)


def dft(node: ir.Node, value: Affine, length: Any = None, *_: Any) -> Affine:
    """Carry an `Affine` through a discrete Fourier transform along time, real and imaginary part last."""
    (at,), n = inner_axes(node), None if length is None else int(length)
    inverse, onesided = node.attributes.get_int("inverse", 0), node.attributes.get_int("onesided", 0)
    if value.electrode in (at, len(value.dims) - 1):
        raise Refused("it acts on the electrodes")

    def transform(a: np.ndarray, axis: int) -> np.ndarray:
        z = a[..., 0] if a.shape[-1] == 1 else a[..., 0] + 1j * a[..., 1]
        if inverse and onesided:
            return np.fft.irfft(z, n=n, axis=axis)[..., None]
        function = np.fft.ifft if inverse else np.fft.rfft if onesided else np.fft.fft
        out = function(z.real if onesided else z, n=n, axis=axis)
        return np.stack([out.real, out.imag], axis=-1)

    return value.along(at, transform)
