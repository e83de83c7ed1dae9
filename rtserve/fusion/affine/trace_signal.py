"""Carrying an affine value through padding, sums, pooling and Fourier transforms."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.value import Affine, axes_in, guard, static_dims
from rtserve.fusion.ir.nodes import geometry_of
from rtserve.fusion.ir.passes import Refused

__all__ = ["average_pool", "dft", "pad", "reduce", "running_sum"]


def average_pool(node: ir.Node, args: list[Any]) -> Affine:
    """Carry an `Affine` through an average pool along time."""
    import torch

    value: Affine = args[0]
    kernel = list(node.attributes.get_ints("kernel_shape") or ())
    strides, _, pads = geometry_of(node, len(kernel))
    if node.attributes.get_int("ceil_mode", 0) or any(pads):
        raise Refused("an average pool with padding")
    if value.electrode is not None and (value.electrode == 0 or kernel[value.electrode - 1] != 1):
        raise Refused("it pools over electrodes")
    pool = {1: torch.nn.functional.avg_pool1d, 2: torch.nn.functional.avg_pool2d}.get(len(kernel))
    if pool is None:
        raise Refused("an average pool of rank 3")
    return value.mapped(
        lambda a: pool(torch.from_numpy(np.ascontiguousarray(a)), kernel, strides).numpy(),
        static_dims(node.outputs[0]),
        value.electrode,
    )


def dft(node: ir.Node, args: list[Any]) -> Affine:
    """Carry an `Affine` through a discrete Fourier transform along time, real and imaginary part last."""
    value: Affine = args[0]
    axis_input = args[2] if len(args) > 2 and args[2] is not None else -2
    axis = int(np.asarray(axis_input).reshape(())) % (len(value.dims) + 1)
    length = int(args[1]) if len(args) > 1 and args[1] is not None else None
    inverse, onesided = node.attributes.get_int("inverse", 0), node.attributes.get_int("onesided", 0)
    guard(value, [axis - 1, len(value.dims) - 1])

    def transform(a: np.ndarray) -> np.ndarray:
        z = a[..., 0] if a.shape[-1] == 1 else a[..., 0] + 1j * a[..., 1]
        if inverse and onesided:
            return np.fft.irfft(z, n=length, axis=axis)[..., None]
        function = np.fft.ifft if inverse else np.fft.rfft if onesided else np.fft.fft
        out = function(z.real if onesided else z, n=length, axis=axis)
        return np.stack([out.real, out.imag], axis=-1)

    return value.mapped(transform, static_dims(node.outputs[0]), value.electrode)


def pad(node: ir.Node, args: list[Any]) -> Affine:
    """Carry an `Affine` through a Pad by zeros, edges or reflection."""
    value, pads = args[0], args[1]
    mode = node.attributes.get_string("mode", "constant")
    fill = float(args[2]) if len(args) > 2 and args[2] is not None else 0.0
    axes = args[3] if len(args) > 3 and args[3] is not None else np.arange(len(pads) // 2)
    n = len(pads) // 2
    widths = {int(axis) % (len(value.dims) + 1): (int(pads[i]), int(pads[n + i])) for i, axis in enumerate(axes)}
    if widths.get(0, (0, 0)) != (0, 0) or min(map(min, widths.values())) < 0:
        raise Refused("a pad of an unusual kind")
    if fill != 0.0 or mode not in ("constant", "edge", "reflect"):
        raise Refused("it pads with a number that is not 0")
    for axis, width in widths.items():
        if width != (0, 0):
            value = value.along(axis - 1, partial(_padded, width=width, mode=mode))
    return value  # type: ignore[no-any-return]


def _padded(a: np.ndarray, axis: int, *, width: tuple[int, int], mode: Any) -> np.ndarray:
    return np.pad(a, [width if k == axis else (0, 0) for k in range(a.ndim)], mode=mode)


def reduce(node: ir.Node, args: list[Any]) -> Affine:
    """Carry an `Affine` through a sum or mean along axes that stay, of length 1."""
    value: Affine = args[0]
    if len(args) < 2 or args[1] is None or not node.attributes.get_int("keepdims", 1):
        raise Refused("its axes go")
    function = np.mean if node.op_type == "ReduceMean" else np.sum
    for axis in axes_in(value, args[1]):
        value = value.along(axis, lambda a, axis: function(a, axis=axis, keepdims=True))
    return value


def running_sum(node: ir.Node, args: list[Any]) -> Affine:
    """Carry an `Affine` through a CumSum."""
    (axis,) = axes_in(args[0], args[1])
    if node.attributes.get_int("exclusive", 0) or node.attributes.get_int("reverse", 0):
        raise Refused("a running sum of an unusual kind")
    return args[0].along(axis, lambda a, axis: np.cumsum(a, axis=axis))  # type: ignore[no-any-return]
