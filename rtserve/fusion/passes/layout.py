r"""Lay convolutions out as onnxruntime's fast path wants them.

The blocked (NCHWc) kernels take only rank-4 convolutions whose input channels are a multiple of 4. A Conv1d is the same
convolution on (batch, channels, 1, time); a convolution along the first of two spatial axes with the second of length 1
is the same along the second. Channels that do not divide are split off: :math:`w * x = w_{:128} * x_{:128} + w_{128:} *
x_{128:}`, one blocked convolution and a small rest, which costs less than filling up with zeros.
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

NAME = "layout"
SAME_RANK = frozenset({"Relu", "Elu", "Sigmoid", "Tanh", "LeakyRelu", "Gelu", "Erf", "Exp", "Clip", "Neg", "Softplus", "Sqrt"})
"""Elementwise operators of one input: a change of rank passes through them."""
MAX_REST = 2
"""Channels beyond a multiple of 16 that are split off rather than filled up."""


def run(model: ir.Model) -> PassResult:
    """Turn rank-3 convolutions, pools and means into rank 4, cancel the changes of rank between them, split channels."""
    lifted = sum(_lift(model, node) for node in list(model.graph))
    cancelled = _cancel(model)
    split = sum(_split_channels(model, node) for node in list(model.graph))
    changed = lifted + split
    note = f"{lifted} operators to rank 4 ({cancelled} changes of rank cancelled), {split} convolutions split by channels"
    return PassResult(changed=changed, notes=(note if changed else "no rank-3 convolution, and channels that divide",))


def _lift(model: ir.Model, node: ir.Node) -> int:
    """Replace one rank-3 operator by Unsqueeze, its rank-4 form, Squeeze."""
    shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
    if shape is None or len(shape) != 3:
        return 0
    if node.op_type == "Conv":
        return _lift_conv(model, node)
    if node.op_type in ("AveragePool", "MaxPool") and len(node.outputs) == 1:
        return _lift_pool(model, node)
    if node.op_type == "ReduceMean":
        return _lift_mean(model, node)
    return 0


def _lift_conv(model: ir.Model, node: ir.Node) -> int:
    weight = constant(node.inputs[1])
    if weight is None or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", ""):
        return 0
    if weight.shape[2] == 1 and _reads_input(model, node):
        return 0
    emit = Emitter(model.graph, before=node, prefix="layout")
    pads = list(node.attributes.get_ints("pads") or (0, 0))
    attributes = {
        "strides": [1, *(node.attributes.get_ints("strides") or (1,))],
        "dilations": [1, *(node.attributes.get_ints("dilations") or (1,))],
        "pads": [0, pads[0], 0, pads[1]],
        "group": node.attributes.get_int("group", 1),
    }
    lifted = emit.constant(weight[:, :, None], name=f"{node.inputs[1].name}.lifted")  # type: ignore[union-attr]
    y = emit("Conv", _up(emit, node.inputs[0]), lifted, *node.inputs[2:], **attributes)
    return _replace(model, emit, node, y)


def _reads_input(model: ir.Model, node: ir.Node) -> bool:
    """Whether a 1x1 convolution is a spatial step on the window itself: a plain matrix product serves it best."""
    return node.inputs[0] is model.graph.inputs[0]


def _lift_pool(model: ir.Model, node: ir.Node) -> int:
    emit = Emitter(model.graph, before=node, prefix="layout")
    attributes = {}
    for key, value in node.attributes.items():
        ints = node.attributes.get_ints(key) if key in ("kernel_shape", "strides", "dilations") else None
        if ints is not None:
            attributes[key] = [1, *ints]
        elif key == "pads":
            low, high = node.attributes.get_ints("pads") or (0, 0)
            attributes[key] = [0, low, 0, high]
        elif key in ("ceil_mode", "count_include_pad"):
            attributes[key] = node.attributes.get_int(key, 0)  # type: ignore[assignment]
    y = emit(node.op_type, _up(emit, node.inputs[0]), **attributes)
    return _replace(model, emit, node, y)


def _lift_mean(model: ir.Model, node: ir.Node) -> int:
    """A mean over time behind a convolution is a global average pool."""
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None or [int(a) % 3 for a in np.atleast_1d(axes)] != [2] or not _behind_conv(node.inputs[0]):
        return 0
    emit = Emitter(model.graph, before=node, prefix="layout")
    pooled = emit("GlobalAveragePool", _up(emit, node.inputs[0]))
    keep = node.attributes.get_int("keepdims", 1)
    y = emit("Squeeze", pooled, [2] if keep else [2, 3])
    y.shape, y.type = node.outputs[0].shape, node.outputs[0].type
    supersede(model, node.outputs[0], y)
    return 1


def _behind_conv(value: ir.Value | None) -> bool:
    while value is not None and (node := value.producer()) is not None:
        if node.op_type in ("Conv", "AveragePool", "MaxPool"):
            return True
        if node.op_type not in (*SAME_RANK, "Squeeze"):
            return False
        value = node.inputs[0]
    return False


def _up(emit: Emitter, value: ir.Value | None) -> ir.Value:
    """Return (batch, channels, 1, time) of (batch, channels, time)."""
    import onnx_ir as ir

    y = emit("Unsqueeze", value, [2])
    if value is not None and value.shape is not None:
        batch, channels, time = value.shape
        y.shape = ir.Shape([batch, channels, 1, time])
    return y


def _replace(model: ir.Model, emit: Emitter, node: ir.Node, y: ir.Value) -> int:
    """Put the rank-4 result behind a Squeeze in the place of the node's output."""
    import onnx_ir as ir

    old = node.outputs[0]
    if old.shape is not None:
        batch, channels, time = old.shape
        y.shape = ir.Shape([batch, channels, 1, time])
    down = emit("Squeeze", y, [2])
    down.shape, down.type = old.shape, old.type
    supersede(model, old, down)
    return 1


def _cancel(model: ir.Model) -> int:
    """Let Unsqueeze meet the Squeeze it undoes, through elementwise operators and sums, and drop both."""
    cancelled = 0
    progress = True
    while progress:
        progress = False
        for node in list(model.graph):
            if node.op_type == "Unsqueeze" and _axis(node) == 2 and node.outputs[0].uses():
                source = node.inputs[0].producer() if node.inputs[0] is not None else None
                if source is None:
                    continue
                if source.op_type == "Squeeze" and _axis(source) == 2:
                    supersede(model, node.outputs[0], source.inputs[0])  # type: ignore[arg-type]
                    cancelled, progress = cancelled + 1, True
                elif _movable(source):
                    _move_up(model, node, source)
                    progress = True
    return cancelled


def _axis(node: ir.Node) -> int | None:
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return int(np.atleast_1d(axes)[0]) if axes is not None and axes.size == 1 else None


def _movable(node: ir.Node) -> bool:
    """Whether an Unsqueeze may go in front of a node: elementwise on squeezed values only, read by nobody else."""
    if node.op_type in SAME_RANK:
        feeds = node.inputs[:1]
    elif node.op_type in ("Add", "Sum", "Mul", "Sub", "Concat"):
        feeds = node.inputs
    else:
        return False
    squeezed = all(v is not None and (p := v.producer()) is not None and p.op_type == "Squeeze" and _axis(p) == 2 for v in feeds)
    return squeezed and all(c.op_type == "Unsqueeze" and _axis(c) == 2 for c in node.outputs[0].consumers())


def _move_up(model: ir.Model, unsqueeze: ir.Node, source: ir.Node) -> None:
    """Rewrite ``Unsqueeze(op(Squeeze(a), ...))`` as ``op(a, ...)``."""
    import onnx_ir as ir

    feeds = [v.producer().inputs[0] if v is not None and v.producer() is not None and v.producer().op_type == "Squeeze" else v  # type: ignore[union-attr]
             for v in source.inputs]  # fmt: skip
    attributes = dict(source.attributes)
    if source.op_type == "Concat" and source.attributes.get_int("axis", 0) == 2:
        attributes["axis"] = ir.AttrInt64("axis", 3)
    moved = ir.node(source.op_type, feeds, attributes=attributes)
    out = moved.outputs[0]
    out.name = Emitter(model.graph).name(f"{source.outputs[0].name}.up")
    out.shape, out.type = unsqueeze.outputs[0].shape, unsqueeze.outputs[0].type
    model.graph.insert_before(source, moved)
    for consumer in list(source.outputs[0].consumers()):
        supersede(model, consumer.outputs[0], out)
    if not source.outputs[0].uses():
        model.graph.remove(source, safe=True)


def _split_channels(model: ir.Model, node: ir.Node) -> int:
    """Split a convolution whose input channels are a little over a multiple of 16, or fill them up to one of 4."""
    weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
    if weight is None or weight.ndim != 4 or node.attributes.get_int("group", 1) != 1:
        return 0
    channels = weight.shape[1]
    if channels % 4 == 0 or channels < 16 or weight[0, 0].size == 1:
        return 0
    emit = Emitter(model.graph, before=node, prefix="layout")
    attributes = dict(node.attributes)
    rest = channels % 16
    if rest <= MAX_REST:
        main, tail = emit.many("Split", node.inputs[0], [channels - rest, rest], n=2, axis=1)
        first = emit("Conv", main, weight[:, : channels - rest], *node.inputs[2:], **attributes)
        second = emit("Conv", tail, weight[:, channels - rest :], **attributes)
        y = emit("Add", first, second)
    else:
        fill = -channels % 4
        padded = emit("Pad", node.inputs[0], [0, 0, 0, 0, 0, fill, 0, 0])
        y = emit("Conv", padded, np.pad(weight, ((0, 0), (0, fill), (0, 0), (0, 0))), *node.inputs[2:], **attributes)
    y.shape, y.type = node.outputs[0].shape, node.outputs[0].type
    supersede(model, node.outputs[0], y)
    return 1
