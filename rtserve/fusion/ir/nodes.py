"""What a rewrite asks about nodes: who computes a value, who alone reads it, along which axes, with which attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.ir.traits import Trait, has
from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.emit import Emitter

__all__ = ["attributes_of", "auto_padded", "axes_of", "chain_of", "computing", "geometry_of", "inner_dims", "only_reader",
           "private_producer", "producer", "reread", "stepped"]  # fmt: skip


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """Return the attributes of a node by name, as they are given to another."""
    return {key: attribute.value for key, attribute in node.attributes.items()}


def axes_of(node: ir.Node) -> tuple[int, ...] | None:
    """Return the axes of a Squeeze, an Unsqueeze or a reduction; None where they are not constant or are no axes."""
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return tuple(int(a) for a in np.atleast_1d(axes)) if axes is not None and axes.ndim < 2 else None


def auto_padded(node: ir.Node) -> bool:
    """Whether a convolution or a pool leaves its padding to the engine instead of naming it."""
    return node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "")


def geometry_of(node: ir.Node, rank: int) -> tuple[list[int], list[int], list[int]]:
    """Return the strides, dilations and pads of a convolution or a pool over so many axes, plain where it names none."""
    strides, dilations = (list(node.attributes.get_ints(name) or [1] * rank) for name in ("strides", "dilations"))
    return strides, dilations, list(node.attributes.get_ints("pads") or [0] * 2 * rank)


def inner_dims(value: ir.Value | None) -> list[int] | None:
    """Return the shape behind the first axis, the batch; None where it is not known."""
    shape = value.shape if value is not None else None
    if shape is None or not all(isinstance(d, int) for d in list(shape)[1:]):
        return None
    return [int(d) for d in list(shape)[1:]]  # type: ignore[arg-type]


def producer(value: ir.Value | None) -> ir.Node | None:
    """Return what computes a value; None for an input, a constant, and where there is no value."""
    return value.producer() if value is not None else None


def private_producer(value: ir.Value | None) -> ir.Node | None:
    """Return what computes a value that is read once; None otherwise, and for the graph's output."""
    if value is None or len(value.uses()) != 1 or value.is_graph_output():
        return None
    return value.producer()


def chain_of(node: ir.Node) -> list[ir.Node]:
    """Return a node and the pointwise ones behind it, each the only reader of what is in front of it."""
    found = [node]
    while (
        (reader := only_reader(found[-1].outputs[0]))
        and has(reader, Trait.POINTWISE)
        and reader.inputs[0] is found[-1].outputs[0]
    ):
        found.append(reader)
    return found


def computing(values: Iterable[ir.Value | None], follows: Callable[[ir.Value], bool]) -> set[ir.Node]:
    """Return the nodes that some values come from, each value followed to its node or not."""
    found: set[ir.Node] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        node = value.producer() if value is not None and follows(value) else None
        if node is not None and node not in found:
            found.add(node)
            stack += node.inputs
    return found


def stepped(emit: Emitter, steps: Iterable[ir.Node], value: ir.Value) -> ir.Value:
    """Return a value after the steps, of one computed input each, that are done with another."""
    for step in steps:
        value = emit(step.op_type, value, *step.inputs[1:], **attributes_of(step))
    return value


def reread(readers: Iterable[ir.Node], old: ir.Value, new: ir.Value) -> None:
    """Let some of the nodes that read a value read another in its place."""
    for reader in readers:
        for place, value in enumerate(reader.inputs):
            if value is old:
                reader.replace_input_with(place, new)


def only_reader(value: ir.Value, op_type: str = "") -> ir.Node | None:
    """Return what alone reads a value, once, if it is of that type, where one is given; None for the graph's output."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or op_type not in ("", uses[0].node.op_type):
        return None
    return uses[0].node
