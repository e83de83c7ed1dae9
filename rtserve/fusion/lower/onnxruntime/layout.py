r"""Lay convolutions out as onnxruntime's fast path wants them.

The blocked (NCHWc) kernels take only rank-4 convolutions whose input channels are a multiple of 4. A Conv1d is the same
convolution on (batch, channels, 1, time); a convolution along the first of two spatial axes with the second of length 1
is the same along the second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.joint import retained
from rtserve.fusion.ir.nodes import (
    attributes_of,
    auto_padded,
    axes_of,
    inner_dims,
    only_reader,
    private_producer,
    producer,
)
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
    if not node.inputs or _rank(node.inputs[0]) != 3 or len(node.outputs) != 1:
        return 0
    if node.op_type == "ReduceMean":
        return _lift_mean(model, node)
    (x, *rest), old, weight = node.inputs, node.outputs[0], None
    if node.op_type == "Conv":
        weight = constant(rest[0])
        if weight is None or auto_padded(node):
            return 0
        if weight.shape[2] == 1 and x is model.graph.inputs[0]:  # a plain matrix product serves it best
            return 0
    elif node.op_type not in ("AveragePool", "MaxPool"):
        return 0
    emit = Emitter(model.graph, before=node, prefix="layout")
    if weight is not None:
        rest[0] = emit.constant(weight[:, :, None], name=f"{rest[0].name}.lifted")  # type: ignore[union-attr]
    y = emit(node.op_type, _up(emit, x), *rest, **_lifted(node))
    supersede(model, old, emit("Squeeze", retained(y, old), [2]))
    return 1


def _lift_mean(model: ir.Model, node: ir.Node) -> int:
    """A mean over time behind a convolution is a global average pool."""
    if [axis % 3 for axis in axes_of(node) or ()] != [2] or not _behind_conv(node.inputs[0]):
        return 0
    emit = Emitter(model.graph, before=node, prefix="layout")
    axes = [2] if node.attributes.get_int("keepdims", 1) else [2, 3]
    y = emit("Squeeze", emit("GlobalAveragePool", _up(emit, node.inputs[0])), axes)
    supersede(model, node.outputs[0], y)
    return 1


def _lifted(node: ir.Node) -> dict[str, Any]:
    """Return the attributes of a rank-3 node in front of whose axis stands another, with a kernel of 1 and no padding."""
    idle = ("kernel_shape", "auto_pad") if node.op_type == "Conv" else ("storage_order",)
    lifted = {key: value for key, value in attributes_of(node).items() if key not in idle}
    lifted |= {key: [1, *lifted[key]] for key in ("kernel_shape", "strides", "dilations") if key in lifted}
    return lifted | ({"pads": [0, lifted["pads"][0], 0, lifted["pads"][1]]} if "pads" in lifted else {})


def _rank(value: ir.Value | None) -> int:
    """Return the rank of a value; 0 where it is not known."""
    return len(value.shape) if value is not None and value.shape is not None else 0


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
    return y if value is None else retained(y, value)


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
    closed = [_closed(v, closing, axes) for v in node.inputs]
    if not any(closed) or any(out.is_graph_output() for out in node.outputs):
        return False
    if has(node, Trait.POINTWISE):
        return True
    wide = _widens(closing, axes) and _rank(node.outputs[0]) == 3
    joins = node.op_type == "Concat"
    if wide and joins:
        return all(_rank(v) == 3 for v in node.inputs)
    if not has(node, Trait.BROADCASTS) and not (joins and node.attributes.get_int("axis", 0) == 1):
        return wide and _moved(node) is not None
    others = [v for v, there in zip(node.inputs, closed, strict=True) if not there]
    arrays, computed = [constant(v) for v in others], [v for v in others if constant(v) is None]
    if computed and not (wide and all(_rank(v) == 3 for v in computed) and _opened_behind(node)):
        return False
    return all((a.ndim <= 3 if wide else a.size == 1 and not joins) for a in arrays if a is not None)


def _widens(closing: str, axes: tuple[int, ...]) -> bool:
    """Whether what is closed is (batch, channels, 1, time), of which every operand can be made."""
    return (closing, axes) == ("Squeeze", (2,))


def _moved(node: ir.Node) -> tuple[dict[int, np.ndarray], dict[str, Any]] | None:
    """Return what changes of a node that is put behind a Squeeze; None where it is another."""
    if node.op_type not in MOVED or node.attributes.get_string("mode", "constant") not in ("constant", "nearest"):
        return None
    try:
        return widened(node, 2)
    except Refused:
        return None


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
    feeds = [_opened(emit, v, closing, axes) for v in node.inputs]
    arrays, attributes = (_moved(node) if _widens(closing, axes) else None) or ({}, {})
    feeds = [emit.constant(arrays[k]) if k in arrays else v for k, v in enumerate(feeds)]
    moved = emit.many(node.op_type, *feeds, n=len(node.outputs), **attributes_of(node) | attributes)
    for old, new in zip(list(node.outputs), moved, strict=True):
        supersede(model, old, emit(closing, retained(new, old), list(axes)))


def _opened(emit: Emitter, value: ir.Value | None, closing: str, axes: tuple[int, ...]) -> ir.Value | None:
    """Return an operand as it is before the closing."""
    if _closed(value, closing, axes):
        return value.producer().inputs[0]  # type: ignore[union-attr]
    if value is None or not _widens(closing, axes):
        return value
    array = constant(value)
    if array is None:
        return _up(emit, value)
    return emit.constant(np.expand_dims(array, array.ndim - 1)) if array.ndim >= 2 else value


def _hoist(model: ir.Model, node: ir.Node) -> None:
    """Put one Unsqueeze in front of a Split in the place of one behind every part."""
    readers = [only_reader(out, "Unsqueeze") for out in node.outputs] if node.op_type == "Split" else [None]
    moved = _moved(node)
    if moved is None or _rank(node.inputs[0]) != 3 or any(one is None or axes_of(one) != (2,) for one in readers):
        return
    emit = Emitter(model.graph, before=node, prefix="layout")
    parts = emit.many("Split", _up(emit, node.inputs[0]), *node.inputs[1:], n=len(readers), **moved[1])
    for part, reader in zip(parts, readers, strict=True):
        supersede(model, reader.outputs[0], part)  # type: ignore[union-attr]


def _flatten_tail(model: ir.Model, node: ir.Node) -> int:
    """Replace a rank-4 operator on (batch, channels, time, 1) by Squeeze, its rank-3 form, Unsqueeze."""
    if node.op_type not in ("Conv", "AveragePool", "MaxPool") or len(node.outputs) != 1:
        return 0
    (x, *rest), old, conv = node.inputs, node.outputs[0], node.op_type == "Conv"
    dims, out, weight = inner_dims(x), inner_dims(old), constant(rest[0]) if conv else None
    if dims is None or out is None or len(dims) != 3 or (dims[2], out[2]) != (1, 1) or dims[1] == 1:
        return 0
    names = ("kernel_shape", "strides", "dilations", "pads", "group", "ceil_mode", "count_include_pad")
    kept = {key: value for key, value in attributes_of(node).items() if key in names}
    pads = kept.get("pads", (0, 0, 0, 0))
    reaches = pads[1] or pads[3] or any(kept.get(key, (1, 1))[1] != 1 for key in ("kernel_shape", "dilations"))
    if auto_padded(node) or reaches or (conv and (weight is None or weight.shape[3] != 1)):
        return 0
    kept |= {key: kept[key][:1] for key in names[:3] if key in kept}
    kept |= {"pads": [pads[0], pads[2]]} if "pads" in kept else {}
    emit = Emitter(model.graph, before=node, prefix="layout")
    flat = emit("Squeeze", x, [3])
    if weight is not None:
        rest[0] = emit.constant(weight[..., 0], name=f"{rest[0].name}.flat")  # type: ignore[union-attr]
    y = emit(node.op_type, flat, *rest, **kept)
    for new, whole in ((flat, x), (y, old)):
        new.shape = ir.Shape(list(whole.shape)[:3])  # type: ignore[union-attr,arg-type]
    supersede(model, old, emit("Unsqueeze", y, [3]))
    return 1
