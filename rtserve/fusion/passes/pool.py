r"""Pooling on whole blocks of channels; average pooling with a wide window as a banded matrix.

Behind a convolution, whose channels the engine fills up to a multiple of sixteen in any case, filters of zeros keep the
pool in the blocked layout; its outputs are cut back, which are few.

Elsewhere, :math:`y[t'] = \frac1K \sum_{k} x[s t' + k]` is a product with a fixed (n_times, n_out) matrix. onnxruntime's
pooling walks its window element by element where the channels do not fit its blocked layout; a matrix product does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.passes.outcome import PassResult
from rtserve.fusion.passes.uses import attributes_of
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FUSED", "NAME", "run"]

NAME = "pool-as-matrix"
SMALLEST_WINDOW = 8
BLOCK = 16
"""Channels of onnxruntime's blocked layout; a multiple of it is pooled quickly as it is."""
FUSED = ("Relu", "LeakyRelu")
"""Activations that the engine does within a convolution."""
FEWEST = BLOCK // 2
SMALLEST = 20_000
"""Fewest filters worth filling up, and elements from which the cut behind costs less than it saves."""


def run(model: ir.Model) -> PassResult:
    """Rewrite every pool behind an unfilled convolution, and every other wide AveragePool along the last axis, in place."""
    changed, notes = 0, []
    for node in list(model.graph):
        source = _unfilled(node) if node.op_type in ("AveragePool", "MaxPool") else None
        if source is not None:
            _fill(model, node, source)
            changed += 1
        if source is not None or node.op_type != "AveragePool":
            continue
        reason = _refuse(node)
        if reason:
            notes.append(f"AveragePool {node.outputs[0].name}: {reason}")
            continue
        _rewrite(model, node)
        changed += 1
    return PassResult(
        changed=changed, notes=tuple(notes) if not changed else (f"{changed} pools on whole blocks or as matrices",)
    )


def _unfilled(node: ir.Node) -> ir.Node | None:
    """Return the convolution behind which a pool would stay blocked if its channels were filled up, or None."""
    value = node.inputs[0]
    source = value.producer() if value is not None else None
    if source is not None and source.op_type in FUSED and len(source.outputs[0].uses()) == 1:
        value, source = source.inputs[0], source.inputs[0].producer()  # type: ignore[union-attr]
    if source is None or source.op_type != "Conv" or len(source.outputs[0].uses()) != 1:
        return None
    weight = constant(source.inputs[1])
    if weight is None or weight.ndim != 4 or any(constant(v) is None for v in source.inputs[2:]):
        return None
    if source.attributes.get_int("group", 1) != 1 or len(weight) % BLOCK == 0 or len(weight) < FEWEST:
        return None
    size = int(np.prod([d for d in node.inputs[0].shape or () if isinstance(d, int)]))  # type: ignore[union-attr]
    return source if size >= SMALLEST else None


def _fill(model: ir.Model, node: ir.Node, source: ir.Node) -> None:
    weight, channels = constant(source.inputs[1]), int(node.outputs[0].shape[1])  # type: ignore[index,arg-type]
    assert weight is not None
    fill = -len(weight) % BLOCK
    emit = Emitter(model.graph, before=node, prefix="pool")
    extra = [np.pad(array, (0, fill)) for array in map(constant, source.inputs[2:]) if array is not None]
    filled = np.pad(weight, ((0, fill), (0, 0), (0, 0), (0, 0)))
    y = emit("Conv", source.inputs[0], filled, *extra, **attributes_of(source))
    step = node.inputs[0].producer()  # type: ignore[union-attr]
    if step is not None and step is not source:
        y = emit(step.op_type, y, **attributes_of(step))
    y = emit.slice(emit(node.op_type, y, **attributes_of(node)), 1, 0, channels)
    y.shape, y.type = node.outputs[0].shape, node.outputs[0].type
    supersede(model, node.outputs[0], y)


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
