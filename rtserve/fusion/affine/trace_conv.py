r"""Carrying an affine value through a convolution.

A convolution that does not look across electrodes filters the responses. One that spans all of them is the spatial
step: with a kernel of length 1 in time, :math:`S[g] = w[g]` and the response of output g is that of the one input
feature it reads. After the spatial step only convolutions that keep the outputs apart (depthwise) can follow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.operator import NOISES, probes, require_followed
from rtserve.fusion.affine.value import Affine
from rtserve.fusion.ir.conv import Conv1d
from rtserve.fusion.ir.nodes import geometry_of
from rtserve.fusion.ir.passes import Refused

__all__ = ["DenseMix", "JointMix", "conv"]

UNFOLDED = 200_000
"""Numbers that torch may unfold at once."""
MERGED = "space and time are convolved at once (already merged)"


def conv(node: ir.Node, value: Affine, weight: np.ndarray, bias: np.ndarray | None = None) -> Affine:
    """Carry an `Affine` through a Conv node with constant weights."""
    kernel = _Kernel.of(node, weight, np.zeros(len(weight)) if bias is None else bias)
    if value.mixed and weight.shape[1] != 1:
        value = value.as_electrodes()
    axis = value.electrode
    if axis == 0:
        alike = value.bank == 1 < kernel.group == len(weight) == value.dims[0]
        return _filter_alike(value, kernel) if alike else _mix_channels(value, kernel)
    if axis is not None and weight.shape[axis + 1] != 1:
        return _mix_rows(value, kernel, axis)
    if axis is not None and kernel.touches(axis - 1):
        raise Refused("it strides or pads over electrodes")
    made = value.mapped(kernel.run, axis)
    mix = np.repeat(value.mix, len(weight) // kernel.group, axis=0) if value.mixed else value.mix
    return replace(made, mix=mix, bias=made.bias + kernel.bias.reshape(-1, *(1,) * kernel.rank))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kernel:
    """A Conv node's weights and geometry."""

    weight: np.ndarray
    bias: np.ndarray
    group: int
    strides: list[int]
    dilations: list[int]
    pads: list[int]

    @classmethod
    def of(cls, node: ir.Node, weight: np.ndarray, bias: np.ndarray) -> _Kernel:
        rank = weight.ndim - 2
        if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
            raise Refused("automatic padding")
        if rank > 3:
            raise Refused(f"a convolution of rank {rank}")
        strides, dilations, pads = geometry_of(node, rank)
        group = node.attributes.get_int("group", 1) or 1
        return cls(weight=weight, bias=bias, group=group, strides=strides, dilations=dilations, pads=pads)

    @property
    def rank(self) -> int:
        """How many axes it has behind the channels."""
        return self.weight.ndim - 2

    def touches(self, axis: int) -> bool:
        """Whether a spatial axis is strided or padded."""
        return bool(self.strides[axis] != 1 or self.pads[axis] or self.pads[self.rank + axis])

    def run(self, array: np.ndarray) -> np.ndarray:
        """Convolve (batch, channels, ...) in float64, a part of the batch at a time: torch unfolds what it is given."""
        import torch

        function = getattr(torch.nn.functional, f"conv{self.rank}d")
        pads = np.reshape(self.pads, (2, -1)).T[::-1].ravel().tolist()
        weight = torch.from_numpy(np.ascontiguousarray(self.weight))
        made, at = np.empty(0), 0
        for part in np.array_split(array, min(-(-array.size * weight[0].numel() // UNFOLDED), len(array))):
            padded = torch.nn.functional.pad(torch.from_numpy(np.ascontiguousarray(part)), pads)
            done = function(padded, weight, stride=self.strides, dilation=self.dilations, groups=self.group).numpy()
            if not at:
                require_followed(len(array) * done[0].size)
                made = np.empty((len(array), *done.shape[1:]))
            made[at : at + len(part)] = done
            at += len(part)
        return made


def _filter_alike(value: Affine, kernel: _Kernel) -> Affine:
    """Filter every electrode by itself, all with the same kernel."""
    if (kernel.weight != kernel.weight[:1]).any():
        raise Refused("every electrode has a filter of its own")
    made = value.mapped(replace(kernel, weight=kernel.weight[:1], group=1).run, 0)
    bias = kernel.bias if np.ptp(kernel.bias) else kernel.bias[:1]
    return replace(made, bias=made.bias + bias.reshape(-1, *(1,) * (kernel.rank + 1)))


def _mix_channels(value: Affine, kernel: _Kernel) -> Affine:
    """Take the spatial step where electrodes are the convolution's channels (kernel 1: a Linear over electrodes)."""
    outputs = len(kernel.weight)
    if kernel.weight[0, 0].size != 1 or kernel.group != value.bank or any(map(kernel.touches, range(kernel.rank))):
        raise Refused(MERGED)
    source = np.repeat(np.arange(value.bank), outputs // value.bank)  # group f reads the electrodes of filter f
    return value.spatial_step(kernel.weight.reshape(outputs, -1), kernel.bias, source)


def _mix_rows(value: Affine, kernel: _Kernel, axis: int) -> Affine:
    """Take the spatial step where electrodes are a spatial axis and the kernel spans them all."""
    if kernel.weight.shape[axis + 1] != value.dims[axis] or kernel.touches(axis - 1):
        raise Refused("its kernel spans some electrodes, not all")
    if any(kernel.weight.shape[2 + a] != 1 or kernel.touches(a) for a in range(kernel.rank) if a != axis - 1):
        raise JointMix(MERGED, conv=_on_the_window(value, kernel, axis))
    outputs, per_group = kernel.weight.shape[:2]
    if per_group == 1:
        weights = kernel.weight.reshape(outputs, -1)
        return value.spatial_step(weights, kernel.bias, np.arange(outputs) // (outputs // kernel.group))
    if len(value.bias) > 1 or value.dropped:
        raise Refused("every output mixes several filters of electrodes with offsets of their own, or left out")
    taps = kernel.weight.reshape(kernel.group, outputs // kernel.group, per_group, -1)
    own = np.einsum("gof,gft->got", taps.sum(-1), value.bias.reshape(kernel.group, per_group, -1))
    raise DenseMix(
        "every output mixes several temporal filters (dense spatial step)",
        value=value,
        taps=taps @ value.mix,
        bias=own.reshape(outputs, -1) + kernel.bias[:, None],
    )


def _on_the_window(value: Affine, kernel: _Kernel, axis: int) -> Conv1d | None:
    """Return a convolution over all electrodes, which are an axis, and some time as one on x; None where it reads more."""
    if value.dims[0] != 1 or kernel.rank != 2 or value.bias.any() or value.dropped:
        return None
    rows, time = value.response.reshape(len(value.response), -1), 2 - axis
    if not np.array_equal(rows, probes(value.n_times, len(rows) - NOISES)):
        return None
    weight = kernel.weight[:, 0] if time == 1 else kernel.weight[:, 0].transpose(0, 2, 1)
    return Conv1d(
        weight=np.einsum("oek,ec->ock", weight, value.mix, optimize=True),
        bias=kernel.bias if kernel.bias.any() else None,
        stride=kernel.strides[time],
        dilation=kernel.dilations[time],
        left=kernel.pads[time],
        right=kernel.pads[2 + time],
        n_in=value.n_times,
        rows=0,
        axis=2,
    )


@dataclass(eq=False, kw_only=True)
class JointMix(Refused):
    """A convolution over all electrodes and some time at once; on x, where that is all it reads, it is `conv`."""

    conv: Conv1d | None


@dataclass(eq=False, kw_only=True)
class DenseMix(Refused):
    """A spatial step in which every output reads several temporal filters; `dense_step` may merge them.

    Parameters
    ----------
    value : Affine
        The filters.
    taps : ndarray, (groups, outputs of one, filters of one, n_chans)
        Its weights.
    bias : ndarray, (outputs, n_out)
        Its own, and the filters' through it.
    """

    value: Affine
    taps: np.ndarray
    bias: np.ndarray
