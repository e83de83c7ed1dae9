"""Transposed convolutions, as convolutions of every phase of the stride.

With stride s and dilation d the taps that reach an output t are those with k d = t (mod s): of each residue they are every
(s / gcd)-th, and what they read lies d / gcd apart. So every s-th output is a plain convolution with some of the taps, and
nothing is multiplied that is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd

import numpy as np

from rtserve.native.flow import Operation
from rtserve.native.linear import around_input, convolve, emit_relu
from rtserve.native.view import View
from rtserve.native.writer import Padded, Writer, operator

__all__ = ["prepare_transposed"]


@dataclass(frozen=True, kw_only=True)
class _Phase:
    """Outputs of one residue along an axis.

    Parameters
    ----------
    first, n : int
        The first of them, and how many.
    taps : tuple of int
        Those that reach them, as the input goes up.
    start, dilation : int
        Where the first output begins to read, and how far its taps lie apart.
    """

    first: int
    n: int
    taps: tuple[int, ...]
    start: int
    dilation: int

    @property
    def last(self) -> int:
        """The last sample that is read."""
        return self.start + (len(self.taps) - 1) * self.dilation + self.n - 1


def _phases(kernel: int, stride: int, dilation: int, begin: int, n_out: int) -> list[_Phase]:
    """Return the phases of an axis from whose front `begin` outputs are cut off."""
    found = []
    for residue in range(stride):
        first = (residue - begin) % stride
        n = len(range(first, n_out, stride))
        taps = [k for k in range(kernel) if (k * dilation - residue) % stride == 0][::-1]
        if n:
            start = (first + begin - taps[0] * dilation) // stride if taps else 0
            found.append(
                _Phase(first=first, n=n, taps=tuple(taps), start=start, dilation=dilation // gcd(dilation, stride))
            )
    return found


def _axes(writer: Writer, operation: Operation) -> list[list[_Phase]]:
    """Return the phases of every axis."""
    attrs, shape = operation.attrs, writer.shape(operation.outputs[0])
    kernel = writer.flow.constants[operation.inputs[1]].shape[2:]
    ones = [1] * len(kernel)
    strides, dilations = attrs.get("strides") or ones, attrs.get("dilations") or ones
    pads = attrs.get("pads") or [0] * 2 * len(kernel)
    return [_phases(k, s, d, pads[a], shape[a + 2])
            for a, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True))]  # fmt: skip


def prepare_transposed(writer: Writer) -> None:
    """Say of every transposed convolution what padding it wants, before anything is written."""
    for operation in writer.flow.operations:
        if operation.op != "ConvTranspose" or writer.constant(operation.inputs[1]) is None:
            continue
        shape, pads = writer.shape(operation.inputs[0]), {}
        for axis, phases in enumerate(_axes(writer, operation), start=2):
            read = [phase for phase in phases if phase.taps]
            before = max((-phase.start for phase in read), default=0)
            behind = max((phase.last - shape[axis] + 1 for phase in read), default=0)
            pads[axis] = (max(before, 0), max(behind, 0))
        writer.convolutions[operation.outputs[0]] = Padded(fast=None, pads=pads)


@operator("ConvTranspose")
def conv_transpose(writer: Writer, operation: Operation) -> None:
    """A transposed convolution over one to three axes, in groups, strided, dilated."""
    weight = writer.constant(operation.inputs[1])
    bias = writer.constant(operation.inputs[2]) if operation.has(2) else None
    if weight is None or (operation.has(2) and bias is None):
        raise operation.refuse("with weights computed from the window")
    group = operation.attrs.get("group", 1)
    n_in, n_out, *kernel = weight.shape
    if len(kernel) > 3:
        raise operation.refuse(f"over {len(kernel)} axes")
    turned = weight.reshape(group, n_in // group, n_out, *kernel).swapaxes(1, 2)
    turned = turned.reshape(group * n_out, n_in // group, *kernel)
    name, relu = emit_relu(writer, operation.outputs[0])
    plan, rank = writer.convolutions[operation.outputs[0]], weight.ndim
    target = writer.padded(writer.shape(name), [0, *range(2, rank), 1], writer.wanted_zeros(name, rank))
    x = around_input(writer, operation.inputs[0], plan)
    for phases in product(*_axes(writer, operation)):
        part, rows, taps = target, x, turned
        for axis, phase in enumerate(phases, start=2):
            part = part.cut(axis, phase.first, phase.n, (phases_step(operation, axis)))
            rows = rows.cut(axis, plan.pads[axis][0] + phase.start, x.shape[axis])
            taps = np.take(taps, phase.taps, axis=axis)
        if taps.size:
            places = [(1, phase.dilation) for phase in phases]
            convolve(writer, rows, taps, bias, part, places, group, relu)
        else:
            _only_bias(writer, part, bias, relu)
    writer.views[name] = target


def phases_step(operation: Operation, axis: int) -> int:
    """Return the stride along an axis of the value."""
    strides: Sequence[int] = operation.attrs.get("strides") or ()
    return strides[axis - 2] if strides else 1


def _only_bias(writer: Writer, target: View, bias: np.ndarray | None, relu: bool) -> None:
    """Write outputs that no tap reaches."""
    if bias is None:
        writer.fill(target)
        return
    column = writer.weight((np.maximum(bias, 0) if relu else bias).reshape(1, -1, *(1,) * (len(target.shape) - 2)))
    writer.nest([target, column.spread(target.shape)], lambda e: f"{e[0]} = {e[1]}")
