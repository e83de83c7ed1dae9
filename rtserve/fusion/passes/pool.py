r"""Average pooling with a wide window as a banded matrix.

:math:`y[t'] = \frac1K \sum_{k} x[s t' + k]` is a product with a fixed (n_times, n_out) matrix. onnxruntime's pooling walks
its window element by element where the channels do not fit its blocked layout; a matrix product does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.passes.outcome import PassResult
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "run"]

NAME = "pool-as-matrix"
SMALLEST_WINDOW = 8
BLOCK = 16
"""Channels of onnxruntime's blocked layout; a multiple of it is pooled quickly as it is."""


def run(model: ir.Model) -> PassResult:
    """Rewrite every wide AveragePool along the last axis, in place."""
    changed, notes = 0, []
    for node in list(model.graph):
        if node.op_type != "AveragePool":
            continue
        reason = _refuse(node)
        if reason:
            notes.append(f"AveragePool {node.outputs[0].name}: {reason}")
            continue
        _rewrite(model, node)
        changed += 1
    return PassResult(changed=changed, notes=tuple(notes) if not changed else (f"{changed} pools as banded matrices",))


def _refuse(node: ir.Node) -> str:
    kernel = list(node.attributes.get_ints("kernel_shape") or (1,))
    shape = node.inputs[0].shape  # type: ignore[union-attr]
    if shape is None or not all(isinstance(d, int) for d in list(shape)[1:]):
        return "its shape is not known"
    if any(k != 1 for k in kernel[:-1]) or kernel[-1] < SMALLEST_WINDOW:
        return f"a window of {kernel} is pooled quickly as it is"
    strides = node.attributes.get_ints("strides") or (1,) * len(kernel)
    if any(s != 1 for s in strides[:-1]):
        return "it strides over another axis"
    if any(node.attributes.get_ints("pads") or ()) or node.attributes.get_int("ceil_mode", 0):
        return "it pads"
    if int(shape[1]) % BLOCK == 0:  # type: ignore[arg-type]
        return f"{shape[1]} channels fit the blocked layout"
    return ""


def _rewrite(model: ir.Model, node: ir.Node) -> None:
    kernel = (node.attributes.get_ints("kernel_shape") or (1,))[-1]
    stride = (node.attributes.get_ints("strides") or (1,))[-1]
    n_in = int(node.inputs[0].shape[-1])  # type: ignore[union-attr,index,arg-type]
    n_out = (n_in - kernel) // stride + 1
    lag = np.arange(n_in)[:, None] - stride * np.arange(n_out)[None]
    band = np.where((lag >= 0) & (lag < kernel), 1.0 / kernel, 0.0).astype(np.float32)
    emit = Emitter(model.graph, before=node, prefix="pool")
    y = emit("MatMul", node.inputs[0], band)
    y.shape, y.type = node.outputs[0].shape, node.outputs[0].type
    supersede(model, node.outputs[0], y)
