r"""The first convolution on the window as one plane.

The engine's blocked convolution takes a multiple of four channels and wants them put in blocks first; 129 electrodes are
split into 128 and 1, copied, put in blocks, convolved and added. Its convolution of one channel takes the input as it is:

.. math:: y[o, t] = \sum_{c, k} w[o, c, k]\, x[c, s t + k - l]

is a convolution of one channel whose kernel is as high as there are electrodes, (outputs, 1, channels, taps). The
multiply-adds and their rate are the same; the copies are gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.ir.conv import Conv1d, conv_of
from rtserve.fusion.ir.nodes import axes_of, private_producer, producer
from rtserve.fusion.passes.outcome import PassResult, each
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "run", "split_of"]

NAME = "whole-window"


def run(model: ir.Model) -> PassResult:
    """Rewrite every convolution of the input that was split by channels, in place."""
    return each(model, _one, "{} convolutions")


def _one(model: ir.Model, node: ir.Node) -> int:
    parts = [part for part in map(_part, node.inputs) if part is not None] if node.op_type == "Add" else []
    parts.sort(key=lambda part: part.start)
    if len(parts) != 2 or not _one_after_the_other(*parts):
        return 0
    _rewrite(model, node, parts)
    return 1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A convolution that reads channels of the window `x` from `start` on."""

    conv: Conv1d
    x: ir.Value
    start: int


def _part(value: ir.Value | None) -> _Part | None:
    """Return the convolution that computes a value from some channels of the graph's input; None for another value."""
    conv = conv_of(private_producer(value))
    split = split_of(conv.node) if conv is not None else None
    sizes = constant(split.inputs[1]) if split is not None and len(split.inputs) > 1 else None
    x = split.inputs[0] if split is not None else None
    if conv is None or conv.group != 1 or split is None or sizes is None or x is None or not x.is_graph_input():
        return None
    place = split.outputs.index(conv.node.inputs[0].producer().inputs[0])
    return _Part(conv=conv, x=x, start=int(sizes[:place].sum()))


def split_of(conv: ir.Node) -> ir.Node | None:
    """Return the Split along channels whose part, as (batch, channels, 1, time), a convolution reads."""
    up = producer(conv.inputs[0])
    split = producer(up.inputs[0]) if up is not None and up.op_type == "Unsqueeze" else None
    if up is None or axes_of(up) != (2,) or split is None or split.op_type != "Split":
        return None
    return split if split.attributes.get_int("axis", 0) == 1 else None


def _one_after_the_other(first: _Part, second: _Part) -> bool:
    """Whether two convolutions of one geometry read the first channels and all the others, with one bias at most."""
    one, other = first.conv, second.conv
    if first.x is not second.x or first.start or one.attributes != other.attributes:
        return False
    whole = first.x.shape is not None and first.x.shape[1] == one.channels + other.channels
    alike = one.weight.shape[::2] == other.weight.shape[::2] and (one.bias is None or other.bias is None)
    return bool(whole and alike and second.start == one.channels)


def _rewrite(model: ir.Model, node: ir.Node, parts: list[_Part]) -> None:
    emit = Emitter(model.graph, before=node, prefix="window")
    weight = np.concatenate([part.conv.weight for part in parts], axis=1)
    bias = [v for part in parts for v in part.conv.node.inputs[2:]]
    plane = emit("Unsqueeze", parts[0].x, [1])
    supersede(model, node.outputs[0], emit("Conv", plane, weight[:, None], *bias, **parts[0].conv.attributes))
