r"""Space to depth for a temporal convolution of few channels.

The engine computes sixteen output channels at a time; a convolution over one electrode's samples has eight filters, or
nine. Split time into s phases, :math:`t = s t' + p`: the phases are s C input channels, the outputs s F output channels,
and

.. math:: y[p F + f, t'] = \sum_{c, q, k'} w[f, c, s k' + q - p]\, x[c, s (t' + k') + q - l],

a convolution of :math:`\lceil (K + s - 1) / s \rceil` taps. The multiply-adds grow by (K + s - 1) / K, and the channels
are full.

The outputs are put in turn again as late as possible: an elementwise step acts on phases as they are, and a convolution
that does not reach along time (the spatial one) does the same to each phase, in s groups. Where it does not follow, they
are put in turn at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK, COSTS, FUSED, whole
from rtserve.fusion.ir.conv import Conv1d
from rtserve.fusion.ir.nodes import attributes_of, auto_padded, followers, geometry_of, only_reader, stepped
from rtserve.fusion.ir.passes import PassResult, Refused, each
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]

PHASES = (2, 4, 8)
"""How many phases are weighed."""
MOST_CHANNELS = 8
SHORTEST = 8
WORTH = 1.1
"""How many times faster the estimate must be, all nodes up to the end counted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """A convolution along time of few channels, and what its outputs go through.

    Parameters
    ----------
    conv : Conv1d
        The convolution on (batch, channels, a, b), time on either.
    steps : tuple of Node
        Elementwise nodes behind it, in order.
    end : Node or None
        The spatial convolution behind those.
    pooled : bool
        Whether a pool is behind those instead, which the engine does faster on whole blocks of channels.
    """

    conv: Conv1d
    steps: tuple[ir.Node, ...]
    end: ir.Node | None
    pooled: bool

    @property
    def filters(self) -> int:
        return len(self.conv.weight)

    def frames(self, s: int) -> int:
        return -(-self.conv.n_out // s)

    def span(self, s: int) -> int:
        return -(-(self.conv.taps + s - 1) // s)


def run(model: ir.Model) -> PassResult:
    """Rewrite every temporal convolution of few channels that pays, in place."""
    return each(model, _one, "{} convolutions in phases")


def _one(model: ir.Model, node: ir.Node) -> int:
    found = _match(node) if node.op_type == "Conv" else None
    if found is None:
        return 0
    s = _phases(found)
    if s == 1:
        raise Refused(f"{found.filters} filters are as fast as they are")
    _rewrite(model, found, s)
    return 1


def _match(node: ir.Node) -> _Found | None:
    """Return what a convolution is; None where it is of another kind.

    Raises
    ------
    Refused
        Where it cannot be rewritten.
    """
    weight, group = constant(node.inputs[1]), node.attributes.get_int("group", 1)
    if weight is None or weight.ndim != 4 or weight.shape[1] > MOST_CHANNELS or group != 1:
        return None
    conv = Conv1d.of(node)
    if conv.taps < SHORTEST:
        raise Refused(f"a kernel of {conv.taps}")
    if conv.stride != 1 or conv.dilation != 1:
        raise Refused("it strides or dilates")
    steps = tuple(followers(node.outputs[0]))
    last = (node, *steps)[-1].outputs[0]
    reader = only_reader(last)
    end = reader if reader is not None and _takes_phases(reader, last, conv.axis) else None
    pooled = reader is not None and reader.op_type in ("AveragePool", "MaxPool")
    return _Found(conv=conv, steps=steps, end=end, pooled=pooled)


def _takes_phases(node: ir.Node, value: ir.Value, axis: int) -> bool:
    """Whether a node is a convolution that does not reach along time."""
    weight = constant(node.inputs[1]) if node.op_type == "Conv" and node.inputs[0] is value else None
    if weight is None or any(constant(v) is None for v in node.inputs[2:]) or node.outputs[0].shape is None:
        return False
    time, (strides, _, pads) = axis - 2, geometry_of(node, 2)
    padded = pads[time] or pads[time + 2] or auto_padded(node)
    return bool(weight.shape[2 + time] == 1 and strides[time] == 1 and not padded)


def _phases(found: _Found) -> int:
    """Return the number of phases that the estimate prefers; 1 where the convolution should stay."""
    read = found.conv.channels
    candidates = [s for s in PHASES if read * s < BLOCK or read * s % 4 == 0]  # what the engine's blocks can read
    if not candidates:
        return 1
    best = min(candidates, key=lambda s: _estimate(found, s))
    return best if WORTH * _estimate(found, best) < _estimate(found, 1) else 1


def _estimate(found: _Found, s: int) -> float:
    """Return microseconds from the input to where all outputs are in turn, pooled if a pool follows."""
    conv = found.conv
    elements = found.filters * conv.rows * conv.n_out
    if s == 1:
        macs = whole(found.filters) * conv.weight[0].size * conv.rows * conv.n_out
        blocked = all(step.op_type in FUSED for step in found.steps)
        pool_us = (COSTS.block_pooled_us if blocked else COSTS.pooled_us) * elements * found.pooled
        return float(macs / COSTS.macs_per_us + pool_us)
    read = conv.channels * s if conv.channels * s < BLOCK else whole(conv.channels * s)
    macs = whole(found.filters * s) * read * found.span(s) * conv.rows * found.frames(s)
    us: float = macs / COSTS.macs_per_us + 7 * COSTS.node_us + conv.channels * conv.rows * conv.n_in * COSTS.apart_us
    if found.end is not None:  # what is put in turn behind a spatial convolution is small
        return us
    return us + elements * (COSTS.in_turn_us + COSTS.pooled_us * found.pooled)


def _rewrite(model: ir.Model, found: _Found, s: int) -> None:
    last = found.end if found.end is not None else (found.conv.node, *found.steps)[-1]
    emit = Emitter(model.graph, before=last, prefix="depth")
    y = stepped(emit, found.steps, _convolved(emit, found, s))
    if found.end is None:
        y = _in_turn(emit, found, s, y, found.filters, found.conv.rows)
    else:
        y = _spatial(emit, found, found.end, s, y)
    supersede(model, last.outputs[0], y)


def _convolved(emit: Emitter, found: _Found, s: int) -> ir.Value:
    """Return the outputs in phases, (batch, s F, ...), phases in front."""
    conv, span = found.conv, found.span(s)
    total = s * (found.frames(s) + span - 1)
    right = total - conv.n_in - conv.left
    x = conv.x
    if right < 0:
        x, right = emit.slice(x, conv.axis, 0, conv.n_in + right), 0
    if conv.left or right:
        x = emit("Pad", x, [0, 0, *conv.shaped(conv.left, 0), 0, 0, *conv.shaped(right, 0)])
    x = _apart(emit, conv, s, x, total // s)
    bias = None if conv.bias is None else np.tile(conv.bias, s)
    kernel = _phase_kernel(conv.weight, s, span)
    return replace(conv, weight=kernel, bias=bias, n_in=total // s, left=0, right=0).emit(emit, x)


def _apart(emit: Emitter, conv: Conv1d, s: int, x: ir.Value, frames: int) -> ir.Value:
    """Return (batch, channels s, ...) of (batch, channels, ...): sample s i + q of channel c is channel c s + q at i."""
    c, rows = conv.channels, conv.rows
    if c == 1:
        if conv.axis == 3:
            return emit("Transpose", emit("Reshape", x, [-1, rows, frames, s]), perm=[0, 3, 1, 2])
        return emit("Transpose", emit("Reshape", x, [-1, frames, s, rows]), perm=[0, 2, 1, 3])
    if conv.axis == 3:
        x = emit("Transpose", emit("Reshape", x, [-1, c, rows, frames, s]), perm=[0, 1, 4, 2, 3])
    else:
        x = emit("Transpose", emit("Reshape", x, [-1, c, frames, s, rows]), perm=[0, 1, 3, 2, 4])
    return emit("Reshape", x, [-1, c * s, *conv.shaped(frames, rows)])


def _phase_kernel(weight: np.ndarray, s: int, span: int) -> np.ndarray:
    """Return (s filters, channels s, span): output phase p reads input phase q at frame k' with tap s k' + q - p."""
    filters, channels, taps = weight.shape
    tap = s * np.arange(span)[None, None] + np.arange(s)[None, :, None] - np.arange(s)[:, None, None]  # (p, q, k')
    inside = (tap >= 0) & (tap < taps)
    kernel = np.where(inside, weight[:, :, np.clip(tap, 0, taps - 1)], 0.0)  # (f, c, p, q, k')
    return kernel.transpose(2, 0, 1, 3, 4).reshape(s * filters, channels * s, span)


def _in_turn(emit: Emitter, found: _Found, s: int, y: ir.Value, channels: int, rows: int) -> ir.Value:
    """Return (batch, channels, ...) with time in turn, of (batch, s channels, ...) in phases."""
    conv, frames = found.conv, found.frames(s)
    apart = emit("Reshape", y, [-1, s, channels, *conv.shaped(frames, rows)])
    turned = emit("Transpose", apart, perm=[0, 2, 3, 4, 1] if conv.axis == 3 else [0, 2, 3, 1, 4])
    y = emit("Reshape", turned, [-1, channels, *conv.shaped(frames * s, rows)])
    return y if frames * s == conv.n_out else emit.slice(y, conv.axis, 0, conv.n_out)


def _spatial(emit: Emitter, found: _Found, end: ir.Node, s: int, y: ir.Value) -> ir.Value:
    """Do the spatial convolution on every phase by itself, in s times the groups."""
    weight = constant(end.inputs[1])
    assert weight is not None
    extra = [np.tile(array, s) for array in map(constant, end.inputs[2:]) if array is not None]
    attributes = attributes_of(end) | {"group": s * (end.attributes.get_int("group", 1) or 1)}
    y = emit("Conv", y, np.tile(weight, (s, 1, 1, 1)), *extra, **attributes)
    rows = int(end.outputs[0].shape[5 - found.conv.axis])  # type: ignore[index,arg-type]
    return _in_turn(emit, found, s, y, len(weight), rows)
