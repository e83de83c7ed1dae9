"""Tidying a model behind a rewrite: what is repeated or unread goes, shapes are inferred anew, marks stay."""

from __future__ import annotations

import onnx_ir as ir

from rtserve.graphs.macs import shaped_and_counted

__all__ = ["clean", "cleaned"]


def clean(model: ir.Model) -> ir.Model:
    """Return the model without repeated and unread nodes and initializers, with shapes inferred anew."""
    return cleaned(model)[0]


def cleaned(model: ir.Model) -> tuple[ir.Model, int]:
    """Return what `clean` does, and its multiply-adds."""
    from onnx_ir.passes import common

    model = common.TopologicalSortPass()(model).model
    before = {node: tuple(node.inputs) for node in model.graph}
    model = common.CommonSubexpressionEliminationPass()(model).model
    _keep_marks(model, before)
    model = common.RemoveUnusedNodesPass()(model).model
    return model, shaped_and_counted(model)


def _keep_marks(model: ir.Model, before: dict[ir.Node, tuple[ir.Value | None, ...]]) -> None:
    """Give what stands for a repeated value the marks of that, from what nodes read before and what they read now."""
    twins = [pair for node in model.graph for pair in zip(before[node], node.inputs, strict=True)]
    while twins:
        old, new = twins.pop()
        if old is None or new is None or old is new:
            continue
        new.meta.update({key: mark for key, mark in old.meta.items() if key not in new.meta})
        one, other = old.producer(), new.producer()
        if one is not None and other is not None:
            twins += zip(before[one], other.inputs, strict=True)
