r"""Fold what is constant: constant subgraphs, batch normalisation, dropout and identities.

A BatchNormalization after a convolution is a change of its weights,
:math:`w' = w\, g / \sqrt{v + \epsilon}` and :math:`b' = (b - m)\, g / \sqrt{v + \epsilon} + \beta`, computed in float64
and then rounded once. It holds where the convolution's output goes nowhere else.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    "fold_batchnorm",
    "fold_constants",
    "lift_constants",
    "name_after_operators",
    "name_every_axis",
    "normalise",
    "strip_metadata",
    "supersede",
]

_LARGEST_CONSTANT = 1 << 28
SHAPELY = ("Cast", "CastLike", "ConcatFromSequence", "Constant", "ConstantOfShape", "Dropout", "Expand", "Identity", "If",
           "Loop", "Scan", "SequenceAt", "SequenceConstruct", "Shape", "Size", "SplitToSequence", "Tile")  # fmt: skip
"""Operators that are folded for what is known of shapes and types, beside those whose inputs are all constant."""
DRAWS = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
"""Operators that give other numbers each time."""
MOVES = ("Split", "TopK", "Unique")
"""Operators of several outputs that are folded: they choose among numbers and compute none."""
UNTOLD = ("AveragePool", "ConvTranspose", "DFT", "GRU", "GlobalLpPool", "GridSample", "LRN", "LSTM", "LpPool", "MaxPool",
          "MaxRoiPool", "MaxUnpool", "RNN", "Resize", "RoiAlign", "STFT", "Upsample")  # fmt: skip
"""Operators that onnx's evaluator, which folds, gives other numbers for than engines do in some forms: they stay."""
_WHOLE = (6, 7, 9)
"""ONNX's numbers of the types int32, int64 and bool."""


def fold_constants(model: ir.Model, *, whole: bool = False) -> None:
    """Evaluate every node whose inputs are all known, in place (weight renorm, merged kernels, shape arithmetic).

    Of an If whose condition is known the branch taken stays. What comes out are initializers: onnxscript before 0.5.6 puts a
    Constant in the place of what it has evaluated, which no count of nodes shows.

    Parameters
    ----------
    model : onnx_ir.Model
        Shapes inferred.
    whole : bool
        Only what gives whole numbers or truths, which is not rounded: the arithmetic of shapes, and what they decide.
    """
    before, nodes = -1, list(model.graph.all_nodes())
    branches = any(node.op_type == "If" for node in nodes)
    while len(nodes) != before and any(map(_may_fold, nodes)):
        from onnxscript import optimizer

        for node in list(model.graph):
            _settle(model, node)
        optimizer.fold_constants(
            model, onnx_shape_inference=True, input_size_limit=_LARGEST_CONSTANT, output_size_limit=_LARGEST_CONSTANT,
            should_fold=partial(_is_folded, whole=whole),
        )  # fmt: skip
        lift_constants(model)
        for node in list(model.graph):
            _evaluate(model, node, whole=whole)
        optimizer.remove_unused_nodes(model)
        before, nodes = len(nodes), list(model.graph.all_nodes())
    if branches:  # what stood in two branches may have one name
        from onnx_ir.passes import common

        common.NameFixPass()(model)


def _may_fold(node: ir.Node) -> bool:
    """Whether constant folding may have a use for a node; where for none, its library (half a second) is not loaded."""
    values = [value for value in node.inputs if value is not None]
    if all(value.const_value is not None for value in values) or node.op_type in SHAPELY:
        return True
    shapes = [list(value.shape) for value in values if value.shape is not None]
    if node.op_type == "Concat":
        return len(values) < 2 or len(shapes) < len(values) or any(0 in shape for shape in shapes)
    return node.op_type == "Reshape" and (not shapes or all(isinstance(dim, int) for dim in shapes[0]))


def _settle(model: ir.Model, node: ir.Node) -> None:
    """Let one known length taken out of a shape be constant; the library settles several, as a list, alone."""
    shape = node.inputs[0].producer() if node.op_type == "Gather" and node.inputs[0] is not None else None
    if shape is None or shape.op_type != "Shape" or shape.attributes:
        return
    dims, place = shape.inputs[0].shape, constant(node.inputs[1])  # type: ignore[union-attr]
    if dims is not None and place is not None and not place.ndim and isinstance(length := dims[int(place)], int):
        supersede(model, node.outputs[0], add_initializer(model, "length", np.array(length, np.int64)))


def _is_folded(node: ir.Node, *, whole: bool) -> bool | None:
    """Whether a node of constants is evaluated by the library; None where it decides: what quantizes stays."""
    if (
        node.op_type in (*DRAWS, *UNTOLD)
        or len(node.outputs) > 1
        or (whole and (node.outputs[0].dtype or 0) not in _WHOLE)
    ):
        return False
    return True if node.op_type == "ConstantOfShape" else None


def _evaluate(model: ir.Model, node: ir.Node, *, whole: bool) -> None:
    """Put constants in the place of what a node of several outputs gives; the library evaluates those of one."""
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    given = {value.name: constant(value) for value in node.inputs if value is not None}
    outputs = [out for out in node.outputs if out.name]
    if (
        len(node.outputs) < 2
        or node.op_type not in MOVES
        or node.domain
        or not given
        or any(array is None for array in given.values())
    ):
        return
    if any(out.is_graph_output() or (whole and (out.dtype or 0) not in _WHOLE) for out in outputs):
        return
    told = [[onnx.ValueInfoProto(name=str(name)) for name in names] for names in (given, [out.name for out in outputs])]
    graph = onnx.helper.make_graph([ir.serde.serialize_node(node)], "alone", *told)
    opset = onnx.helper.make_opsetid("", model.opset_imports[""])
    try:
        found = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[opset])).run(None, given)
    except Exception:  # what onnx's evaluator lacks is left to the engine
        return
    if all(isinstance(array, np.ndarray) for array in found):
        for out, array in zip(outputs, found, strict=True):
            replace_value(model, out, add_initializer(model, f"{out.name}_value", array))


def lift_constants(model: ir.Model) -> None:
    """Make every Constant an initializer, in place, but for one that the graph gives out."""
    from onnx_ir.passes import common

    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def constant(value: ir.Value | None) -> np.ndarray | None:
    """Return the array of an initializer, or None where the value is computed."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    array: np.ndarray = value.const_value.numpy()
    return array


def fold_batchnorm(model: ir.Model) -> int:
    """Fold every BatchNormalization that follows a convolution into it, in place; return how many."""
    folded = 0
    for node in list(model.graph):
        if node.op_type != "BatchNormalization" or node.attributes.get_int("training_mode", 0) != 0:
            continue
        source = node.inputs[0]
        conv = source.producer() if source is not None else None
        if conv is None or conv.op_type != "Conv" or len(source.uses()) != 1:  # type: ignore[union-attr]
            continue
        if _fold_one(model, conv, node):
            folded += 1
    return folded


def _fold_one(model: ir.Model, conv: ir.Node, norm: ir.Node) -> bool:
    import onnx_ir as ir

    weight = constant(conv.inputs[1])
    params = [constant(value) for value in norm.inputs[1:5]]
    bias_value = conv.inputs[2] if len(conv.inputs) > 2 else None
    bias = constant(bias_value)
    if weight is None or any(p is None for p in params) or (bias_value is not None and bias is None):
        return False
    g, beta, mean, var = (np.asarray(p, np.float64) for p in params)
    scale = g / np.sqrt(var + norm.attributes.get_float("epsilon", 1e-5))
    new_weight = weight.astype(np.float64) * scale.reshape(-1, *([1] * (weight.ndim - 1)))
    new_bias = ((bias.astype(np.float64) if bias is not None else 0.0) - mean) * scale + beta
    values = [
        add_initializer(model, f"{conv.outputs[0].name}_{kind}", array.astype(weight.dtype))
        for kind, array in (("weight", new_weight), ("bias", new_bias))
    ]
    fused = ir.node("Conv", [conv.inputs[0], *values], attributes=dict(conv.attributes))
    fused.outputs[0].name = norm.outputs[0].name
    fused.outputs[0].shape, fused.outputs[0].type = norm.outputs[0].shape, norm.outputs[0].type
    model.graph.insert_before(conv, fused)
    replace_value(model, norm.outputs[0], fused.outputs[0])
    model.graph.remove([norm, conv], safe=True)
    return True


def add_initializer(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    """Register `array` under a name that is free in the graph, and return its value."""
    import onnx_ir as ir

    taken = model.graph.initializers
    unique, n = name, 0
    while unique in taken:
        n += 1
        unique = f"{name}_{n}"
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=unique)  # of rank 0, too
    value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def replace_value(model: ir.Model, old: ir.Value, new: ir.Value) -> None:
    """Let everything that read `old`, the graph's outputs included, read `new`, which takes its shape, type and marks."""
    import onnx_ir as ir

    new.meta.update(old.meta)
    if old.shape is not None:
        new.shape, new.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def supersede(model: ir.Model, old: ir.Value, new: ir.Value) -> None:
    """Let `new` take the place of `old`, and remove the node that computed `old` where nothing reads it any more."""
    replace_value(model, old, new)
    node = old.producer()
    if node is not None and not any(out.uses() or out.is_graph_output() for out in node.outputs):
        model.graph.remove(node, safe=True)


def strip_metadata(model: ir.Model) -> None:
    """Remove what the torch exporter leaves of local paths, stack traces and module names, and marks, in place."""
    import onnx_ir as ir

    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.doc_string = model.graph.doc_string = None
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.meta.clear()
            value.metadata_props.clear()
            value.doc_string = None
    for value in [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()
        value.doc_string = None
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy(), name=value.name)


def name_after_operators(model: ir.Model) -> None:
    """Call values by the operator that gives them where the exporter's name tells a person nothing, in place.

    A BatchNorm is traced as a tuple whose first part is taken, so that after folding a convolution is ``getitem_3``.
    """
    taken = {value.name for node in model.graph for value in node.outputs} | set(model.graph.initializers)
    for node in model.graph:
        for value in node.outputs:
            if not (value.name or "").startswith("getitem") or value.is_graph_output():
                continue
            stem = node.op_type.lower()
            names = (stem if k == 0 else f"{stem}_{k}" for k in itertools.count())
            value.name = next(name for name in names if name not in taken)
            taken.add(value.name)


def name_every_axis(model: ir.Model) -> None:
    """Let every Pad say all axes, in place, where its amounts and its input's rank are known.

    Behind a Transpose, onnxruntime (1.32 and before) moves a Pad of some axes in front of it and orders its amounts as
    though they were of all: it then fails at the first call.
    """
    for node in model.graph:
        if node.op_type != "Pad" or len(node.inputs) < 4 or node.inputs[0] is None or node.inputs[0].shape is None:
            continue
        pads, axes = constant(node.inputs[1]), constant(node.inputs[3])
        if pads is None or axes is None:
            continue
        every = np.zeros((2, len(node.inputs[0].shape)), dtype=np.int64)
        every[:, axes.reshape(-1)] = pads.reshape(2, -1)
        node.replace_input_with(1, add_initializer(model, "pads", every.reshape(-1)))
        node.resize_inputs(3 if node.inputs[2] is not None else 2)


def normalise(model: ir.Model, *, name: str) -> None:
    """Fix the versions, our functions, the input's, output's and graph's names, and drop metadata, in place."""
    import rtserve
    from rtserve.graphs.functions import declare
    from rtserve.graphs.graph import INPUT_NAME, IR_VERSION, OUTPUT_NAME

    strip_metadata(model)
    name_every_axis(model)
    declare(model)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "rtserve", rtserve.__version__
    model.domain, model.graph.name = None, name
    taken = {value.name for node in model.graph for value in node.outputs} | set(model.graph.initializers)
    for value, wanted in ((model.graph.inputs[0], INPUT_NAME), (model.graph.outputs[0], OUTPUT_NAME)):
        if value.name != wanted and wanted not in taken:
            value.name = wanted
