r"""Wide average pools as pools of blocks: :math:`\frac1{mb} \sum_{k < mb} x[st + k]` is the mean of m means of b samples.

Windows of 75 that move by 15 hold five blocks of 15 each, and share four of them: a block is added up once, and what a
stream keeps is a number for each block. Nothing is added up from step to step, so nothing drifts.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.engines.onnxruntime import BLOCK
from rtserve.fusion.ir.nodes import auto_padded, inner_dims
from rtserve.fusion.lower.onnxruntime.pool import SMALLEST_WINDOW
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["as_means", "in_blocks"]


def in_blocks(model: ir.Model) -> int:
    """Rewrite every average pool whose windows overlap by whole blocks, in place; return how many there were."""
    found = [(node, sizes) for node in model.graph if (sizes := _blocks(node)) is not None]
    for node, (axis, block, blocks, stride) in found:
        rank = len(node.attributes.get_ints("kernel_shape") or ())
        emit = Emitter(model.graph, before=node, prefix="blocks")

        def along(size: int, axis: int = axis, rank: int = rank) -> list[int]:
            return [size if k == axis else 1 for k in range(rank)]

        y = emit("AveragePool", node.inputs[0], kernel_shape=along(block), strides=along(block))
        y = emit("AveragePool", y, kernel_shape=along(blocks), strides=along(stride // block))
        supersede(model, node.outputs[0], y)
    return len(found)


def as_means(model: ir.Model) -> int:
    """Rewrite pools of blocks side by side as means, for onnxruntime, in place; return how many there were.

    Its pooling walks a window number by number where the channels do not fill its blocks of them, and a mean along an axis
    is vectorised; unlike a product with a matrix, neither puts a number that is none into other blocks.
    """
    found = [(node, sizes) for node in model.graph if (sizes := _side_by_side(node)) is not None]
    for node, (axis, block, dims) in found:
        emit = Emitter(model.graph, before=node, prefix="means")
        n, x = dims[axis] // block, node.inputs[0]
        assert x is not None
        x = emit.slice(x, axis, 0, n * block) if n * block < dims[axis] else x
        parts = emit("Reshape", x, np.array([-1, *dims[1:axis], n, block]))
        supersede(model, node.outputs[0], emit("ReduceMean", parts, [axis + 1], keepdims=len(dims) - axis - 1))
    return len(found)


def _side_by_side(node: ir.Node) -> tuple[int, int, list[int]] | None:
    """Return where a pool's windows lie side by side: (axis, size of a window, dimensions of what it reads)."""
    wide, inner = _along_one_axis(node), inner_dims(node.inputs[0] if node.inputs else None)
    if wide is None or inner is None:
        return None
    axis, size, stride = wide
    dims = [0, *inner]
    fits = size == stride and size >= SMALLEST_WINDOW and dims[1] % BLOCK != 0 and dims[axis + 2] >= size
    fits = fits and dims[axis + 3 :] in ([], [1])
    return (axis + 2, size, dims) if fits else None


def _blocks(node: ir.Node) -> tuple[int, int, int, int] | None:
    """Return along which axis a pool's windows are made of blocks: (axis, size of a block, blocks, stride)."""
    wide = _along_one_axis(node)
    if wide is None:
        return None
    axis, size, stride = wide
    block = gcd(size, stride)
    return None if block == 1 or size == block or stride >= size else (axis, block, size // block, stride)


def _along_one_axis(node: ir.Node) -> tuple[int, int, int] | None:
    """Return along which axis of its attributes an average pool without padding works: (axis, size, stride)."""
    if node.op_type != "AveragePool" or auto_padded(node) or node.attributes.get_int("ceil_mode", 0) != 0:
        return None
    kernel = node.attributes.get_ints("kernel_shape") or ()
    strides = node.attributes.get_ints("strides") or (1,) * len(kernel)
    dilated = any(size != 1 for size in node.attributes.get_ints("dilations") or ())
    if dilated or any(node.attributes.get_ints("pads") or ()):
        return None
    wide = [axis for axis, size in enumerate(kernel) if size != 1]
    if len(wide) != 1 or any(stride != 1 for axis, stride in enumerate(strides) if axis not in wide):
        return None
    return wide[0], kernel[wide[0]], strides[wide[0]]
