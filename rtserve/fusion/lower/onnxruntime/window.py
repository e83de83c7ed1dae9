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

from rtserve.fusion.ir.conv import conv_of
from rtserve.fusion.ir.nodes import private_producer
from rtserve.fusion.ir.passes import PassResult, each
from rtserve.fusion.lower.onnxruntime.layout import SPLIT
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "run"]

NAME = "whole-window"


def run(model: ir.Model) -> PassResult:
    """Rewrite every convolution of the input that was split by channels, in place."""
    return each(model, _one, "{} convolutions")


def _one(model: ir.Model, node: ir.Node) -> int:
    parts = node.outputs[0].meta.get(SPLIT)
    if parts is None or tuple(v.name for v in node.inputs if v is not None) != parts:
        return 0
    convs = [conv for conv in map(conv_of, map(private_producer, node.inputs)) if conv is not None]
    if len(convs) < len(parts):
        return 0
    emit = Emitter(model.graph, before=node, prefix="window")
    weight = np.concatenate([conv.weight for conv in convs], axis=1)
    bias = [v for conv in convs for v in conv.node.inputs[2:]]
    plane = emit("Unsqueeze", model.graph.inputs[0], [1])
    supersede(model, node.outputs[0], emit("Conv", plane, weight[:, None], *bias, **convs[0].attributes))
    return 1
