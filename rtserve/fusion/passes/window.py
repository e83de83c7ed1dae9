r"""The first convolution on the window as one plane.

The engine's blocked convolution takes a multiple of four channels and wants them put in blocks first; 129 electrodes are
split into 128 and 1, copied, put in blocks, convolved and added. Its convolution of one channel takes the input as it is:

.. math:: y[o, t] = \sum_{c, k} w[o, c, k]\, x[c, s t + k - l]

is a convolution of one channel whose kernel is as high as there are electrodes, (outputs, 1, channels, taps). The
multiply-adds and their rate are the same; the copies are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.passes.outcome import PassResult
from rtserve.fusion.passes.uses import axes_of
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "SAVED_US", "run", "split_of"]

NAME = "whole-window"
SAVED_US = 9.0
"""What it saves on a window of 129 x 200, as measured; what needs the channels in blocks must save more."""
BLOCK = 16


def run(model: ir.Model) -> PassResult:
    """Rewrite every convolution of the input that was split by channels, in place."""
    changed = 0
    for node in list(model.graph):
        if node.op_type != "Add":
            continue
        parts = sorted((part for part in map(_part, node.inputs) if part is not None), key=lambda part: part[0])
        if len(parts) != 2 or not _one_after_the_other(parts):
            continue
        _rewrite(model, node, [conv for _, conv in parts])
        changed += 1
    return PassResult(
        changed=changed, notes=(f"{changed} convolutions" if changed else "nothing was split by channels",)
    )


def _part(value: ir.Value | None) -> tuple[int, ir.Node] | None:
    """Return the first channel of the input that a convolution reads, and the convolution; None for another value."""
    conv = value.producer() if value is not None else None
    if conv is None or conv.op_type != "Conv" or len(conv.outputs[0].uses()) != 1:
        return None
    weight = constant(conv.inputs[1])
    if weight is None or weight.ndim != 4 or weight.shape[2] != 1 or conv.attributes.get_int("group", 1) != 1:
        return None
    split = split_of(conv)
    if split is None:
        return None
    sizes = constant(split.inputs[1]) if len(split.inputs) > 1 else None
    if sizes is None or split.inputs[0] is None or not split.inputs[0].is_graph_input():
        return None
    return int(np.sum(sizes[: _place(split, conv)])), conv


def split_of(conv: ir.Node) -> ir.Node | None:
    """Return the Split along channels whose part, as (batch, channels, 1, time), a convolution reads."""
    up = conv.inputs[0].producer() if conv.inputs[0] is not None else None
    if up is None or up.op_type != "Unsqueeze" or up.inputs[0] is None:
        return None
    split = up.inputs[0].producer()
    if axes_of(up) != (2,) or split is None or split.op_type != "Split":
        return None
    return split if split.attributes.get_int("axis", 0) == 1 else None


def _place(split: ir.Node, conv: ir.Node) -> int:
    up = conv.inputs[0].producer() if conv.inputs[0] is not None else None
    part = up.inputs[0] if up is not None else None
    return next(index for index, out in enumerate(split.outputs) if out is part)


def _one_after_the_other(parts: list[tuple[int, ir.Node]]) -> bool:
    """Whether two convolutions of one geometry read the first channels and all the others, with one bias at most."""
    (start, first), (middle, second) = parts
    split, other = split_of(first), split_of(second)
    if start or other is not split or _geometry(first) != _geometry(second):
        return False
    weights = [constant(first.inputs[1]), constant(second.inputs[1])]
    counts = [weight.shape[1] for weight in weights if weight is not None]
    window = split.inputs[0] if split is not None else None
    whole = window is not None and window.shape is not None and window.shape[1] == sum(counts)
    alike = len({(weight.shape[0], weight.shape[3]) for weight in weights if weight is not None}) == 1
    return bool(whole and alike and middle == counts[0] and len(first.inputs) + len(second.inputs) < 6)


def _geometry(conv: ir.Node) -> list[tuple[int, ...]]:
    names = (("strides", (1, 1)), ("dilations", (1, 1)), ("pads", (0, 0, 0, 0)))
    return [tuple(conv.attributes.get_ints(name) or default) for name, default in names]


def _rewrite(model: ir.Model, node: ir.Node, convs: list[ir.Node]) -> None:
    emit = Emitter(model.graph, before=node, prefix="window")
    weight = np.concatenate([constant(conv.inputs[1]) for conv in convs], axis=1)  # type: ignore[misc]
    bias = [v for conv in convs for v in conv.inputs[2:]]
    split = split_of(convs[0])
    assert split is not None
    plane = emit("Unsqueeze", split.inputs[0], [1])
    strides, dilations, pads = _geometry(convs[0])
    y = emit("Conv", plane, np.ascontiguousarray(weight.transpose(0, 2, 1, 3)), *bias, strides=list(strides),
             dilations=list(dilations), pads=list(pads), group=1)  # fmt: skip
    y.shape, y.type = node.outputs[0].shape, node.outputs[0].type
    supersede(model, node.outputs[0], y)
