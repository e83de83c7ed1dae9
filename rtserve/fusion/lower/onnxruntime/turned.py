r"""A convolution of few filters over many channels, turned round.

.. math:: y[f, t] = \sum_k \Big( \sum_c w[f, c, k]\, x[c, \cdot] \Big)[t + d k - l]

A convolution gathers first: for every output it puts K C numbers side by side, or fills its filters up to a block of
sixteen, and either costs the same for one filter as for sixteen. Summed over the channels first, there are F K numbers for
a sample in the place of C; adding them where they belong is what a transposed convolution does, with the kernel in reverse
and :math:`d (K - 1) - l` of its output cut off in front. A convolution whose kernel is as long as what it reads is a
product of one row.

The same sums in another order: no number that an output did not read comes into it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK, COSTS, whole
from rtserve.fusion.ir.conv import Conv1d, any_conv_of
from rtserve.fusion.ir.passes import PassResult, Refused, each
from rtserve.fusion.lower.onnxruntime.channels import on_blocks, summed
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

__all__ = ["run"]

WORTH = 1.3
"""How many times faster the estimate must be."""


def run(model: ir.Model) -> PassResult:
    """Turn every convolution round that pays, in place."""
    return each(model, _one, "{} convolutions sum over channels first")


def _one(model: ir.Model, node: ir.Node) -> int:
    if (found := any_conv_of(node)) is None:
        return 0
    conv = on_blocks(found)
    if conv.taps == 1 or len(conv.weight) // conv.group >= BLOCK or conv.weight.shape[1] <= 1:
        return 0
    product = (conv.taps, conv.left, conv.right, conv.group) == (conv.n_in, 0, 0, 1) and conv.rows <= 1
    if conv.stride != 1 and not product:
        raise Refused(f"it strides by {conv.stride}")
    sums = conv.n_in * max(conv.rows, 1) * conv.taps * len(conv.weight)  # for every sample, added up behind
    then = sums * (conv.weight.shape[1] / COSTS.turned_macs_per_us + COSTS.added_us) + COSTS.node_us
    if product:  # of one row, with the two changes of shape
        then = conv.weight.size / COSTS.turned_macs_per_us + 3 * COSTS.node_us
    if _gathered_us(conv) < WORTH * then:
        raise Refused(f"{len(conv.weight)} filters over {conv.channels} channels are about as fast as they are")
    emit = Emitter(model.graph, before=node, prefix="turned")
    way = partial(_emit_product if product else _emit_turned, emit)
    supersede(model, node.outputs[0], summed(emit, found, way))
    return 1


def _gathered_us(conv: Conv1d) -> float:
    """Return what the engine takes for the convolution as it stands: in blocks, or unfolded where channels fill none."""
    places, taps = conv.n_out * max(conv.rows, 1), conv.taps
    if conv.group == 1 and conv.rows and (conv.channels < BLOCK or conv.channels % 4 == 0):
        channels = conv.channels if conv.channels < BLOCK else whole(conv.channels)
        return places * taps * channels * whole(len(conv.weight)) / COSTS.narrow_macs_per_us + COSTS.node_us
    per_channel = COSTS.unfolded_us + len(conv.weight) / conv.group / COSTS.macs_per_us
    return places * taps * conv.channels * per_channel + COSTS.node_us


def _emit_turned(emit: Emitter, conv: Conv1d) -> ir.Value:
    groups, channels = conv.group, conv.weight.shape[1]
    apart = conv.weight.reshape(groups, -1, channels, conv.taps).transpose(0, 2, 1, 3)
    kernel = apart.reshape(conv.channels, -1, conv.taps)[..., ::-1]
    x, reach = conv.x, conv.dilation * (conv.taps - 1)
    front, behind = max(conv.left - reach, 0), max(conv.right - reach, 0)
    if front or behind:  # what is padded by more than the kernel's reach
        x = emit("Pad", x, [0, 0, *conv.shaped(front, 0), 0, 0, *conv.shaped(behind, 0)])
    cut = replace(conv, left=reach + front - conv.left, right=reach + behind - conv.right)
    kernel = kernel.reshape(*kernel.shape[:2], *conv.shaped(conv.taps))
    return emit("ConvTranspose", x, kernel, *([] if conv.bias is None else [conv.bias]), **cut.attributes)


def _emit_product(emit: Emitter, conv: Conv1d) -> ir.Value:
    row = emit("Reshape", conv.x, [-1, conv.channels * conv.n_in])
    y = emit("MatMul", row, conv.weight.reshape(len(conv.weight), -1).T)
    if conv.bias is not None:
        y = emit("Add", y, conv.bias)
    return emit("Reshape", y, [-1, len(conv.weight), *conv.shaped(1)])
