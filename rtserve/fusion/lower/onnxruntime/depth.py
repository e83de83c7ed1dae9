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
from rtserve.fusion.ir.conv import Conv1d, any_conv_of
from rtserve.fusion.ir.nodes import attributes_of, chain_of, only_reader, stepped
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
    """A convolution along time of few channels, on (batch, channels, a, b), time on either, and what it goes through.

    Behind its elementwise steps comes the spatial convolution, or a pool, which the engine does faster on whole blocks of
    channels, or neither.
    """

    conv: Conv1d
    steps: list[ir.Node]
    end: Conv1d | None
    pooled: bool

    def frames(self, s: int) -> int:
        """Return how many outputs a phase has."""
        return -(-self.conv.n_out // s)

    def span(self, s: int) -> int:
        """Return how many samples of every phase an output reads."""
        return -(-(self.conv.taps + s - 1) // s)


def run(model: ir.Model) -> PassResult:
    """Rewrite every temporal convolution of few channels that pays, in place."""
    return each(model, _one, "{} convolutions in phases")


def _one(model: ir.Model, node: ir.Node) -> int:
    weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
    if (
        weight is None
        or weight.ndim != 4
        or weight.shape[1] > MOST_CHANNELS
        or weight.shape[0] == node.attributes.get_int("group", 1)
    ):
        return 0
    conv = Conv1d.of(node)
    if conv.taps < SHORTEST:
        raise Refused(f"a kernel of {conv.taps}")
    if conv.stride != 1 or conv.dilation != 1:
        raise Refused("it strides or dilates")
    chain = chain_of(node)
    reader = only_reader(chain[-1].outputs[0])
    end, pooled = any_conv_of(reader), reader is not None and reader.op_type in ("AveragePool", "MaxPool")
    end = end if end is not None and (end.axis != conv.axis or end.by_sample) else None
    groups = _by_group(_Found(conv=conv, steps=chain[1:], end=end, pooled=pooled))
    s = _phases(groups[0])
    if s == 1:
        raise Refused(f"{len(conv.weight)} filters are as fast as they are")
    last = end.node if end is not None else chain[-1]
    emit = Emitter(model.graph, before=last, prefix="depth")
    read = emit.many("Split", conv.x, n=conv.group, axis=1, num_outputs=conv.group) if conv.group > 1 else [conv.x]
    parts = [_written(emit, replace(one, conv=replace(one.conv, x=x)), s) for one, x in zip(groups, read, strict=True)]
    supersede(model, last.outputs[0], emit("Concat", *parts, axis=1) if len(parts) > 1 else parts[0])
    return 1


def _by_group(found: _Found) -> list[_Found]:
    """Return each group by itself: members that read something of their own are groups of one convolution.

    Raises
    ------
    Refused
        Where they meet in a step or behind.
    """
    conv, end, n = found.conv, found.end, found.conv.group
    if n == 1:
        return [found]
    if any(len(step.inputs) > 1 for step in found.steps) or (end is not None and end.group % n):
        raise Refused("its groups meet")
    ends = [None] * n if end is None else _alone(end, n)
    return [replace(found, conv=one, end=behind) for one, behind in zip(_alone(conv, n), ends, strict=True)]


def _alone(conv: Conv1d, n: int) -> list[Conv1d]:
    """Return a convolution as n of a part of its groups each."""
    biases = [None] * n if conv.bias is None else np.split(conv.bias, n)
    parts = zip(np.split(conv.weight, n), biases, strict=True)
    return [replace(conv, weight=weight, bias=bias, group=conv.group // n) for weight, bias in parts]


def _phases(found: _Found) -> int:
    """Return the number of phases that the estimate prefers; 1 where the convolution should stay."""
    read = found.conv.channels
    candidates = [s for s in PHASES if read * s < BLOCK or read * s % 4 == 0]  # what the engine's blocks can read
    best = min(candidates, key=lambda s: _estimate(found, s), default=1)
    return best if WORTH * _estimate(found, best) < _estimate(found, 1) else 1


def _estimate(found: _Found, s: int) -> float:
    """Return microseconds from the input to where all outputs are in turn, pooled if a pool follows."""
    conv, filters = found.conv, len(found.conv.weight)
    elements = filters * conv.rows * conv.n_out
    if s == 1:
        macs = whole(filters) * conv.weight[0].size * conv.rows * conv.n_out
        blocked = all(step.op_type in FUSED for step in found.steps)
        pool_us = (COSTS.block_pooled_us if blocked else COSTS.pooled_us) * elements * found.pooled
        return float(macs / COSTS.macs_per_us + pool_us)
    read = conv.channels * s if conv.channels * s < BLOCK else whole(conv.channels * s)
    macs = whole(filters * s) * read * found.span(s) * conv.rows * found.frames(s)
    us: float = macs / COSTS.macs_per_us + 7 * COSTS.node_us + conv.channels * conv.rows * conv.n_in * COSTS.apart_us
    if found.end is not None:  # what is put in turn behind a spatial convolution is small
        return us
    return us + elements * (COSTS.in_turn_us + COSTS.pooled_us * found.pooled)


def _written(emit: Emitter, found: _Found, s: int) -> ir.Value:
    """Write it in s phases, all that it goes through too, and return what that gives, in turn."""
    conv, end = found.conv, found.end
    y = stepped(emit, found.steps, _convolved(emit, found, s))
    channels, rows = len(conv.weight), conv.rows
    if end is not None:  # on every phase by itself, in s times the groups
        weight = end.weight.reshape(*end.weight.shape[:2], *constant(end.node.inputs[1]).shape[2:])  # type: ignore[union-attr]
        bias = [] if end.bias is None else [np.tile(end.bias, s)]
        attributes = attributes_of(end.node) | {"group": s * end.group}
        y = emit("Conv", y, np.tile(weight, (s, 1, 1, 1)), *bias, **attributes)
        channels, rows = len(end.weight), end.rows if end.axis == conv.axis else end.n_out
    frames = found.frames(s)
    y = _moved(emit, y, [-1, s, channels, *conv.shaped(frames, rows)], 1, conv.axis + 1)
    y = emit("Reshape", y, [-1, channels, *conv.shaped(frames * s, rows)])
    return y if frames * s == conv.n_out else emit.slice(y, conv.axis, 0, conv.n_out)


def _moved(emit: Emitter, y: ir.Value, dims: list[int], axis: int, to: int) -> ir.Value:
    """Return a value reshaped, and then with one axis moved."""
    perm = [*range(len(dims))]
    perm.insert(to, perm.pop(axis))
    return emit("Transpose", emit("Reshape", y, dims), perm=perm)


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
    several = [conv.channels] * (conv.channels > 1)
    apart = [conv.rows, frames, s] if conv.axis == 3 else [frames, s, conv.rows]
    x = _moved(emit, x, [-1, *several, *apart], len(several) + conv.axis, len(several) + 1)
    return emit("Reshape", x, [-1, conv.channels * s, *conv.shaped(frames, conv.rows)]) if several else x


def _phase_kernel(weight: np.ndarray, s: int, span: int) -> np.ndarray:
    """Return (s filters, channels s, span): output phase p reads input phase q at frame k' with tap s k' + q - p."""
    filters, channels, taps = weight.shape
    padded = np.pad(weight, ((0, 0), (0, 0), (s - 1, s * span - taps)))
    rows = np.lib.stride_tricks.sliding_window_view(padded, s * span, axis=2)[:, :, ::-1]  # (f, c, p, s k' + q)
    apart = rows.reshape(filters, channels, s, span, s).transpose(2, 0, 1, 4, 3)
    return apart.reshape(s * filters, channels * s, span)
