"""What a node of rank 3 is on (batch, channels, 1, time): the same, its axes and what it says of each axis moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.ir.passes import Refused
from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Changes", "widened"]

Changes = tuple[dict[int, np.ndarray], dict[str, Any]]
"""Constant inputs by their place, and attributes by name."""


def widened(node: ir.Node) -> Changes | None:
    """Return what changes of a node where its first input gets an axis of length 1 at 2; None where it is not known."""
    try:
        return _KNOWN[node.op_type](node) if node.op_type in _KNOWN else None
    except Refused:
        return None


def _moved(axis: int) -> int:
    return axis % 3 + (axis % 3 >= 2)


def _known(node: ir.Node, place: int) -> np.ndarray:
    array = constant(node.inputs[place]) if len(node.inputs) > place else None
    if array is None:
        raise Refused("a parameter is computed, or left out")
    return array


def _slice(node: ir.Node) -> Changes:
    return {3: np.array([_moved(int(axis)) for axis in _known(node, 3)], np.int64)}, {}


def _split(node: ir.Node) -> Changes:
    return {}, {"axis": _moved(node.attributes.get_int("axis", 0) or 0)}


def _batchnorm(node: ir.Node) -> Changes:
    if len(node.outputs) != 1:
        raise Refused("it is in training")
    return {}, {}


def _pad(node: ir.Node) -> Changes:
    pads = _known(node, 1)
    if pads.size != 6 or any(node.inputs[3:]) or node.attributes.get_string("mode", "constant") != "constant":
        raise Refused("a pad of another kind")
    return {1: np.insert(pads, [2, 5], 0)}, {}


def _resize(node: ir.Node) -> Changes:
    scales = _known(node, 2)
    if scales.size != 3 or node.inputs[1] is not None or any(node.inputs[3:]) or "axes" in node.attributes:
        raise Refused("a resize of another kind")
    if node.attributes.get_string("mode", "nearest") != "nearest":
        raise Refused("it weighs neighbours")
    return {2: np.insert(scales, 2, 1.0)}, {}


_KNOWN: dict[str, Callable[[Any], Changes]] = {
    "Slice": _slice,
    "Split": _split,
    "BatchNormalization": _batchnorm,
    "Pad": _pad,
    "Resize": _resize,
}
