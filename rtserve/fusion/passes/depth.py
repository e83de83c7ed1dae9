r"""Space to depth for a temporal convolution of one input channel.

A convolution of K taps over one channel has no channels to vectorise over. Split time into s phases,
:math:`t = s t' + p`: the phases are s input channels, the outputs F s output channels, and

.. math:: y[f, s t' + p] = \sum_{q, k'} w[f, s k' + q - p]\, x[s (t' + k') + q - l],

a convolution of :math:`\lceil (K + s - 1) / s \rceil` taps. The multiply-adds grow by (K + s - 1) / K, the speed by three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.passes.outcome import PassResult
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "run"]

NAME = "space-to-depth"
PHASES = 4
SMALLEST = 500_000
"""Multiply-adds below which the extra transposes cost more than they save."""


def run(model: ir.Model) -> PassResult:
    """Rewrite every large temporal convolution of one input channel, in place."""
    changed, notes = 0, []
    for node in list(model.graph):
        if node.op_type != "Conv":
            continue
        weight = constant(node.inputs[1])
        if weight is None or weight.ndim != 4 or weight.shape[1] != 1 or node.attributes.get_int("group", 1) != 1:
            continue
        reason = _refuse(node, weight)
        if reason:
            notes.append(f"Conv {node.outputs[0].name}: {reason}")
            continue
        _rewrite(model, node, weight)
        changed += 1
    return PassResult(
        changed=changed, notes=tuple(notes) if not changed else (f"{changed} convolutions over {PHASES} phases",)
    )


def _refuse(node: ir.Node, weight: np.ndarray) -> str:
    shape, out = node.inputs[0].shape, node.outputs[0].shape  # type: ignore[union-attr]
    if shape is None or out is None or not all(isinstance(d, int) for d in [*list(shape)[1:], *list(out)[1:]]):
        return "its shape is not known"
    if weight.shape[2] != 1 or weight.shape[3] < 2 * PHASES:
        return f"a kernel of {weight.shape[2:]}"
    if any(
        v != 1 for v in [*(node.attributes.get_ints("strides") or ()), *(node.attributes.get_ints("dilations") or ())]
    ):
        return "it strides or dilates"
    pads = node.attributes.get_ints("pads") or (0, 0, 0, 0)
    if pads[0] or pads[2] or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", ""):
        return "it pads another axis"
    if int(shape[1]) != 1:  # type: ignore[arg-type]
        return "several input channels"
    macs = int(np.prod([int(d) for d in list(out)[1:]])) * weight[0].size  # type: ignore[arg-type]
    return f"{macs:,} multiply-adds, under {SMALLEST:,}" if macs < SMALLEST else ""


def _rewrite(model: ir.Model, node: ir.Node, weight: np.ndarray) -> None:
    s, (filters, _, _, taps) = PHASES, weight.shape
    _, _, rows, n_in = (d if isinstance(d, int) else 0 for d in node.inputs[0].shape)  # type: ignore[union-attr]
    n_out = int(node.outputs[0].shape[3])  # type: ignore[index,arg-type]
    pads = node.attributes.get_ints("pads") or (0, 0, 0, 0)
    frames = -(-n_out // s)
    span = -(-(taps + s - 1) // s)
    total = s * (frames + span - 1)
    right = total - n_in - pads[1]
    emit = Emitter(model.graph, before=node, prefix="depth")
    x = node.inputs[0]
    if right < 0:
        x, right = emit.slice(x, 3, 0, n_in + right), 0  # type: ignore[arg-type]
    if pads[1] or right:
        x = emit("Pad", x, [0, 0, 0, pads[1], 0, 0, 0, right])
    phased = emit("Transpose", emit("Reshape", x, [-1, rows, frames + span - 1, s]), perm=[0, 3, 1, 2])
    kernel = _phase_kernel(weight[:, 0, 0].astype(np.float64), s, span)
    extra = []
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None:
        extra = [np.repeat(bias, s)]
    y = emit("Conv", phased, kernel.astype(np.float32), *extra)
    y = emit("Transpose", emit("Reshape", y, [-1, filters, s, rows, frames]), perm=[0, 1, 3, 4, 2])
    y = emit("Reshape", y, [-1, filters, rows, frames * s])
    if frames * s != n_out:
        y = emit.slice(y, 3, 0, n_out)
    y.shape, y.type = node.outputs[0].shape, node.outputs[0].type
    supersede(model, node.outputs[0], y)


def _phase_kernel(weight: np.ndarray, s: int, span: int) -> np.ndarray:
    """Return (filters * s, s, 1, span): output phase p reads input phase q at frame k' with tap s k' + q - p."""
    filters, taps = weight.shape
    tap = s * np.arange(span)[None, None] + np.arange(s)[None, :, None] - np.arange(s)[:, None, None]
    inside = (tap >= 0) & (tap < taps)
    kernel = np.where(inside, weight[:, np.clip(tap, 0, taps - 1)], 0.0)
    return kernel.reshape(filters * s, s, 1, span)
