"""Along which axes a node acts, and what it is where what it reads has one axis more: the same, its axes moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.ir.traits import Trait, has
from rtserve.graphs.fold import constant

__all__ = ["acts_along", "widened"]

AXES = {"CumSum": 1, "DFT": 2, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1}
"""Which input of a node, beside a reduction, whose second it is, names its axes."""


def acts_along(node: ir.Node) -> tuple[int, ...]:
    """Return the axes along which a node pads, cuts, joins, picks, reduces, normalises or changes the rank, from the first.

    Raises
    ------
    Refused
        Where they are not known.
    """
    whole = node.outputs[0] if node.op_type == "Unsqueeze" else node.inputs[0]
    shape = whole.shape if whole is not None else None
    if shape is None:
        raise Refused("its shape is not known")
    if node.op_type != "Concat" and any(v is not None and constant(v) is None for v in node.inputs[1:]):
        raise Refused("its parameters are computed")
    if node.op_type == "DFT" and (len(node.inputs) < 3 or node.inputs[2] is None):
        return (len(shape) - 2,)  # as ONNX has it
    if node.op_type == "Pad":
        return tuple(np.flatnonzero(_parameter(node, 1).reshape(2, -1).any(axis=0)).tolist())
    if has(node, Trait.REDUCES) or node.op_type in AXES:
        axes = np.atleast_1d(_parameter(node, AXES.get(node.op_type, 1)))
    else:
        axes = np.array([node.attributes.get_int("axis", -1 if has(node, Trait.NORMALISES) else 0)])
    return tuple(int(axis) % len(shape) for axis in axes)


def widened(node: ir.Node, at: int) -> tuple[dict[int, np.ndarray], dict[str, Any]]:
    """Return what changes of a node where what it reads gets an axis of its own: constants by their place, attributes.

    Parameters
    ----------
    node : Node
        It reads its first input, a Concat all of them; the others are its parameters.
    at : int
        Where the axis is put in.

    Raises
    ------
    Refused
        Where it is not known.
    """
    if node.op_type == "BatchNormalization":
        if len(node.outputs) != 1 or at < 2:
            raise Refused("it is in training, or its channels move")
        return {}, {}
    if node.op_type == "Resize":
        return _resized(node, at)
    if node.op_type == "Pad":
        pads = _parameter(node, 1)
        if any(node.inputs[3:]):
            raise Refused("it names its axes")
        return {1: np.insert(pads, [at, len(pads) // 2 + at], 0)}, {}
    moved = [axis + (axis >= at) for axis in acts_along(node)]
    if has(node, Trait.REDUCES) or node.op_type == "Slice":
        return {AXES.get(node.op_type, 1): np.array(moved, np.int64)}, {}
    if has(node, Trait.JOINS | Trait.NORMALISES):
        return {}, {"axis": moved[0]}
    raise Refused("what it does along axes is not known")


def _resized(node: ir.Node, at: int) -> tuple[dict[int, np.ndarray], dict[str, Any]]:
    scales = _parameter(node, 2)
    if node.inputs[1] is not None or any(node.inputs[3:]) or "axes" in node.attributes:
        raise Refused("a resize of another kind")
    if node.attributes.get_string("mode", "nearest") != "nearest":
        raise Refused("it weighs neighbours")
    return {2: np.insert(scales, at, 1.0)}, {}


def _parameter(node: ir.Node, place: int) -> np.ndarray:
    array = constant(node.inputs[place]) if len(node.inputs) > place else None
    if array is None or not array.size:
        raise Refused("a parameter is computed, or left out")
    return array
