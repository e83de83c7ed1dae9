"""Carrying an affine value through operators, each of which takes the node and its inputs, as ONNX has them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.value import Affine, inner_axes, static_dims
from rtserve.fusion.ir.nodes import auto_padded, geometry_of
from rtserve.fusion.ir.passes import Refused

__all__ = ["average_pool", "dft", "gather", "matmul", "pad", "reduce", "reshape", "running_sum", "slices", "split"]


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
    """Carry an `Affine` through a sum or mean along axes that stay, of length 1."""
    if not node.attributes.get_int("keepdims", 1):
        raise Refused("its axes go")
    function: Any = np.mean if node.op_type == "ReduceMean" else np.sum
    for axis in inner_axes(node):
        value = value.along(axis, partial(function, keepdims=True))
    return value


def running_sum(node: ir.Node, value: Affine, _: Any) -> Affine:
    """Carry an `Affine` through a CumSum."""
    if node.attributes.get_int("exclusive", 0) or node.attributes.get_int("reverse", 0):
        raise Refused("a running sum of an unusual kind")
    (axis,) = inner_axes(node)
    return value.along(axis, np.cumsum)


def matmul(_: ir.Node, left: Any, right: Any) -> Affine:
    """Carry an `Affine` through a product with a matrix: behind it along the last axis, in front of it a spatial step."""
    if isinstance(left, Affine) and isinstance(right, np.ndarray) and right.ndim == 2:
        return left.along(len(left.dims) - 1, lambda a, axis: np.moveaxis(np.moveaxis(a, axis, -1) @ right, -1, axis))
    if isinstance(right, Affine) and isinstance(left, np.ndarray) and left.ndim == 2 and len(right.dims) == 2:
        value: Affine = right.as_electrodes() if right.mixed else right
        if value.electrode == 0:
            n = len(left)
            return value.spatial_step(left, np.zeros(n), np.zeros(n, np.int64))
    raise Refused("a matrix product of an unusual kind")


def average_pool(node: ir.Node, value: Affine) -> Affine:
    """Carry an `Affine` through an average pool along time."""
    import torch

    kernel = list(node.attributes.get_ints("kernel_shape") or ())
    strides, dilations, pads = geometry_of(node, len(kernel))
    if node.attributes.get_int("ceil_mode", 0) or any(pads) or auto_padded(node) or set(dilations) - {1}:
        raise Refused("an average pool with padding, or dilated")
    if value.electrode is not None and (value.electrode == 0 or kernel[value.electrode - 1] != 1):
        raise Refused("it pools over electrodes")
    pool = getattr(torch.nn.functional, f"avg_pool{len(kernel)}d")
    return value.mapped(
        lambda a: pool(torch.from_numpy(np.ascontiguousarray(a)), kernel, strides).numpy(), value.electrode
    )


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
