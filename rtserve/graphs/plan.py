"""From a graph to the plan that the torch executor runs: nodes as JSON, weights as tensors, shapes resolved.

Shapes that an exporter computes from the batch size (Shape, Gather, Concat, ...) become numbers: `rtserve.graphs.sizes`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import ExportError
from rtserve.graphs.functions import DOMAIN, NAMES, written_out
from rtserve.graphs.sizes import batches_of, drop_unread, resolve_sizes, store_sizes, to_tensor

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Tensor

    from rtserve.graphs.graph import Graph
    from rtserve.runtime.executor import Program

__all__ = ["Plan", "graph_to_plan"]

Plan = dict[str, Any]


def graph_to_plan(graph: Graph, *, written: bool = False) -> tuple[Plan, dict[str, Tensor]]:
    """Return what `rtserve.runtime.executor.PlanModule` needs to run `graph`.

    Parameters
    ----------
    graph : Graph
        What is to run.
    written : bool
        Whether functions of our own are written out, for an engine that has none of its own for them.

    Returns
    -------
    plan : dict
        JSON values: schema, opset, input, output, nodes, tensors (names), sizes.
    tensors : dict of str to torch.Tensor
        The weights, by the names that the plan uses.

    Raises
    ------
    ExportError
        Where the graph has an operator, or a form of one, that the executor lacks; all missing ones are named.
    """
    from rtserve.runtime.executor import missing_operators

    reader, plan = read_model(graph.clone_model(), written=written)
    missing = missing_operators(plan)
    if missing:
        raise ExportError(
            f"the submission's executor has no operator {', '.join(missing)}",
            hint="rewrite the network without it, or add the operator to rtserve/runtime/",
        )
    drop_unread(plan, reader.tensors)
    resolve_sizes(plan, reader.tensors, graph, _bind)
    plan["tensors"] = sorted(reader.tensors)
    tensors = dict(sorted(reader.tensors.items()))
    _try(plan, tensors, graph)
    return plan, tensors


def _bind(plan: Plan, tensors: Mapping[str, Tensor]) -> Program:
    """Return a plan as a program; `ExportError` where the executor lacks a form of an operator."""
    import torch

    from rtserve.runtime.executor import Program
    from rtserve.runtime.node import UnsupportedOperatorError

    try:
        with torch.no_grad():
            return Program(plan, tensors, torch.zeros(()))
    except UnsupportedOperatorError as error:
        raise ExportError(
            f"the submission's executor has no {error}",
            hint="rewrite the network without this form, or add it to rtserve/runtime/",
        ) from None


def _try(plan: Plan, tensors: Mapping[str, Tensor], graph: Graph) -> None:
    """Run a plan once on noise.

    Raises
    ------
    ExportError
        Where torch has no kernel for what an operator asks (it is named), or the answer has another shape than the graph's.
    """
    import torch

    program, spec = _bind(plan, tensors), graph.input_spec
    x = torch.randn(batches_of(graph)[0], spec.n_chans, spec.n_times, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            y = program.run(x)
    except Exception as error:  # whatever torch says, it is about a form that does not run
        raise ExportError(
            f"the submission's executor cannot run {_failing(plan, program, x)}: {str(error).splitlines()[0][:300]}",
            hint="rewrite the network without this form; onnxruntime and OpenVINO may run it all the same",
        ) from None
    wanted = (len(x) if _answers_each_window(graph) else len(y), graph.output_spec.n_outputs)
    if tuple(y.shape) != wanted:
        raise ExportError(
            f"the submission's executor gives {tuple(y.shape)} for {len(x)} windows, not {wanted}",
            hint="does the graph give (batch, n_outputs)? rtserve.graphs.plan made its plan",
        )


def _answers_each_window(graph: Graph) -> bool:
    """Whether a graph declares as many answers as windows, by the same name or number."""
    values = graph.model.graph
    given = next(value for value in values.inputs if value.name not in values.initializers)
    first, last = (value.shape[0] if value.shape is not None else None for value in (given, values.outputs[0]))
    return str(getattr(first, "value", first)) == str(getattr(last, "value", last))


def _failing(plan: Plan, program: Program, x: Tensor) -> str:
    """Return the operator, and the value, at which a program stops on `x`."""

    def fails(node: Mapping[str, Any]) -> bool:
        try:
            program.trace(x, [name for name in node["outputs"] if name])
        except Exception:
            return True
        return False

    node = plan["nodes"][min(bisect_left(plan["nodes"], True, key=fails), len(plan["nodes"]) - 1)]
    return f"{node['op']} (value {next(filter(None, node['outputs']))})"


def read_model(model: ir.Model, *, written: bool = False) -> tuple[_Reader, Plan]:
    """Return a model as a plan that still computes its shapes, and the reader that holds its tensors; it is used up."""
    from rtserve.runtime.executor import PLAN_SCHEMA

    model = written_out(model, ours=written)
    reader = _Reader(model)
    plan: Plan = {
        "schema": PLAN_SCHEMA,
        "opset": model.opset_imports.get("", 20),
        "input": reader.names[reader.inputs[0]] if reader.inputs else "",
        "output": reader.name(reader.outputs[0]),
        "nodes": reader.nodes,
        "sizes": reader.sizes,
    }
    return reader, plan


class _Reader:
    """Reads an onnx_ir model: names that are safe as buffers, attributes as Python values."""

    def __init__(self, model: ir.Model) -> None:
        self.names: dict[Any, str] = {}
        self.taken: set[str] = {""}
        self.sizes: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[dict[str, Any]] = []
        self.ours = {(domain, name) for domain, name, _ in model.functions if domain == DOMAIN and name in NAMES}
        self.inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
        self.outputs = list(model.graph.outputs)
        for value in self.inputs:
            self.name(value)
            require_type(value.dtype, f"input {value.name}")
        for value in model.graph.initializers.values():
            if value.const_value is None:
                raise ExportError(f"initializer {value.name} has no values", hint="export with external_data=False")
            require_type(value.const_value.dtype, f"initializer {value.name}")
            self.constant(value, value.const_value.numpy())
        for node in model.graph:
            self.node(node)

    def name(self, value: Any, prefix: str = "") -> str:
        """Return the plan's name of a value: letters, digits and underscores, never used twice."""
        if value is None:
            return ""
        if value not in self.names:
            base = prefix + (re.sub(r"\W", "_", value.name or "") or "value")
            name, count = base, 1
            while name in self.taken:
                count += 1
                name = f"{base}_{count}"
            self.taken.add(name)
            self.names[value] = name
        return self.names[value]

    def constant(self, value: Any, array: np.ndarray) -> None:
        """Keep an initializer: small integers as numbers, the rest as a tensor."""
        name = self.name(value, "t_")
        self.keep(name, array)

    def keep(self, name: str, array: np.ndarray) -> None:
        """Keep an array under a name of the plan."""
        if not store_sizes(self.sizes, name, array):
            self.tensors[name] = to_tensor(array)

    def node(self, node: ir.Node) -> None:
        """Read one node; a Constant becomes a constant of the plan."""
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in self.ours:
            raise ExportError(
                f"operator {node.domain}::{node.op_type} is not standard ONNX",
                hint="export with standard operators only",
            )
        attrs = {name: _attribute(node, attr) for name, attr in node.attributes.items()}
        if node.op_type == "Constant":
            self.constant(node.outputs[0], _constant_array(attrs))
            return
        if node.op_type == "ConstantOfShape" and "value" in attrs:
            attrs = {"value": attrs["value"].item(), "value_type": int(node.attributes["value"].value.dtype)}
        arrays = [name for name, value in attrs.items() if isinstance(value, np.ndarray)]
        if arrays:
            raise ExportError(f"{node.op_type} with a tensor as attribute {arrays[0]}", hint="pass it as an input")
        self.nodes.append(
            {
                "op": node.op_type,
                "inputs": [self.name(value) for value in node.inputs],
                "outputs": [self.name(value) for value in node.outputs],
                "attrs": attrs,
            }
        )


def require_type(kind: Any, what: str) -> None:
    """Raise `ExportError` where values are of a type that the executor does not hold: strings, uint16, float8, ..."""
    from rtserve.runtime.node import DTYPES

    if kind is None or int(kind) not in DTYPES:
        name = "no plain tensor" if kind is None else f"of type {getattr(kind, 'name', kind)}"
        raise ExportError(
            f"{what} is {name}, which the submission's executor does not hold",
            hint="export the network in float32, with int64 and bool beside it",
        )


def _attribute(node: ir.Node, attr: Any) -> Any:
    """Return an attribute as a JSON value, or as an array where it is a tensor."""
    import onnx_ir as ir

    value = attr.value
    if attr.type == ir.AttributeType.TENSOR:
        require_type(value.dtype, f"attribute {attr.name} of {node.op_type}")
        return value.numpy()
    if attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        raise ExportError(
            f"operator {node.op_type} runs a graph of its own (attribute {attr.name})",
            hint="export the network without control flow that depends on the data",
        )
    if attr.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        return list(value)
    if attr.type not in (ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING):
        raise ExportError(
            f"operator {node.op_type} has attribute {attr.name} of kind {attr.type.name}, which the executor does not read",
            hint="export the network with plain numbers, texts and tensors",
        )
    return value


def _constant_array(attrs: Mapping[str, Any]) -> np.ndarray:
    """Return what a Constant node holds, whichever attribute it uses."""
    (name, value), *_ = attrs.items()
    if name.startswith("value_string"):
        raise ExportError("a Constant holds text, which the submission's executor does not", hint="leave it out")
    types: dict[str, Any] = {"value_int": np.int64, "value_ints": np.int64}
    return np.asarray(value) if name == "value" else np.asarray(value, dtype=types.get(name, np.float32))
