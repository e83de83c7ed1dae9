r"""Dense layers that read the same, as one; factors behind them, into their weights.

:math:`[x W_1 + b_1, \dots, x W_n + b_n] = x\,[W_1 \dots W_n] + [b_1 \dots b_n]`: queries, keys and values of an attention
are one product and a Split. A number that multiplies a dense layer's output, however reshaped and permuted in between,
multiplies its weights and bias instead: :math:`a (x W + b) = x (a W) + a b`, in float64, then rounded once.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.nodes import only_reader, private_producer
from rtserve.fusion.ir.passes import PassResult
from rtserve.fusion.ir.traits import Trait, has
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Fold factors and join layers, in place."""
    folded = sum(_fold_factor(model, node) for node in list(model.graph))
    joined = sum(_join(model, layers) for layers in _siblings(model) if len(layers) > 1)
    return PassResult(changed=folded + joined, did=f"{folded} factors into weights, {joined} layers joined with others")


def _fold_factor(model: ir.Model, node: ir.Node) -> int:
    """Take one Mul by a number into the dense layer in front of it: a MatMul, or the Add of a bias behind one."""
    slot, factor = _constant_of(node) if node.op_type == "Mul" else (0, None)
    if factor is None or factor.size != 1 or factor.ndim > 1 or factor.dtype.kind != "f":
        return 0
    source = node.inputs[1 - slot]
    layer = private_producer(source)
    while layer is not None and has(layer, Trait.RESHAPES):
        layer = private_producer(layer.inputs[0])
    if layer is None or source is None:
        return 0
    places = [(layer, 1)]
    if layer.op_type == "Add":
        slot, _ = _constant_of(layer)
        product = private_producer(layer.inputs[1 - slot])
        places = [(layer, slot), *([(product, 1)] if product is not None else [])]
    if places[-1][0].op_type != "MatMul":
        return 0
    arrays = [array for one, place in places if (array := constant(one.inputs[place])) is not None]
    if len(arrays) < len(places):
        return 0
    emit = Emitter(model.graph, before=layer, prefix="dense")
    for (one, place), array in zip(places, arrays, strict=True):
        one.replace_input_with(place, emit.constant((array.astype(np.float64) * factor.item()).astype(array.dtype)))
    supersede(model, node.outputs[0], source)
    return 1


def _constant_of(node: ir.Node) -> tuple[int, np.ndarray | None]:
    """Return which of two inputs is constant, and it; None where none is."""
    arrays = [constant(value) for value in node.inputs]
    slot = int(arrays[0] is None)
    return slot, arrays[slot]


_Biased = tuple[ir.Node, ir.Node, np.ndarray, np.ndarray]


def _siblings(model: ir.Model) -> Collection[list[_Biased]]:
    """Return products with a matrix, the Add of a vector that alone reads each, and both, by the value that they read."""
    groups: dict[ir.Value, list[_Biased]] = {}
    for node in model.graph:
        source, add = node.inputs[0] if node.op_type == "MatMul" else None, only_reader(node.outputs[0], "Add")
        if source is None or add is None or constant(source) is not None:
            continue
        weight, (_, bias) = constant(node.inputs[1]), _constant_of(add)
        if weight is not None and weight.ndim == 2 and bias is not None and bias.shape == weight.shape[1:]:
            groups.setdefault(source, []).append((node, add, weight, bias))
    return groups.values()


def _join(model: ir.Model, layers: list[_Biased]) -> int:
    """Write layers that read the same value as one, and split its output."""
    (first, *_), adds, weights, biases = zip(*layers, strict=True)
    source = first.inputs[0]  # which may have been replaced since
    if source is None or source.shape is None or len(source.shape) < 2:
        return 0
    emit = Emitter(model.graph, before=first, prefix="dense")
    y = emit("Add", emit("MatMul", source, np.concatenate(weights, axis=1)), np.concatenate(biases))
    parts = emit.many("Split", y, [len(bias) for bias in biases], n=len(adds), axis=len(source.shape) - 1)
    for part, add in zip(parts, adds, strict=True):
        supersede(model, add.outputs[0], part)
    return len(layers)
