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

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

PREFIX = "pair"
STRIDE = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    """Two convolutions; output n of the first begins at `start` + 2 n, of the second at `start` + 1 + 2 (n + `ahead`)."""

    convs: tuple[Conv1d, Conv1d]

    @property
    def start(self) -> int:
        return -self.convs[0].left

    @property
    def ahead(self) -> int:
        return (-self.convs[1].left - self.start - 1) // STRIDE

    @property
    def span(self) -> tuple[int, int]:
        """Outputs that cover both."""
        first, second = self.convs
        return min(0, self.ahead), max(first.n_out, second.n_out + self.ahead)


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
            two = _Pair(convs=(first, second))
            if (first.left - second.left) % STRIDE == 0:
                continue
            if _pays(two):
                _rewrite(model, two)
                result.changed += 1
                break
            result.refused.append(Refused("the products saved cost less than the nodes added").at(first.node))
    result.did = f"{result.changed} pairs of filters one sample apart"
    return result


def _pays(two: _Pair) -> bool:
    """Whether the products saved cost clearly more time than the nodes added."""
    outputs, channels, taps = on_blocks(two.convs[0]).weight.shape
    if outputs % BLOCK or channels % BLOCK or taps < STRIDE:
        return False
    low, high = two.span
    saved = outputs * channels * two.convs[0].rows * (
        taps * sum(conv.n_out for conv in two.convs) - (taps + (taps + 1) // 2) * (high - low)
    )  # fmt: skip
    moved = 2 * channels * two.convs[0].rows * (high - low + taps // 2)
    return bool(
        saved / COSTS.macs_per_us
        > 1.5 * (3 * COSTS.node_us + moved * COSTS.depthwise_us) + COSTS.window_us * splits_window(two.convs[0])
    )


def _rewrite(model: ir.Model, two: _Pair) -> None:
    emit = Emitter(model.graph, before=two.convs[0].node, prefix=PREFIX)
    conv, *rest = parts(emit, two.convs[0])
    low, high = two.span
    even, odd = conv.weight[..., 0::2], conv.weight[..., 1::2]
    begin = two.start + STRIDE * low
    both = even.astype(np.float64)
    both[..., : odd.shape[2]] += odd
    bare = replace(conv, bias=None)
    common = replace(bare, weight=both, dilation=STRIDE).from_sample(begin + 1, high - low).emit(emit)
    for number, (taps, sign) in enumerate(((even, (1.0, -1.0)), (odd, (-1.0, 1.0)))):
        change = replace(bare, weight=np.tile(np.array(sign), (conv.channels, 1, 1)), group=conv.channels)
        d = change.from_sample(begin + number, high - low + taps.shape[2] - 1).emit(emit)
        own = replace(conv, weight=taps, bias=two.convs[number].bias, stride=1, left=0, right=0).emit(emit, d)
        _replace(model, emit, two, number, emit("Add", own, common), rest)


def _replace(model: ir.Model, emit: Emitter, two: _Pair, number: int, y: ir.Value, rest: Sequence[Conv1d]) -> None:
    """Put one convolution's outputs in its place, the channels left over added; what cuts them is cut from all."""
    (low, high), conv = two.span, two.convs[number]
    old, offset = conv.node.outputs[0], (two.ahead if number else 0) - low
    for part in rest:
        y = emit("Add", part.from_sample(-conv.left - STRIDE * offset, high - low).emit(emit), y)
    if (offset, conv.n_out) == (0, high - low):
        replace_value(model, old, y)
        return
    moved(y, old, offset)
    for node in list(old.consumers()):
        span = cut(node) if node.op_type == "Slice" else None
        if span is not None:
            replace_value(model, node.outputs[0], emit.slice(y, 3, offset + span[0], offset + span[1]))
    if old.uses() or old.is_graph_output():
        replace_value(model, old, emit.slice(y, 3, offset, offset + conv.n_out))
