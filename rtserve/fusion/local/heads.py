r"""Attention heads apart once, not once for queries, keys and values each.

A dense layer that holds queries, keys and values side by side, :math:`(b, t, 3 h d)`, is split, and every part reshaped to
:math:`(b, t, h, d)` and permuted to :math:`(b, h, t, d)`. Reshaped and permuted first, to :math:`(b, 3h, t, d)`, the
three parts are slices of one array; keys that are wanted as :math:`(b, h, d, t)` are permuted by the product itself.
"""

from __future__ import annotations

import onnx_ir as ir

from rtserve.fusion.ir.nodes import inner_dims, only_reader
from rtserve.fusion.ir.passes import PassResult, each
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede

__all__ = ["run"]

APART, TURNED = (0, 2, 1, 3), (0, 2, 3, 1)
"""Permutations of (batch, time, heads, width): heads in front, and the same with width before time."""


def run(model: ir.Model) -> PassResult:
    """Rewrite every Split whose parts become heads, in place."""
    return each(model, lambda _, node: node.op_type == "Split" and _once(model, node), "{} groups of heads apart once")


def _heads_of(part: ir.Value) -> tuple[ir.Node, tuple[int, ...], list[int]] | None:
    """Return the Transpose that ends a part's way, its permutation, and (time, heads, width); None for another way."""
    reshape = only_reader(part, "Reshape")
    permute = only_reader(reshape.outputs[0], "Transpose") if reshape is not None else None
    if reshape is None or permute is None:
        return None
    old, new = inner_dims(part), inner_dims(reshape.outputs[0])
    perm = tuple(permute.attributes.get_ints("perm") or ())
    if old is None or new is None or len(new) != 3 or perm not in (APART, TURNED):
        return None
    return (permute, perm, new) if old == [new[0], new[1] * new[2]] else None


def _once(model: ir.Model, split: ir.Node) -> int:
    found = [_heads_of(part) for part in split.outputs]
    ways = [way for way in found if way is not None]
    if not ways or len(ways) < len(found) or any(way[2] != ways[0][2] for way in ways):
        return 0
    if split.attributes.get_int("axis", 0) not in (2, -1) or any(constant(v) is None for v in split.inputs[1:]):
        return 0
    (time, heads, width), n = ways[0][2], len(ways)
    emit = Emitter(model.graph, before=split, prefix="heads")
    apart = emit("Transpose", emit("Reshape", split.inputs[0], [-1, time, n * heads, width]), perm=list(APART))
    parts = emit.many("Split", apart, [heads] * n, n=n, axis=1)
    for part, (permute, perm, _) in zip(parts, ways, strict=True):
        done = part if perm == APART else emit("Transpose", part, perm=[0, 1, 3, 2])
        supersede(model, permute.outputs[0], done)
    return n
