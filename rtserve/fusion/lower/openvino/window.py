r"""The first convolution reads the window as it lies, and what follows stays in one rank.

OpenVINO's convolutions take channels innermost: the window is copied for the first, which is

.. math:: y[o, t] = \sum_{c, k} w[o, c, k]\, x[c, s t + k - l].

It is a convolution of one channel as well, by a kernel as high as there are channels, and one channel lies as it should
already. With few channels, or many outputs, the copy is little and the kernels for many channels are faster.

Where a step changes the rank, the signal is turned to channels outermost and back; steps in between are not fused with a
convolution, and are slow where the last axis has length 1. So the rank is 4 from the window on, time last. A network that
is of rank 3 throughout gains nothing by that.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from rtserve.fusion.engines.openvino import PLANE_CHANNELS, PLANE_OUTPUTS
from rtserve.fusion.ir.conv import Conv1d, any_conv_of
from rtserve.fusion.ir.nodes import chain_of, only_reader
from rtserve.fusion.ir.passes import PassResult, each
from rtserve.fusion.lower.onnxruntime import channels, layout

__all__ = ["lift", "run"]


def lift(model: ir.Model) -> PassResult:
    """Bring everything to rank 4 where the window will be read as a plane, or steps behind it change the rank, in place."""
    first = [conv for node in model.graph if (conv := any_conv_of(node)) is not None and _reads_window(conv)]
    return layout.run(model) if any(_changes_rank(conv) or _as_plane(conv) for conv in first) else PassResult()


def run(model: ir.Model) -> PassResult:
    """Compute every convolution of the window as one of a plane where that pays, in place."""
    return each(model, partial(channels.plane, wanted=_as_plane), "{} convolutions of the window as a plane")


def _reads_window(conv: Conv1d) -> bool:
    """Whether a convolution is one of the window along time, in rank 3 or 4."""
    window = channels.window_of(conv.x) if conv.rows else conv.x
    return window is not None and window.is_graph_input() and conv.axis == 2 + bool(conv.rows)


def _as_plane(conv: Conv1d) -> bool:
    """Whether a convolution of the window is faster on it as one plane."""
    return conv.group == 1 and conv.taps > 1 and conv.channels >= PLANE_CHANNELS and len(conv.weight) <= PLANE_OUTPUTS


def _changes_rank(conv: Conv1d) -> bool:
    """Whether a convolution of rank 3 over several samples is followed by steps of rank 4."""
    last = chain_of(conv.node)[-1]
    return not conv.rows and conv.taps > 1 and only_reader(last.outputs[0], "Unsqueeze") is not None
