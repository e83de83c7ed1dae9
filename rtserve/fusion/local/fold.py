"""Fold constants, batch normalisation and what does nothing; the mathematics is in `rtserve.graphs.fold`.

An export is folded already; a graph that others exported may not be. Besides: Dropout in evaluation mode, Identity, a
Pad or Slice of nothing, and the outputs of a padded convolution that are cut off again (a causal one of most networks): with
less padding there are none.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from rtserve.fusion.ir.conv import any_conv_of
from rtserve.fusion.ir.nodes import private_producer
from rtserve.fusion.ir.passes import PassResult
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, fold_batchnorm, fold_constants, replace_value, supersede

__all__ = ["run"]


def _idle(node: ir.Node) -> bool:
    """Whether a node gives back its first input: Identity, Dropout, times 1, plus 0, a pool of single samples."""
    if node.op_type in ("Identity", "Dropout"):
        return True
    if node.op_type in ("MaxPool", "AveragePool"):
        sizes = [*(node.attributes.get_ints("kernel_shape") or (0,)), *(node.attributes.get_ints("strides") or ())]
        return set(sizes) == {1} and not any(node.attributes.get_ints("pads") or ())
    neutral = {"Mul": 1.0, "Div": 1.0, "Add": 0.0, "Sub": 0.0}.get(node.op_type)
    array = constant(node.inputs[1]) if neutral is not None else None
    return array is not None and array.size == 1 and array.ndim <= 1 and float(array.reshape(())) == neutral


def _uncut(model: ir.Model, node: ir.Node) -> int:
    """Pad a convolution less where a Slice alone reads it and cuts off what the padding gave."""
    conv = any_conv_of(private_producer(node.inputs[0])) if node.op_type == "Slice" else None
    where = [constant(v) for v in node.inputs[1:]]
    if conv is None or len(where) < 3 or any(v is None or v.size != 1 for v in where):
        return 0
    start, end, axis, *steps = (int(v.item()) for v in where)  # type: ignore[union-attr]
    kept = range(conv.n_out)[start:end]
    if axis % len(node.inputs[0].shape) != conv.axis or steps not in ([], [1]) or not kept:  # type: ignore[union-attr,arg-type]
        return 0
    left = conv.left - conv.stride * kept.start
    right = max(conv.stride * (len(kept) - 1) + conv.span - conv.n_in - left, 0)
    less = replace(conv, left=left, right=right)
    if left < 0 or less.n_out != len(kept):
        return 0
    supersede(model, node.outputs[0], less.emit(Emitter(model.graph, before=node, prefix="fold")))
    return 1


def run(model: ir.Model) -> PassResult:
    """Fold in place."""
    before = model.graph.num_nodes()
    fold_constants(model)
    cut = sum(_uncut(model, node) for node in list(model.graph))
    norms = fold_batchnorm(model)
    idle = 0
    for node in list(model.graph):
        read_elsewhere = node.outputs[0].is_graph_output() or any(o.uses() for o in node.outputs[1:])
        if _idle(node) and node.inputs[0] is not None and not read_elsewhere:
            replace_value(model, node.outputs[0], node.inputs[0])
            idle += 1
    removed = before - model.graph.num_nodes() + cut + norms + idle
    return PassResult(changed=removed, did=f"{norms} batch normalisations, {idle} idle nodes, {cut} cuts, constants")
