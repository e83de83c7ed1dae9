"""Joining as the plan says it, without any optimisation: every branch computed by itself.

This graph is what a fused graph *means*: the optimised one is compared with it in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import InputError
from rtserve.fusion.ir.landmarks import mark_layers
from rtserve.fusion.plan import Calibration, FusionPlan, Merge
from rtserve.graphs.emit import Emitter, inline
from rtserve.graphs.fold import fold_constants, lift_constants
from rtserve.graphs.functions import DOMAIN, declare, written_out
from rtserve.graphs.graph import INPUT_NAME, IR_VERSION, OPSET, OUTPUT_NAME, Graph
from rtserve.graphs.macs import renew_shapes
from rtserve.graphs.plain_forms import keep_digits

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.spec import InputSpec, OutputSpec

__all__ = ["add_calibration", "add_merge", "empty_model", "join", "prepare_member"]


def prepare_member(graph: Graph, name: str) -> ir.Model:
    """Return a copy of a member's model in our own form: opset 20, constants as initializers, functions inlined.

    Of one made elsewhere, whose shapes are inferred anew, the arithmetic of shapes is done and branches are taken that are
    known. What is rounded stays as it is.

    Raises
    ------
    InputError
        Where the batch is fixed, the opset cannot be converted, a type other than float32 goes in or out, or it has
        control flow or operators outside the standard.
    """
    from onnx_ir.passes import common

    model = graph.clone_model()
    if graph.provenance.kind == "foreign":
        model = _modern(model, name)
        model = common.RemoveInitializersFromInputsPass()(written_out(model, ours=True)).model
    model = written_out(model, ours=False)
    lift_constants(model)
    if graph.provenance.kind == "foreign":
        for value in (out for node in model.graph.all_nodes() for out in node.outputs if not out.is_graph_output()):
            value.shape = None
        renew_shapes(model)
        fold_constants(model, whole=True)
    keep_digits(model)
    _require_plain(model, name)
    return model


def _require_plain(model: ir.Model, name: str) -> None:
    """Raise `InputError` where a member's model is nothing that can stand in a bigger graph as it is."""
    import onnx_ir as ir

    for value, what in ((model.graph.inputs[0], "input"), (model.graph.outputs[0], "output")):
        if value.dtype != ir.DataType.FLOAT:
            raise InputError(f"the {what} of {name} is {value.dtype}, not float32", hint="export it in float32")
        if value.shape is not None and isinstance(value.shape[0], int):
            raise InputError(
                f"the batch of {name} is fixed: its {what} has shape {value.shape}",
                hint=f"make it take any batch: rtserve annotate {name} -o NEW.onnx",
            )
    others = sorted({f"{node.domain}.{node.op_type}" for node in model.graph if not _stands(node, model)})
    if others:
        raise InputError(
            f"{name} uses operators outside the standard: {', '.join(others[:5])}",
            hint="fuse the graph before an engine optimised it; fused graphs are plain standard ONNX",
        )
    graphs = ir.AttributeType.GRAPH
    control = [node for node in model.graph if any(a.type == graphs for a in node.attributes.values())]
    if control:
        raise InputError(
            f"{name} has control flow that depends on its input: {_called(control[0])}",
            hint="write that step without if and loops over data (torch.where), or export the network with"
            " rtserve.export(module, example), which traces the one way that windows take",
        )


def _called(node: ir.Node) -> str:
    """Return a node by what it gives, and what it reads."""
    read = ", ".join(str(value.name) for value in node.inputs if value is not None)
    return f"{node.op_type} {node.outputs[0].name}" + (f" (of {read})" if read else "")


def _stands(node: ir.Node, model: ir.Model) -> bool:
    """Whether a node is standard ONNX, or a function of our own that the model declares."""
    return node.domain in ("", "ai.onnx") or (node.domain == DOMAIN and node.op_identifier() in model.functions)


def _modern(model: ir.Model, name: str) -> ir.Model:
    """Return a foreign model converted to our opset."""
    import onnx
    import onnx_ir as ir

    version = model.opset_imports.get("", model.opset_imports.get("ai.onnx", OPSET))
    if version == OPSET:
        return model
    try:
        converted = onnx.version_converter.convert_version(ir.serde.serialize_model(model), OPSET)
    except Exception as error:
        raise InputError(
            f"{name} uses opset {version}, which cannot be converted to {OPSET} ({str(error).splitlines()[0][:120]})",
            hint=f"export it with opset {OPSET}",
        ) from None
    return ir.serde.deserialize_model(converted)


def empty_model(n_chans: int, n_times: int) -> ir.Model:
    """Return a model with the input (batch, n_chans, n_times) and nothing else."""
    import onnx_ir as ir

    x = ir.Value(name=INPUT_NAME, shape=ir.Shape(["batch", n_chans, n_times]), type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": OPSET}, name="rtserve")
    return ir.Model(graph, ir_version=IR_VERSION)


def set_output(graph: ir.Graph, value: ir.Value, n_outputs: int) -> None:
    """Make `value` the graph's output (batch, n_outputs) under our name."""
    import onnx_ir as ir

    if value.producer() is None:
        value = Emitter(graph)("Identity", value)
    value.name = OUTPUT_NAME
    value.shape, value.type = ir.Shape(["batch", n_outputs]), ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.clear()
    graph.outputs.append(value)


def join(members: Mapping[str, ir.Model], plan: FusionPlan, inputs: InputSpec, outputs: OutputSpec) -> ir.Model:
    """Return the plan as one unoptimised model.

    Parameters
    ----------
    members : mapping of str to Model
        The different members, as `prepare_member` gives them, by digest.
    plan : FusionPlan
        With bound views.
    inputs, outputs : InputSpec, OutputSpec
        What all members read and give.
    """
    model = empty_model(inputs.n_chans, inputs.n_times)
    emit = Emitter(model.graph, prefix="view")
    x = model.graph.inputs[0]
    views = [view.linear(inputs.n_chans, inputs.n_times).onnx(emit, x) for view in plan.views]
    for value in views:
        value.shape = x.shape
    marked = {d: mark_layers(members[d].clone(), number, views=len(views)) for d, number in plan.distinct.items()}
    branches: list[ir.Value] = []
    for index, source in enumerate(marked[digest].graph for digest in plan.members):
        emit.prefix = f"m{index}"
        shared = {
            name: emit.constant(value.const_value.numpy(), name=f"m{index}.{name}", keep=True)
            for name, value in source.initializers.items()
            if value.const_value is not None
        }
        for number, value in enumerate(views):
            emit.prefix = f"m{index}.v{number}"
            branches.append(inline(emit, source, value, shared))
    emit.prefix = "merge"
    set_output(
        model.graph, add_calibration(emit, add_merge(emit, branches, plan.merge), plan.calibration), outputs.n_outputs
    )
    declare(model)
    return model


def add_merge(emit: Emitter, outputs: Sequence[ir.Value], merge: Merge) -> ir.Value:
    """Merge branch outputs, each (batch, n_outputs), into one of that shape.

    Order statistics say nothing about NaN, so the sum of all branches times 0 is added: a branch that is not finite
    makes the result not finite, as it does for a mean.
    """
    n = len(outputs)
    if n == 1 and not (merge.kind == "weighted" and merge.weights != (1.0,)):
        return outputs[0]
    if merge.kind == "mean":
        return emit("Mean", *outputs)
    if merge.kind == "weighted":
        parts = [emit("Mul", y, np.float32(w)) for y, w in zip(outputs, merge.weights_for(n), strict=True) if w != 0.0]
        return emit("Sum", *parts) if len(parts) > 1 else parts[0]
    stacked = emit("Concat", *[emit("Unsqueeze", y, [2]) for y in outputs], axis=2)
    cut = merge.trimmed(n)
    ranked, _ = emit.many("TopK", stacked, [n], n=2, axis=2, largest=1, sorted=1)
    kept = emit.slice(ranked, 2, cut, n - cut) if cut else ranked
    middle = emit("ReduceMean", kept, [2], keepdims=0)
    guard = emit("Mul", emit("ReduceSum", stacked, [2], keepdims=0), np.float32(0.0))
    return emit("Add", middle, guard)


def add_calibration(emit: Emitter, y: ir.Value, calibration: Calibration) -> ir.Value:
    """Scale, offset, clip, in this order; what is neutral adds no node."""
    if calibration.scale != 1.0:
        y = emit("Mul", y, np.float32(calibration.scale))
    if calibration.offset != 0.0:
        y = emit("Add", y, np.float32(calibration.offset))
    low, high = (None if bound is None else np.float32(bound) for bound in (calibration.low, calibration.high))
    if high is not None:
        return emit("Clip", y, low, high)
    return y if low is None else emit("Clip", y, low)
