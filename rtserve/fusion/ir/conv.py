r"""A convolution along time, whatever node it stands in.

.. math:: y[o, i] = b[o] + \sum_{c, k} w[o, c, k]\, x[c, s i + d k - l],

x extended by zeros. It is read from a node, changed as a value, and written as one again; the passes say which taps it
has and where it begins, never how a node says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.ir.nodes import auto_padded, geometry_of, inner_dims
from rtserve.fusion.ir.passes import Refused
from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.emit import Emitter

__all__ = ["ZERO", "Conv1d", "any_conv_of", "conv_of"]

ZERO = -1
"""In place of a sample or a row: the zeros of the padding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv1d:
    """A convolution along one axis of (batch, channels, ...), the same on every row of the other one.

    Parameters
    ----------
    weight : ndarray, (outputs, channels / group, taps)
        Its kernel.
    bias : ndarray or None, (outputs,)
        Its bias.
    stride, dilation, left, right, group : int
        Along time; negative padding cuts samples off.
    n_in : int
        Samples of what it reads.
    rows : int
        Length of the other axis; 0 where there is none, (batch, channels, time).
    axis : int
        Time's.
    node : Node or None
        Where it stands.
    x : Value or None
        What it reads.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    stride: int = 1
    dilation: int = 1
    left: int = 0
    right: int = 0
    group: int = 1
    n_in: int
    rows: int = 1
    axis: int = 3
    node: Any = None
    x: Any = None

    @classmethod
    def of(cls, node: ir.Node) -> Conv1d:
        """Return a Conv node's convolution.

        Raises
        ------
        Refused
            Where it is not one along time, or not in float32 with weights that are there.
        """
        weight, dims = constant(node.inputs[1]), inner_dims(node.inputs[0])
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if weight is None or weight.dtype != np.float32:
            raise Refused("its weights are computed, or not in float32")
        if dims is None or inner_dims(node.outputs[0]) is None:
            raise Refused("its shape is not known")
        rank = weight.ndim - 2
        if rank not in (1, 2) or (rank == 2 and 1 not in weight.shape[2:]):
            raise Refused(f"a kernel of {weight.shape[2:]}")
        if auto_padded(node):
            raise Refused("its padding is left to the engine")
        if bias is None and len(node.inputs) > 2 and node.inputs[2] is not None:
            raise Refused("its bias is computed")
        time = 1 if rank == 2 and weight.shape[2] == 1 else 0
        (strides, dilations, pads), other = geometry_of(node, rank), 1 - time
        if rank == 2 and (strides[other] != 1 or pads[other] or pads[2 + other]):
            raise Refused("it strides or pads along another axis")
        return cls(
            weight=weight.reshape(*weight.shape[:2], -1),
            bias=bias,
            stride=strides[time],
            dilation=dilations[time],
            left=pads[time],
            right=pads[rank + time],
            group=node.attributes.get_int("group", 1) or 1,
            n_in=dims[1 + time],
            rows=dims[1 + other] if rank == 2 else 0,
            axis=2 + time,
            node=node,
            x=node.inputs[0],
        )

    @property
    def taps(self) -> int:
        """Length of the kernel."""
        return int(self.weight.shape[2])

    @property
    def span(self) -> int:
        """Samples from the first that an output reads to the last."""
        return self.dilation * (self.taps - 1) + 1

    @property
    def n_out(self) -> int:
        """Samples of what it makes."""
        return (self.n_in + self.left + self.right - self.span) // self.stride + 1

    @property
    def channels(self) -> int:
        """Channels that it reads."""
        return int(self.weight.shape[1]) * self.group

    @property
    def by_sample(self) -> bool:
        """Whether it acts on every sample by itself."""
        return (self.taps, self.stride, self.left, self.n_in) == (1, 1, 0, self.n_out)

    @property
    def attributes(self) -> dict[str, Any]:
        """How a node says it, without what is a node's default."""
        found: dict[str, Any] = {"group": self.group} if self.group != 1 else {}
        for name, value in (("strides", self.stride), ("dilations", self.dilation)):
            found |= {name: self.shaped(value)} if value != 1 else {}
        if self.left > 0 or self.right > 0:
            found["pads"] = [*self.shaped(max(self.left, 0), 0), *self.shaped(max(self.right, 0), 0)]
        return found

    def shaped(self, time: int, rows: int = 1) -> list[int]:
        """Return one number for each axis behind the channels."""
        if not self.rows:
            return [time]
        return [rows, time] if self.axis == 3 else [time, rows]

    def emit(self, emit: Emitter, x: ir.Value | None = None) -> ir.Value:
        """Write it on a value, (batch, channels, ...), what it reads where none is given; return its outputs."""
        x = self.x if x is None else x
        if x is not None and (self.left < 0 or self.right < 0):
            x = emit.slice(x, self.axis, max(-self.left, 0), self.n_in + min(self.right, 0))
        kernel = self.weight.reshape(*self.weight.shape[:2], *self.shaped(self.taps)).astype(np.float32)
        bias = [] if self.bias is None else [self.bias.astype(np.float32)]
        return emit("Conv", x, kernel, *bias, **self.attributes)

    def reads(self, signal: np.ndarray) -> np.ndarray:
        """Return what every output reads, (..., n_out, taps), of a signal of numbers (..., n_in); `ZERO` for padding."""
        at = self.stride * np.arange(self.n_out)[:, None] + self.dilation * np.arange(self.taps) - self.left
        return np.where((at >= 0) & (at < self.n_in), signal[..., np.clip(at, 0, self.n_in - 1)], ZERO)

    def from_sample(self, start: int, n: int) -> Conv1d:
        """Return the convolution of the same kernel whose n outputs read from sample `start` on.

        A node can begin no later than at the first sample, and ends only where no further output fits: taps of zero in
        front and behind see to both.
        """
        front = max(-(-start // self.dilation), 0)
        start -= front * self.dilation
        over = (self.n_in - start - 1 - self.stride * n) // self.dilation
        behind = max(over + 2 - self.taps - front, 0)
        weight = np.pad(self.weight, ((0, 0), (0, 0), (front, behind)))
        reach = start + self.stride * (n - 1) + self.dilation * (weight.shape[2] - 1) + 1
        return replace(self, weight=weight, left=-start, right=max(reach - self.n_in, 0))

    def phases(self, m: int) -> list[tuple[int, int, np.ndarray]]:
        """Return how it reads its input in m phases, m a divisor of the stride, the dilation 1 or m.

        For every phase that it reads: which, the sample of it that the first output reads first, and the taps on
        neighbouring samples of it.
        """
        at = self.dilation * np.arange(self.taps) - self.left
        reads = [(p, np.flatnonzero(at % m == p)) for p in range(m)]
        return [(p, int(at[taps[0]] // m), self.weight[..., taps]) for p, taps in reads if len(taps)]


def any_conv_of(node: ir.Node | None) -> Conv1d | None:
    """Return the convolution along time that a node is; None for another node."""
    try:
        return Conv1d.of(node) if node is not None and node.op_type == "Conv" else None
    except Refused:
        return None


def conv_of(node: ir.Node | None) -> Conv1d | None:
    """Return the convolution along the last of four axes that a node is; None for another node."""
    found = any_conv_of(node)
    return found if found is not None and found.rows and found.axis == 3 else None
