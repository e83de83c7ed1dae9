r"""Dense layers that read the same, as one; factors behind them, into their weights.

:math:`[x W_1 + b_1, \dots, x W_n + b_n] = x\,[W_1 \dots W_n] + [b_1 \dots b_n]`: queries, keys and values of an attention
are one product and a Split. A number that multiplies a dense layer's output, however reshaped and permuted in between,
multiplies its weights and bias instead: :math:`a (x W + b) = x (a W) + a b`, in float64, then rounded once.
"""

from __future__ import annotations

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
    joined = sum(_join(model, layers) for layers in _siblings(model))
    return PassResult(changed=folded + joined, did=f"{folded} factors into weights, {joined} layers joined with others")


def _number(node: ir.Node) -> tuple[int, float] | None:
    """Return which input of a Mul is one number, and the number."""
    for slot, value in enumerate(node.inputs):
        array = constant(value)
        if array is not None and array.size == 1 and array.dtype.kind == "f" and array.ndim <= 1:
            return slot, float(array.reshape(()))
    return None


def _fold_factor(model: ir.Model, node: ir.Node) -> int:
    """Take one Mul by a number into the dense layer in front of it."""
    found = _number(node) if node.op_type == "Mul" else None
    if found is None:
        return 0
    slot, factor = found
    source = node.inputs[1 - slot]
    layer = private_producer(source)
    while layer is not None and has(layer, Trait.RESHAPES):
        layer = private_producer(layer.inputs[0])
    if layer is None or source is None or not _scale(model, layer, factor):
        return 0
    supersede(model, node.outputs[0], source)
    return 1


def _scale(model: ir.Model, layer: ir.Node, factor: float) -> bool:
    """Multiply a dense layer's constants: an Add of a bias behind a MatMul, or the MatMul alone."""
    emit = Emitter(model.graph, before=layer, prefix="dense")
    places = _constants_of(layer)
    for node, slot in places:
        array = np.asarray(constant(node.inputs[slot]))
        node.replace_input_with(slot, emit.constant((array.astype(np.float64) * factor).astype(array.dtype)))
    return bool(places)


def _constants_of(layer: ir.Node) -> list[tuple[ir.Node, int]]:
    """Return which inputs of which nodes are the constants of a dense layer; none where it is none."""
    if layer.op_type == "MatMul":
        return [(layer, 1)] if constant(layer.inputs[1]) is not None else []
    for slot in (0, 1) if layer.op_type == "Add" else ():
        product = private_producer(layer.inputs[1 - slot])
        if constant(layer.inputs[slot]) is not None and product is not None and product.op_type == "MatMul":
            found = _constants_of(product)
            return [(layer, slot), *found] if found else []
    return []


def _bias_of(node: ir.Node) -> tuple[ir.Node, np.ndarray] | None:
    """Return the Add of a vector that alone reads a product, and the vector."""
    add, weight = only_reader(node.outputs[0], "Add"), constant(node.inputs[1])
    array = next((a for a in map(constant, add.inputs) if a is not None), None) if add is not None else None
    if add is None or array is None or weight is None or array.shape != (weight.shape[1],):
        return None
    return add, array


def _siblings(model: ir.Model) -> list[list[ir.Node]]:
    """Return products with a constant matrix and a bias, in groups that read the same value."""
    groups: dict[ir.Value, list[ir.Node]] = {}
    for node in model.graph:
        if node.op_type != "MatMul" or node.inputs[0] is None or constant(node.inputs[0]) is not None:
            continue
        weight = constant(node.inputs[1])
        if weight is not None and weight.ndim == 2 and _bias_of(node) is not None:
            groups.setdefault(node.inputs[0], []).append(node)
    return [group for group in groups.values() if len(group) > 1]


def _join(model: ir.Model, layers: list[ir.Node]) -> int:
    """Write layers that read the same value as one, and split its output."""
    biased = [found for layer in layers if (found := _bias_of(layer)) is not None]
    weights = [np.asarray(constant(layer.inputs[1])) for layer in layers]
    source = layers[0].inputs[0]
    rank = len(source.shape) if source is not None and source.shape is not None else 0
    if rank < 2 or len(biased) != len(layers):
        return 0
    emit = Emitter(model.graph, before=layers[0], prefix="dense")
    bias = np.concatenate([array for _, array in biased])
    y = emit("Add", emit("MatMul", source, np.concatenate(weights, axis=1)), bias)
    sizes = [weight.shape[1] for weight in weights]
    parts = emit.many("Split", y, sizes, n=len(sizes), axis=rank - 1)
    for part, (add, _) in zip(parts, biased, strict=True):
        supersede(model, add.outputs[0], part)
    return len(layers)
