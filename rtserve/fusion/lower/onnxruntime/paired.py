r"""Two convolutions of stride 2 that read the same samples one apart, with three filters instead of four.

Views that are moved by an odd number of samples need the first layer at the odd places as well. With the taps apart,
:math:`h_e[j] = h[2j]`, :math:`h_o[j] = h[2j + 1]`, and the samples apart, :math:`a[n] = x[s + 2n]`,
:math:`b[n] = x[s + 2n + 1]`, :math:`a^+[n] = a[n + 1]`, the outputs that begin at s + 2n and at s + 2n + 1 are

.. math::
    y_0 = h_e * a + h_o * b = h_e * (a - b) + (h_e + h_o) * b, \qquad
    y_1 = h_e * b + h_o * a^+ = h_o * (a^+ - b) + (h_e + h_o) * b,

and the last term is the same: three filters of half the taps for four (Winograd's F(2, 2) across the two). They are
ordinary convolutions, on which `rtserve.fusion.lower.onnxruntime.fast_fir` can work again.

Neighbouring samples meet in one term, so one that is not finite spoils an output more than before, as there.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK, COSTS
from rtserve.fusion.ir.conv import Conv1d, conv_of
from rtserve.fusion.ir.joint import moved
from rtserve.fusion.ir.passes import PassResult, Refused
from rtserve.fusion.lower.onnxruntime.channels import on_blocks, parts, splits_window
from rtserve.fusion.lower.onnxruntime.phases import cut
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import replace_value

__all__ = ["run"]

STRIDE = 2


def run(model: ir.Model) -> PassResult:
    """Rewrite every pair that pays, in place."""
    found: dict[tuple[object, bytes], list[Conv1d]] = {}
    for node in model.graph:
        conv = conv_of(node)
        if conv is not None and (conv.stride, conv.dilation, conv.group) == (STRIDE, 1, 1):
            found.setdefault((conv.x, conv.weight.tobytes()), []).append(conv)
    result = PassResult()
    for alike in found.values():
        for first, second in combinations(alike, 2):
            if (first.left - second.left) % STRIDE == 0:
                continue
            if _pays(first, second):
                _rewrite(model, first, second)
                result.changed += 1
                break
            result.refused.append(Refused("the products saved cost less than the nodes added").at(first.node))
    result.did = f"{result.changed} pairs of filters one sample apart"
    return result


def _cover(first: Conv1d, second: Conv1d) -> tuple[int, int, int]:
    """Return which output of the first the second begins behind, by a sample, and the outputs that cover both."""
    ahead = (first.left - second.left - 1) // STRIDE
    return ahead, min(0, ahead), max(first.n_out, second.n_out + ahead)


def _pays(first: Conv1d, second: Conv1d) -> bool:
    """Whether the products saved cost clearly more time than the nodes added."""
    outputs, channels, taps = on_blocks(first).weight.shape
    if outputs % BLOCK or channels % BLOCK or taps < STRIDE:
        return False
    _, low, high = _cover(first, second)
    products = taps * (first.n_out + second.n_out) - (taps + (taps + 1) // 2) * (high - low)
    saved = outputs * channels * first.rows * products / COSTS.macs_per_us
    moved_us = 2 * channels * first.rows * (high - low + taps // 2) * COSTS.depthwise_us
    return bool(saved > 1.5 * (3 * COSTS.node_us + moved_us) + COSTS.window_us * splits_window(first))


def _rewrite(model: ir.Model, first: Conv1d, second: Conv1d) -> None:
    emit = Emitter(model.graph, before=first.node, prefix="pair")
    conv, *rest = parts(emit, first)
    ahead, low, high = _cover(first, second)
    even, odd = conv.weight[..., 0::2], conv.weight[..., 1::2]
    begin = STRIDE * low - first.left
    both = even.astype(np.float64)
    both[..., : odd.shape[2]] += odd
    bare = replace(conv, bias=None)
    common = replace(bare, weight=both, dilation=STRIDE).from_sample(begin + 1, high - low).emit(emit)
    ways = ((first, 0, even, (1.0, -1.0)), (second, 1, odd, (-1.0, 1.0)))
    for old, number, taps, sign in ways:
        change = replace(bare, weight=np.tile(np.array(sign), (conv.channels, 1, 1)), group=conv.channels)
        d = change.from_sample(begin + number, high - low + taps.shape[2] - 1).emit(emit)
        own = replace(conv, weight=taps, bias=old.bias, stride=1, left=0, right=0).emit(emit, d)
        y, offset = emit("Add", own, common), ahead * number - low
        for part in rest:
            y = emit("Add", part.from_sample(-old.left - STRIDE * offset, high - low).emit(emit), y)
        _replace(model, emit, old, y, offset, high - low)


def _replace(model: ir.Model, emit: Emitter, conv: Conv1d, y: ir.Value, offset: int, n: int) -> None:
    """Put a convolution's outputs, from one of n on, in its place; what cuts them is cut from all."""
    old = conv.node.outputs[0]
    if (offset, conv.n_out) == (0, n):
        replace_value(model, old, y)
        return
    moved(y, old, offset)
    for node in list(old.consumers()):
        if (span := cut(node)) is not None:
            replace_value(model, node.outputs[0], emit.slice(y, 3, offset + span[0], offset + span[1]))
    if old.uses() or old.is_graph_output():
        replace_value(model, old, emit.slice(y, 3, offset, offset + conv.n_out))
