r"""A scaled copy of what a convolution gives as one depthwise step.

Behind a shared first stage a factor, :math:`a\,x_c + (1 - a)\,b_c`, written as Mul and Add makes the engine put its blocked
layout back in order first and go over the data twice. A depthwise convolution of one tap is the same numbers in the blocked
layout, in one go. Which values are such copies, of what and times what, assembly has handed over
(`rtserve.fusion.ir.joint`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK
from rtserve.fusion.ir.conv import conv_of
from rtserve.fusion.ir.joint import joints, sources
from rtserve.fusion.ir.nodes import producer
from rtserve.fusion.ir.passes import PassResult, Refused
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Rewrite every scaled copy of a convolution's outputs that has an offset, in place."""
    result, now = PassResult(), sources(model)
    for _, joint in joints(model):
        for source in joint.sources:
            (x, _), (value, _) = now.get(source.base, (None, 0)), now.get(source.name, (None, 0))
            conv, last = conv_of(producer(x)), producer(value)
            if x is None or conv is None or len(conv.weight) % BLOCK:
                continue
            if value is None or last is None or last.op_type != "Add":
                continue
            shift = constant(last.inputs[1])
            if shift is None or shift.size != len(conv.weight):
                result.refused.append(Refused("its offset is not one number for a channel").at(last))
                continue
            emit = Emitter(model.graph, before=last, prefix="step")
            kernel = np.full((shift.size, 1, 1, 1), np.float32(source.factor))
            supersede(model, value, emit("Conv", x, kernel, shift.reshape(-1), group=shift.size))
            result.changed += 1
    result.did = f"{result.changed} steps"
    return result
