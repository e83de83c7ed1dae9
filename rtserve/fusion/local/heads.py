r"""Attention heads apart once, not once for queries, keys and values each.

A dense layer that holds queries, keys and values side by side, :math:`(b, t, 3 h d)`, is split, and every part reshaped to
:math:`(b, t, h, d)` and permuted to :math:`(b, h, t, d)`. Reshaped and permuted first, to :math:`(b, 3h, t, d)`, the
three parts are slices of one array; keys that are wanted as :math:`(b, h, d, t)` are permuted by the product itself.
"""

from __future__ import annotations

import onnx_ir as ir

from rtserve.fusion.ir.nodes import only_reader
from rtserve.fusion.ir.passes import PassResult, each
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]

APART, TURNED = (0, 2, 1, 3), (0, 2, 3, 1)
"""Permutations of (batch, time, heads, width): heads in front, and the same with width before time."""


def run(model: ir.Model) -> PassResult:
    """Rewrite every Split whose parts become heads, in place."""
    return each(model, lambda _, node: node.op_type == "Split" and _once(model, node), "{} groups of heads apart once")


def _heads_of(part: ir.Value) -> tuple[ir.Node, tuple[int, ...], tuple[int, int, int]] | None:
    """Return the Transpose that ends a part's way, its permutation, and (time, heads, width); None for another way."""
    reshape = only_reader(part, "Reshape")
    permute = only_reader(reshape.outputs[0], "Transpose") if reshape is not None else None
    if reshape is None or permute is None:
        return None
    old, new = part.shape, reshape.outputs[0].shape
    perm = tuple(permute.attributes.get_ints("perm") or ())
    if old is None or new is None or len(old) != 3 or len(new) != 4 or perm not in (APART, TURNED):
        return None
    sizes = [d for d in (*list(old)[1:], *list(new)[1:]) if isinstance(d, int)]
    if len(sizes) != 5 or sizes[0] != sizes[2] or sizes[1] != sizes[3] * sizes[4]:
        return None
    return permute, perm, (sizes[2], sizes[3], sizes[4])


def _once(model: ir.Model, split: ir.Node) -> int:
    found = [_heads_of(part) for part in split.outputs]
    ways = [way for way in found if way is not None]
    shape = split.inputs[0].shape if split.inputs[0] is not None else None
    if len(ways) != len(found) or len({way[2] for way in ways}) != 1 or shape is None:
        return 0
    if split.attributes.get_int("axis", 0) not in (2, -1) or (
        len(split.inputs) > 1 and constant(split.inputs[1]) is None
    ):
        return 0
    time, heads, width = ways[0][2]
    n = len(ways)
    emit = Emitter(model.graph, before=split, prefix="heads")
    apart = emit("Transpose", emit("Reshape", split.inputs[0], [-1, time, n * heads, width]), perm=list(APART))
    parts = emit.many("Split", apart, [heads] * n, n=n, axis=1)
    for part, (permute, perm, _) in zip(parts, ways, strict=True):
        done = part if perm == APART else emit("Transpose", part, perm=[0, 1, 3, 2])
        supersede(model, permute.outputs[0], done)
    return n
