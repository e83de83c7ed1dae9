r"""Lay convolutions out as onnxruntime's fast path wants them.

The blocked (NCHWc) kernels take only rank-4 convolutions whose input channels are a multiple of 4. A Conv1d is the same
convolution on (batch, channels, 1, time); a convolution along the first of two spatial axes with the second of length 1
is the same along the second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.joint import retained
from rtserve.fusion.ir.nodes import attributes_of, auto_padded, axes_of, private_producer, producer
from rtserve.fusion.ir.passes import PassResult, Refused
from rtserve.fusion.ir.traits import Trait, has
from rtserve.fusion.ir.widened import widened
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]

MOVED = ("BatchNormalization", "Concat", "Pad", "Resize", "Slice", "Split")
"""What a Squeeze is pushed through though it names axes."""


def run(model: ir.Model) -> PassResult:
    """Turn rank-3 convolutions, pools and means into rank 4, and cancel the changes of rank between them."""
    flattened = sum(_flatten_tail(model, node) for node in list(model.graph))
    cancelled = _cancel(model, "Squeeze", "Unsqueeze", (3,)) if flattened else 0
    lifted = sum(_lift(model, node) for node in list(model.graph))
    cancelled += _cancel(model, "Unsqueeze", "Squeeze", (2,)) + _cancel(model, "Unsqueeze", "Squeeze", (2, 3))
    for node in list(model.graph):
        _hoist(model, node)
    return PassResult(changed=lifted, did=f"{lifted} operators to rank 4 ({cancelled} changes of rank cancelled)")


def _lift(model: ir.Model, node: ir.Node) -> int:
    """Replace one rank-3 operator by Unsqueeze, its rank-4 form, Squeeze."""
    shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
    if shape is None or len(shape) != 3:
        return 0
    if node.op_type == "Conv":
        return _lift_conv(model, node)
    if node.op_type == "ReduceMean":
        return _lift_mean(model, node)
    if node.op_type not in ("AveragePool", "MaxPool") or len(node.outputs) != 1:
        return 0
    emit = Emitter(model.graph, before=node, prefix="layout")
    return _replace(model, emit, node, emit(node.op_type, _up(emit, node.inputs[0]), **_lifted(node)))


def _lift_conv(model: ir.Model, node: ir.Node) -> int:
    weight = constant(node.inputs[1])
    if weight is None or auto_padded(node):
        return 0
    if weight.shape[2] == 1 and node.inputs[0] is model.graph.inputs[0]:  # a plain matrix product serves it best
        return 0
    emit = Emitter(model.graph, before=node, prefix="layout")
    lifted = emit.constant(weight[:, :, None], name=f"{node.inputs[1].name}.lifted")  # type: ignore[union-attr]
    attributes = {key: value for key, value in _lifted(node).items() if key not in ("kernel_shape", "auto_pad")}
    y = emit("Conv", _up(emit, node.inputs[0]), lifted, *node.inputs[2:], **attributes)
    return _replace(model, emit, node, y)


def _lifted(node: ir.Node) -> dict[str, Any]:
    """Return the attributes of a rank-3 node in front of whose axis stands another, with a kernel of 1 and no padding."""
    lifted = attributes_of(node)
    lifted.pop("storage_order", None)  # of a MaxPool's second output, which it has not
    lifted |= {key: [1, *lifted[key]] for key in ("kernel_shape", "strides", "dilations") if key in lifted}
    return lifted | ({"pads": [0, lifted["pads"][0], 0, lifted["pads"][1]]} if "pads" in lifted else {})


def _lift_mean(model: ir.Model, node: ir.Node) -> int:
    """A mean over time behind a convolution is a global average pool."""
    axes = axes_of(node)
    if axes is None or [axis % 3 for axis in axes] != [2] or not _behind_conv(node.inputs[0]):
        return 0
    emit = Emitter(model.graph, before=node, prefix="layout")
    pooled = emit("GlobalAveragePool", _up(emit, node.inputs[0]))
    supersede(
        model, node.outputs[0], emit("Squeeze", pooled, [2] if node.attributes.get_int("keepdims", 1) else [2, 3])
    )
    return 1


def _behind_conv(value: ir.Value | None) -> bool:
    while value is not None and (node := value.producer()) is not None:
        if node.op_type in ("Conv", "AveragePool", "MaxPool"):
            return True
        if not has(node, Trait.POINTWISE) and node.op_type != "Squeeze":
            return False
        value = node.inputs[0]
    return False


def _turned_rows(emit: Emitter, value: ir.Value | None) -> ir.Value | None:
    """Return (batch, b, 1, a) where a value is (batch a, b) reshaped to (batch, a, b) and turned: one node less."""
    turn = private_producer(value)
    rows = private_producer(turn.inputs[0]) if turn is not None and turn.op_type == "Transpose" else None
    if turn is None or rows is None or rows.op_type != "Reshape":
        return None
    target = constant(rows.inputs[1])
    if tuple(turn.attributes.get_ints("perm") or ()) != (0, 2, 1) or target is None or target.size != 3:
        return None
    if target[0] != -1 or (target[1:] <= 0).any():
        return None
    apart = emit("Reshape", rows.inputs[0], [-1, 1, *(int(d) for d in target[1:])])
    return emit("Transpose", apart, perm=[0, 3, 1, 2])


def _up(emit: Emitter, value: ir.Value | None) -> ir.Value:
    """Return (batch, channels, 1, time) of (batch, channels, time)."""
    y, before = _turned_rows(emit, value), private_producer(value)
    if before is not None and before.op_type == "Unsqueeze" and axes_of(before) == (2,):
        y = emit("Unsqueeze", before.inputs[0], [2, 3])
    y = emit("Unsqueeze", value, [2]) if y is None else y
    y = y if value is None else retained(y, value)
    if value is not None and value.shape is not None and len(value.shape) == 3:
        y.shape = _opened_shape(value, "Squeeze", (2,))
    return y


def _replace(model: ir.Model, emit: Emitter, node: ir.Node, y: ir.Value) -> int:
    """Put the rank-4 result behind a Squeeze in the place of the node's output."""
    old = node.outputs[0]
    y.shape = _opened_shape(old, "Squeeze", (2,))
    supersede(model, old, emit("Squeeze", retained(y, old), [2]))
    return 1


def _cancel(model: ir.Model, opening: str, closing: str, axes: tuple[int, ...]) -> int:
    """Push every `closing` down through operators that allow it to the `opening` that undoes it, and drop both."""
    cancelled = 0
    progress = True
    while progress:
        progress = False
        for node in list(model.graph):
            if node.graph is None:
                continue
            if node.op_type == opening and axes_of(node) == axes and _closed(node.inputs[0], closing, axes):
                supersede(model, node.outputs[0], node.inputs[0].producer().inputs[0])  # type: ignore[union-attr,arg-type]
                cancelled, progress = cancelled + 1, True
            elif _pushable(node, closing, axes):
                _push_down(model, node, closing, axes)
                progress = True
    return cancelled


def _closed(value: ir.Value | None, closing: str, axes: tuple[int, ...]) -> bool:
    """Whether a value comes straight from a closing."""
    source = producer(value)
    return source is not None and source.op_type == closing and axes_of(source) == axes


def _pushable(node: ir.Node, closing: str, axes: tuple[int, ...]) -> bool:
    """Whether a closing may go behind a node: one that does the same on values with the extra axis."""
    if any(out.is_graph_output() for out in node.outputs) or not node.inputs:
        return False
    if has(node, Trait.POINTWISE):
        return _closed(node.inputs[0], closing, axes)
    if closing != "Squeeze" or axes != (2,) or node.outputs[0].shape is None or len(node.outputs[0].shape) != 3:
        along_channels = node.op_type == "Concat" and node.attributes.get_int("axis", 0) == 1
        simple = has(node, Trait.BROADCASTS) or along_channels
        return simple and _fit(node, closing, axes, lambda array: array.size == 1 and not along_channels)
    if has(node, Trait.BROADCASTS):
        return _fit(node, closing, axes, lambda array: array.ndim <= 3, computed=_opened_behind(node))
    if node.op_type == "Concat":
        closed = [_closed(v, closing, axes) for v in node.inputs]
        known = all(v is not None and v.shape is not None and len(v.shape) == 3 for v in node.inputs)
        return known and any(closed)
    return _moved(node) is not None and _closed(node.inputs[0], closing, axes)


def _moved(node: ir.Node) -> tuple[dict[int, np.ndarray], dict[str, Any]] | None:
    """Return what changes of a node that is put behind a Squeeze; None where it is another."""
    if node.op_type not in MOVED or node.attributes.get_string("mode", "constant") not in ("constant", "nearest"):
        return None
    try:
        return widened(node, 2)
    except Refused:
        return None


def _fit(
    node: ir.Node, closing: str, axes: tuple[int, ...], allowed: Callable[[np.ndarray], bool], *, computed: bool = False
) -> bool:
    """Whether every operand is closed, a constant of an allowed form, or of rank 3 and may be opened; and one is closed."""
    closed = [_closed(v, closing, axes) for v in node.inputs]
    fit = []
    for value in node.inputs:
        array, shape = constant(value), value.shape if value is not None else None
        fit.append(computed and shape is not None and len(shape) == 3 if array is None else allowed(array))
    return any(closed) and all(c or f for c, f in zip(closed, fit, strict=True))


def _opened_behind(node: ir.Node) -> bool:
    """Whether what a node of rank 3 gives is in rank 4 again behind steps that a closing may pass."""
    front, seen = [node], {node}
    while front:
        for reader in [reader for out in front.pop().outputs for reader in out.consumers()]:
            if reader.op_type == "Unsqueeze" and axes_of(reader) == (2,):
                return True
            if has(reader, Trait.POINTWISE | Trait.BROADCASTS) and reader not in seen:
                seen.add(reader)
                front.append(reader)
    return False


def _push_down(model: ir.Model, node: ir.Node, closing: str, axes: tuple[int, ...]) -> None:
    """Rewrite ``op(closing(a), ...)`` as ``closing(op(a, ...))``."""
    emit = Emitter(model.graph, before=node, prefix="layout")
    attributes = attributes_of(node)
    feeds = [_opened(emit, v, closing, axes) for v in node.inputs]
    changes = _moved(node) if closing == "Squeeze" and axes == (2,) else None
    if changes is not None:
        feeds = [emit.constant(changes[0][k]) if k in changes[0] else v for k, v in enumerate(feeds)]
        attributes |= changes[1]
    moved = emit.many(node.op_type, *feeds, n=len(node.outputs), **attributes)
    for old, new in zip(list(node.outputs), moved, strict=True):
        new.shape = _opened_shape(old, closing, axes)
        closed = emit(closing, retained(new, old), list(axes))
        supersede(model, old, closed)


def _opened(emit: Emitter, value: ir.Value | None, closing: str, axes: tuple[int, ...]) -> ir.Value | None:
    """Return an operand as it is before the closing."""
    if value is None or _closed(value, closing, axes):
        return value.producer().inputs[0] if value is not None else None  # type: ignore[union-attr]
    array = constant(value)
    if closing != "Squeeze" or axes != (2,):
        return value
    if array is None:
        return _up(emit, value)
    return emit.constant(np.expand_dims(array, array.ndim - 1)) if array.ndim >= 2 else value


def _opened_shape(value: ir.Value, closing: str, axes: tuple[int, ...]) -> ir.Shape | None:
    """Return the shape a value has in front of the closing."""
    if value.shape is None:
        return None
    dims = list(value.shape)
    for axis in axes if closing == "Squeeze" else ():
        dims.insert(axis, 1)
    return ir.Shape([d for i, d in enumerate(dims) if closing == "Squeeze" or i not in axes])


def _hoist(model: ir.Model, node: ir.Node) -> None:
    """Put one Unsqueeze in front of a Split in the place of one behind every part."""
    if node.op_type != "Split" or any(len(out.uses()) != 1 for out in node.outputs):
        return
    readers = [next(iter(out.uses())).node for out in node.outputs]
    moved = _moved(node)
    source = node.inputs[0]
    if moved is None or source is None or source.shape is None or len(source.shape) != 3:
        return
    if any(reader.op_type != "Unsqueeze" or axes_of(reader) != (2,) for reader in readers):
        return
    emit = Emitter(model.graph, before=node, prefix="layout")
    parts = emit.many("Split", _up(emit, source), *node.inputs[1:], n=len(readers), **moved[1])
    for part, reader in zip(parts, readers, strict=True):
        supersede(model, reader.outputs[0], part)


def _flatten_tail(model: ir.Model, node: ir.Node) -> int:
    """Replace a rank-4 operator on (batch, channels, time, 1) by Squeeze, its rank-3 form, Unsqueeze."""
    if node.op_type not in ("Conv", "AveragePool", "MaxPool") or len(node.outputs) != 1:
        return 0
    shape, out = (
        list(v.shape) if v is not None and v.shape is not None else [] for v in (node.inputs[0], node.outputs[0])
    )
    if len(shape) != 4 or len(out) != 4 or (shape[3], out[3]) != (1, 1) or shape[2] == 1:
        return 0
    attributes, weight = _without_last(node), constant(node.inputs[1]) if node.op_type == "Conv" else None
    if attributes is None or (node.op_type == "Conv" and (weight is None or weight.shape[3] != 1)):
        return 0
    emit = Emitter(model.graph, before=node, prefix="layout")
    x = emit("Squeeze", node.inputs[0], [3])
    x.shape = ir.Shape(shape[:3])
    rest = list(node.inputs[1:])
    if weight is not None:
        rest[0] = emit.constant(weight[..., 0], name=f"{node.inputs[1].name}.flat")  # type: ignore[union-attr]
    y = emit(node.op_type, x, *rest, **attributes)
    y.shape = ir.Shape(out[:3])
    supersede(model, node.outputs[0], emit("Unsqueeze", y, [3]))
    return 1


def _without_last(node: ir.Node) -> dict[str, Any] | None:
    """Return a rank-4 node's attributes without its last spatial axis, or None where that axis is not idle."""
    names = ("kernel_shape", "strides", "dilations", "pads", "group", "ceil_mode", "count_include_pad")
    kept = {key: value for key, value in attributes_of(node).items() if key in names}
    pads = kept.get("pads", (0, 0, 0, 0))
    if auto_padded(node) or pads[1] or pads[3] or any(kept.get(key, (1, 1))[1] != 1 for key in names[:3:2]):
        return None
    kept |= {key: kept[key][:1] for key in names[:3] if key in kept}
    return kept | ({"pads": [pads[0], pads[2]]} if "pads" in kept else {})
