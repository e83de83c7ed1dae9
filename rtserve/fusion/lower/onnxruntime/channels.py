r"""Convolutions whose input channels fill no blocks, as ones that fill them; those of the window, as one plane.

The engine's blocked convolution takes a multiple of four channels. One or two beyond a multiple of sixteen are split off,
:math:`w * x = w_{:128} * x_{:128} + w_{128:} * x_{128:}`, one blocked convolution and a small rest, which costs less than
filling up with zeros; more are filled up.

The window would be split, copied, put in blocks, convolved and added. The engine's convolution of one channel takes its
input as it is, and :math:`y[o, t] = \sum_{c, k} w[o, c, k]\, x[c, s t + k - l]` is one of a kernel as high as there are
electrodes, (outputs, 1, channels, taps). The multiply-adds and their rate are the same; the copies are gone.

Until then a convolution is whole. Other rewrites weigh its part `on_blocks`, and are done on its `parts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK
from rtserve.fusion.ir.conv import Conv1d, conv_of
from rtserve.fusion.ir.nodes import attributes_of, axes_of, producer
from rtserve.fusion.ir.passes import PassResult, each
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["on_blocks", "parts", "plane", "run", "run_on_window", "splits_window", "summed", "window_of"]

FEWEST_OUTPUTS = 4
"""The blocked kernels compute 16 outputs at a time: for fewer than this the zeros cost more than the layout saves."""
MAX_REST = 2
"""Channels beyond a multiple of 16 that are split off rather than filled up."""


def run(model: ir.Model) -> PassResult:
    """Split every convolution by its channels, or fill them up, in place."""
    return each(model, _one, "{} convolutions on whole blocks of channels")


def run_on_window(model: ir.Model) -> PassResult:
    """Rewrite every convolution of the window whose channels would be split as one of a plane, in place."""
    return each(model, partial(plane, wanted=splits_window), "{} convolutions")


def on_blocks(conv: Conv1d) -> Conv1d:
    """Return the part of a convolution that is computed in blocks; itself where it fills them."""
    return replace(conv, weight=_weights(conv.weight)[0]) if conv.rows and conv.group == 1 else conv


def parts(emit: Emitter, conv: Conv1d) -> list[Conv1d]:
    """Return the convolutions that one is the sum of, each with what it reads, that `on_blocks` first."""
    if not conv.rows or conv.group != 1:
        return [conv]
    main, *rest = (replace(conv, x=x, weight=weight) for x, weight in _cut(emit, conv.x, conv.weight))
    return [main, *(replace(part, bias=None) for part in rest)]


def summed(emit: Emitter, conv: Conv1d, way: Callable[[Conv1d], ir.Value]) -> ir.Value:
    """Return the sum of a convolution's `parts`, the first computed in a way of its own."""
    main, *rest = parts(emit, conv)
    y = way(main)
    for part in rest:
        y = emit("Add", y, part.emit(emit))
    return y


def splits_window(conv: Conv1d) -> bool:
    """Whether a convolution would split the channels of the window."""
    return len(_weights(conv.weight)) > 1 and conv.group == 1 and window_of(conv.x) is not None


def plane(model: ir.Model, node: ir.Node, wanted: Callable[[Conv1d], bool]) -> int:
    """Rewrite a convolution of the window as one of a plane where that is wanted; return how many were."""
    conv = conv_of(node)
    if conv is None or window_of(conv.x) is None or not wanted(conv):
        return 0
    emit = Emitter(model.graph, before=node, prefix="window")
    x = emit("Unsqueeze", model.graph.inputs[0], [1])
    supersede(model, node.outputs[0], emit("Conv", x, conv.weight[:, None], *node.inputs[2:], **conv.attributes))
    return 1


def _one(model: ir.Model, node: ir.Node) -> int:
    weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
    if weight is None or weight.ndim != 4 or node.attributes.get_int("group", 1) != 1:
        return 0
    if _weights(weight)[0] is weight:
        return 0
    emit = Emitter(model.graph, before=node, prefix="channels")
    attributes, bias, y = attributes_of(node), node.inputs[2:], None
    for x, part in _cut(emit, node.inputs[0], weight):
        made = emit("Conv", x, part, *bias, **attributes)
        y, bias = made if y is None else emit("Add", y, made), ()
    supersede(model, node.outputs[0], y)  # type: ignore[arg-type]
    return 1


def _weights(weight: np.ndarray) -> list[np.ndarray]:
    """Return a kernel (outputs, channels, ...) on whole blocks, and what is left over; or as it is."""
    channels, rest = weight.shape[1], weight.shape[1] % BLOCK
    if channels % 4 == 0 or channels < BLOCK or weight[0, 0].size == 1 or len(weight) < FEWEST_OUTPUTS:
        return [weight]
    if rest <= MAX_REST:
        return np.split(weight, [channels - rest], axis=1)
    return [np.pad(weight, ((0, 0), (0, -channels % 4), *((0, 0),) * (weight.ndim - 2)))]


def _cut(emit: Emitter, x: ir.Value | None, weight: np.ndarray) -> list[tuple[ir.Value | None, np.ndarray]]:
    """Return what `_weights` of a kernel read of x; of the window, before its Unsqueeze, which would copy it once more."""
    weights, window = _weights(weight), window_of(x)
    sizes = [part.shape[1] for part in weights]
    if len(sizes) > 1:
        cut = emit.many("Split", x if window is None else window, sizes, n=len(sizes), axis=1)
        cut = cut if window is None else [emit("Unsqueeze", part, [2]) for part in cut]
        return list(zip(cut, weights, strict=True))
    fill = sizes[0] - weight.shape[1]
    return [(emit("Pad", x, [0, 0, 0, 0, 0, fill, 0, 0]) if fill else x, weights[0])]


def window_of(x: ir.Value | None) -> ir.Value | None:
    """Return the window where x is that as (batch, channels, 1, time)."""
    node = producer(x)
    opened = node.inputs[0] if node is not None and node.op_type == "Unsqueeze" and axes_of(node) == (2,) else None
    return opened if opened is not None and opened.is_graph_input() else None
