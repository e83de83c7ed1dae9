r"""Wide average pools as pools of blocks: :math:`\frac1{mb} \sum_{k < mb} x[st + k]` is the mean of m means of b samples.

Windows of 75 that move by 15 hold five blocks of 15 each, and share four of them: a block is added up once, and what a
stream keeps is a number for each block. Nothing is added up from step to step, so nothing drifts.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

from rtserve.fusion.ir.nodes import auto_padded
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["in_blocks"]


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


def _blocks(node: ir.Node) -> tuple[int, int, int, int] | None:
    """Return along which axis a pool's windows are made of blocks: (axis, size of a block, blocks, stride)."""
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
    (axis,) = wide
    block = gcd(kernel[axis], strides[axis])
    if block == 1 or kernel[axis] == block or strides[axis] >= kernel[axis]:
        return None
    return axis, block, kernel[axis] // block, strides[axis]
