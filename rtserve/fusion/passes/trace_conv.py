r"""Carrying an affine value through a convolution.

A convolution that does not look across electrodes filters the responses. One that spans all of them is the spatial
step: with a kernel of length 1 in time, :math:`S[g] = w[g]` and the response of output g is that of the one input
feature it reads. After the spatial step only convolutions that keep the outputs apart (depthwise) can follow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.ir.conv import Conv1d
from rtserve.fusion.ir.refused import Refused
from rtserve.fusion.passes.affine import Affine

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["conv"]


def conv(node: ir.Node, args: list[Any]) -> Affine:
    """Carry an `Affine` through a Conv node with constant weights."""
    value, weight = args[0], args[1]
    if not (isinstance(value, Affine) and isinstance(weight, np.ndarray)):
        raise Refused("its weights are computed")
    bias = args[2] if len(args) > 2 and args[2] is not None else np.zeros(len(weight))
    rank = weight.ndim - 2
    geometry = _Geometry(node, rank)
    if value.electrode is not None:
        if value.electrode == 0:
            return _mix_channels(value, weight, bias, geometry)
        if weight.shape[value.electrode + 1] != 1:
            return _mix_rows(value, weight, bias, geometry)
        if geometry.touches(value.electrode - 1):
            raise Refused("it strides or pads over electrodes")
    elif weight.shape[1] != 1:
        raise Refused("it mixes spatial filters")
    filtered = value.mapped(lambda a: geometry.run(a, weight), (), None)
    dims = list(filtered.bias.shape)
    if value.electrode is not None:
        dims[value.electrode] = value.dims[value.electrode]
    spatial = value.spatial
    if spatial is not None:
        spatial = np.repeat(spatial, len(weight) // geometry.group, axis=0)
    shift = bias.reshape(-1, *([1] * rank))
    return replace(filtered, bias=filtered.bias + shift, dims=tuple(dims), electrode=value.electrode, spatial=spatial)


class _Geometry:
    """Strides, pads, dilations and groups of a Conv node."""

    def __init__(self, node: ir.Node, rank: int) -> None:
        attributes = node.attributes
        self.rank = rank
        self.strides = list(attributes.get_ints("strides") or [1] * rank)
        self.dilations = list(attributes.get_ints("dilations") or [1] * rank)
        self.pads = list(attributes.get_ints("pads") or [0] * (2 * rank))
        self.group = attributes.get_int("group", 1) or 1
        if attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
            raise Refused("automatic padding")
        if rank not in (1, 2, 3):
            raise Refused(f"a convolution of rank {rank}")

    def touches(self, axis: int) -> bool:
        """Whether a spatial axis is strided or padded."""
        return bool(self.strides[axis] != 1 or self.pads[axis] or self.pads[self.rank + axis])

    def run(self, array: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Convolve (batch, channels, ...) in float64."""
        import torch

        functions = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}
        pads = [p for axis in reversed(range(self.rank)) for p in (self.pads[axis], self.pads[self.rank + axis])]
        padded = torch.nn.functional.pad(torch.from_numpy(np.ascontiguousarray(array)), pads)
        kernel = torch.from_numpy(np.ascontiguousarray(weight))
        result: np.ndarray = functions[self.rank](
            padded, kernel, stride=self.strides, dilation=self.dilations, groups=self.group
        ).numpy()
        return result


def _mix_channels(value: Affine, weight: np.ndarray, bias: np.ndarray, geometry: _Geometry) -> Affine:
    """Take the spatial step where electrodes are the convolution's channels (kernel 1: a Linear over electrodes)."""
    if (
        int(np.prod(weight.shape[2:])) != 1
        or geometry.group != value.bank
        or any(geometry.touches(a) for a in range(geometry.rank))
    ):
        raise Refused("space and time are convolved at once (already merged)")
    if value.bank > 1:
        return _mix_bank(value, weight.reshape(len(weight), -1), bias)
    spatial = weight.reshape(len(weight), -1)
    shape = (len(weight), *value.dims[1:])
    response = np.broadcast_to(value.response, (len(value.response), *shape))
    shift = bias.reshape(-1, *([1] * (len(shape) - 1)))
    mixed_bias = spatial.sum(1).reshape(shift.shape) * value.bias + shift
    return Affine(response=response, bias=mixed_bias, dims=shape, electrode=None, spatial=spatial)


def _mix_bank(value: Affine, spatial: np.ndarray, bias: np.ndarray) -> Affine:
    """Take the spatial step of every filter of a bank: group f of the convolution reads the electrodes of filter f."""
    source = np.repeat(np.arange(value.bank), len(spatial) // value.bank)
    shift = bias.reshape(-1, *([1] * (value.bias.ndim - 1)))
    own = spatial.sum(1).reshape(shift.shape) * value.bias[source] + shift
    dims = (len(spatial), *value.dims[1:])
    return Affine(response=value.response[:, source], bias=own, dims=dims, electrode=None, spatial=spatial)


def _mix_rows(value: Affine, weight: np.ndarray, bias: np.ndarray, geometry: _Geometry) -> Affine:
    """Take the spatial step where electrodes are a spatial axis and the kernel spans them all."""
    axis = value.electrode
    assert axis is not None
    others = [a for a in range(geometry.rank) if a != axis - 1]
    if weight.shape[axis + 1] != value.dims[axis] or geometry.touches(axis - 1):
        raise Refused("its kernel spans some electrodes, not all")
    if any(weight.shape[2 + a] != 1 or geometry.touches(a) for a in others):
        raise JointMix(value, weight, bias, geometry)
    features = value.dims[0]
    per_group_in, outputs = features // geometry.group, len(weight)
    taps = weight.reshape(outputs, per_group_in, -1)
    if per_group_in != 1:
        raise DenseMix(value, taps, bias, geometry.group)
    source = np.arange(outputs) // (outputs // geometry.group)
    spatial = taps[:, 0]
    shift = bias.reshape(-1, *([1] * (len(value.dims) - 1)))
    own = value.bias[source]
    return Affine(
        response=value.response[:, source],
        bias=spatial.sum(1).reshape(shift.shape) * own + shift,
        dims=(outputs, *(1 if a == axis else d for a, d in enumerate(value.dims) if a != 0)),
        electrode=None,
        spatial=spatial,
    )


class JointMix(Refused):
    """A convolution of the window itself over all electrodes and some time at once; `prefix` writes it on (E, T)."""

    def __init__(self, value: Affine, weight: np.ndarray, bias: np.ndarray, geometry: _Geometry) -> None:
        super().__init__("space and time are convolved at once (already merged)")
        self.value, self.weight, self.bias, self.geometry = value, weight, bias, geometry

    def as_conv1d(self) -> Conv1d | None:
        """Return the same convolution on x, or None."""
        value, axis, g = self.value, self.value.electrode, self.geometry
        n_times = len(value.response)
        if value.dims[0] != 1 or g.rank != 2 or value.bias.any() or axis is None:
            return None
        if not np.array_equal(value.response.reshape(n_times, -1), np.eye(n_times)):
            return None
        time = 2 - axis
        return Conv1d(
            weight=self.weight[:, 0] if time == 1 else self.weight[:, 0].transpose(0, 2, 1),
            bias=self.bias if self.bias.any() else None,
            stride=g.strides[time],
            dilation=g.dilations[time],
            left=g.pads[time],
            right=g.pads[2 + time],
            n_in=n_times,
            rows=0,
            axis=2,
        )


class DenseMix(Refused):
    """A spatial step in which every output reads several temporal filters; `prefix` may merge it into one kernel."""

    def __init__(self, value: Affine, taps: np.ndarray, bias: np.ndarray, group: int) -> None:
        super().__init__("every output mixes several temporal filters (dense spatial step)")
        self.value, self.taps, self.bias, self.group = value, taps, bias, group
