r"""Carrying an affine value through a convolution.

A convolution that does not look across electrodes filters the responses. One that spans all of them is the spatial
step: with a kernel of length 1 in time, :math:`S[g] = w[g]` and the response of output g is that of the one input
feature it reads. After the spatial step only convolutions that keep the outputs apart (depthwise) can follow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.operator import NOISES, probes
from rtserve.fusion.affine.value import Affine
from rtserve.fusion.ir.conv import Conv1d
from rtserve.fusion.ir.nodes import geometry_of
from rtserve.fusion.ir.passes import Refused

__all__ = ["conv"]

UNFOLDED = 2_000_000
"""Numbers that torch may unfold at once."""


def conv(node: ir.Node, args: list[Any]) -> Affine:
    """Carry an `Affine` through a Conv node with constant weights."""
    value, weight = args[0], args[1]
    if not (isinstance(value, Affine) and isinstance(weight, np.ndarray)):
        raise Refused("its weights are computed")
    bias = args[2] if len(args) > 2 and args[2] is not None else np.zeros(len(weight))
    rank = weight.ndim - 2
    geometry = _Geometry(node, rank)
    if value.mixed and weight.shape[1] != 1:
        value = value.as_electrodes()
    if value.electrode == 0 and value.bank == 1 and 1 < geometry.group == len(weight) == value.dims[0]:
        return _alike(value, weight, bias, geometry)
    if value.electrode is not None:
        if value.electrode == 0:
            return _mix_channels(value, weight, bias, geometry)
        if weight.shape[value.electrode + 1] != 1:
            return _mix_rows(value, weight, bias, geometry)
        if geometry.touches(value.electrode - 1):
            raise Refused("it strides or pads over electrodes")
    filtered = value.mapped(lambda a: geometry.run(a, weight), (), None)
    dims = list(filtered.bias.shape[1:])
    if value.electrode is not None:
        dims[value.electrode] = value.dims[value.electrode]
    spatial = value.spatial
    if spatial is not None:
        spatial = np.repeat(spatial, len(weight) // geometry.group, axis=0)
    shift = bias.reshape(-1, *([1] * rank))
    return replace(filtered, bias=filtered.bias + shift, dims=tuple(dims), electrode=value.electrode, spatial=spatial)


def _alike(value: Affine, weight: np.ndarray, bias: np.ndarray, geometry: _Geometry) -> Affine:
    """Filter every electrode by itself, all with the same kernel."""
    if (weight != weight[:1]).any():
        raise Refused("every electrode has a filter of its own")
    filtered = value.mapped(lambda a: geometry.run(a, weight[:1], group=1), (), 0)
    shift = bias.reshape(-1, *(1,) * (weight.ndim - 1)) if np.ptp(bias) else bias[0]
    return replace(filtered, bias=filtered.bias + shift, dims=(value.dims[0], *filtered.bias.shape[2:]))


class _Geometry:
    """Strides, pads, dilations and groups of a Conv node."""

    def __init__(self, node: ir.Node, rank: int) -> None:
        self.rank, self.group = rank, node.attributes.get_int("group", 1) or 1
        self.strides, self.dilations, self.pads = geometry_of(node, rank)
        if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
            raise Refused("automatic padding")
        if rank not in (1, 2, 3):
            raise Refused(f"a convolution of rank {rank}")

    def touches(self, axis: int) -> bool:
        """Whether a spatial axis is strided or padded."""
        return bool(self.strides[axis] != 1 or self.pads[axis] or self.pads[self.rank + axis])

    def run(self, array: np.ndarray, weight: np.ndarray, group: int = 0) -> np.ndarray:
        """Convolve (batch, channels, ...) in float64, a part of the batch at a time: torch unfolds what it is given."""
        import torch

        functions = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}
        pads = [p for axis in reversed(range(self.rank)) for p in (self.pads[axis], self.pads[self.rank + axis])]
        kernel = torch.from_numpy(np.ascontiguousarray(weight))
        done = [
            functions[self.rank](
                torch.nn.functional.pad(torch.from_numpy(np.ascontiguousarray(part)), pads),
                kernel, stride=self.strides, dilation=self.dilations, groups=group or self.group,
            ).numpy()
            for part in np.array_split(array, -(-array.size * weight[0].size // UNFOLDED))
        ]  # fmt: skip
        return np.concatenate(done) if len(done) > 1 else done[0]


def _mix_channels(value: Affine, weight: np.ndarray, bias: np.ndarray, geometry: _Geometry) -> Affine:
    """Take the spatial step where electrodes are the convolution's channels (kernel 1: a Linear over electrodes)."""
    touched = any(map(geometry.touches, range(geometry.rank)))
    if weight[0, 0].size != 1 or geometry.group != value.bank or touched:
        raise Refused("space and time are convolved at once (already merged)")
    source = np.repeat(np.arange(value.bank), len(weight) // value.bank)  # group f reads the electrodes of filter f
    return value.spatial_step(weight.reshape(len(weight), -1), bias, source, (len(weight), *value.dims[1:]))


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
        if len(value.bias) > 1 or value.dropped:
            raise Refused("every output mixes several filters of electrodes with offsets of their own, or left out")
        raise DenseMix(value, taps @ value.electrodes if value.mix is not None else taps, bias, geometry.group)
    source = np.arange(outputs) // (outputs // geometry.group)
    dims = (outputs, *(1 if a == axis else d for a, d in enumerate(value.dims) if a != 0))
    return value.spatial_step(taps[:, 0], bias, source, dims)


class JointMix(Refused):
    """A convolution of the window itself over all electrodes and some time at once; `prefix` writes it on (E, T)."""

    def __init__(self, value: Affine, weight: np.ndarray, bias: np.ndarray, geometry: _Geometry) -> None:
        super().__init__("space and time are convolved at once (already merged)")
        self.value, self.weight, self.bias, self.geometry = value, weight, bias, geometry

    def as_conv1d(self) -> Conv1d | None:
        """Return the same convolution on x, or None."""
        value, axis, g = self.value, self.value.electrode, self.geometry
        n_times = value.n_times
        if value.dims[0] != 1 or g.rank != 2 or value.bias.any() or axis is None or value.dropped:
            return None
        if not np.array_equal(
            value.response.reshape(len(value.response), -1), probes(n_times, len(value.response) - NOISES)
        ):
            return None
        time = 2 - axis
        weight = self.weight[:, 0] if time == 1 else self.weight[:, 0].transpose(0, 2, 1)
        return Conv1d(
            weight=weight if value.mix is None else np.einsum("oek,ec->ock", weight, value.mix),
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
