r"""Assembling a plan from optimised members: alike members stacked, views sharing their first stage, tails merged.

Views lie on the batch axis behind the shared stage: (views x batch, ...). A mean or weighted sum over branches commutes
with the last dense layer, so it moves in front of it: members become one Gemm whose weight carries the member weights,
:math:`\sum_m w_m (W_m h_m + b_m) = [w_1 W_1 \dots w_N W_N]\,[h_1; \dots; h_N] + \sum_m w_m b_m`, and views are summed
before it. Never with a median or a trimmed mean, whose branches stay apart to the end. Branches of weight zero and
repeated branches are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.value import static_dims
from rtserve.fusion.ir.conv import Conv1d, any_conv_of
from rtserve.fusion.ir.joint import DENSE, Apart, Signal, join, put_apart
from rtserve.fusion.ir.linear_view import LinearView
from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.join import add_calibration, add_merge, empty_model, set_output
from rtserve.fusion.plan import FusionPlan
from rtserve.fusion.program.affine_end import share_affine
from rtserve.fusion.program.stack import Stacker, signature
from rtserve.fusion.program.stack_ops import HANDLERS, gemm_weights
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant
from rtserve.graphs.functions import declare

__all__ = ["assemble"]


@dataclass(kw_only=True)
class _Group:
    """Members of one signature with the weights of their branches (members x views)."""

    number: int
    models: list[ir.Model] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)


def assemble(
    models: Sequence[tuple[str, ir.Model]],
    plan: FusionPlan,
    *,
    n_outputs: int,
    stack: bool = True,
    share: bool = True,
) -> tuple[ir.Model, tuple[str, ...]]:
    """Return the plan as one model, and what was done.

    Parameters
    ----------
    models : sequence of (digest, Model)
        The distinct members, optimised, shapes inferred.
    plan : FusionPlan
        With bound views.
    n_outputs : int
        Numbers per window.
    stack, share : bool
        Whether alike members are stacked and views share their first stage.
    """
    size = static_dims(models[0][1].graph.inputs[0])
    model = empty_model(*size)
    emit = Emitter(model.graph, prefix="fused")
    views, counts = _distinct_views(plan, *size)
    groups = _groups(dict(models), plan, counts, len(views), stack=stack)
    notes: list[str] = []
    if plan.merge.linear:
        parts = [_linear_part(emit, group, views, notes, share=share) for group in groups]
        y = parts[0] if len(parts) == 1 else emit("Sum", *parts)
    else:
        y = _ordered(emit, groups, views, plan, notes, share=share, n_outputs=n_outputs)
    set_output(model.graph, add_calibration(emit, y, plan.calibration), n_outputs)
    declare(model)
    return model, tuple(dict.fromkeys(notes))


def _distinct_views(plan: FusionPlan, n_chans: int, n_times: int) -> tuple[list[LinearView], np.ndarray]:
    """Return the distinct views and, for every view of the plan, which of them it is."""
    views = [view.linear(n_chans, n_times) for view in plan.views]
    distinct = {view.key: view for view in views}
    return list(distinct.values()), np.array([list(distinct).index(view.key) for view in views])


def _groups(
    models: dict[str, ir.Model], plan: FusionPlan, which: np.ndarray, n_views: int, *, stack: bool
) -> list[_Group]:
    """Sum the weights of repeated branches, drop members whose weights are all zero, and group alike members."""
    n = plan.n_branches
    flat = plan.merge.weights_for(n) if plan.merge.linear else (1.0,) * n
    table: dict[str, np.ndarray] = {}
    for m, digest in enumerate(plan.members):
        row = table.setdefault(digest, np.zeros(n_views))
        np.add.at(row, which, np.asarray(flat[m * len(which) : (m + 1) * len(which)]))
    groups: dict[str, _Group] = {}
    for number, (digest, row) in enumerate(table.items()):
        if not row.any():
            continue
        key = signature(models[digest]) if stack else str(number)
        group = groups.setdefault(key, _Group(number=len(groups)))
        group.models.append(models[digest])
        group.weights.append(row)
    if not groups:
        raise Refused("every branch has weight zero")
    return list(groups.values())


def _branch_values(
    emit: Emitter, group: _Group, views: list[LinearView], notes: list[str], *, share: bool, stop: Any
) -> tuple[ir.Value, Stacker]:
    """Write a group up to `stop` (a value of its first member) for all views: (views x batch, N x d1, ...)."""
    stacker = Stacker(emit, group.models, HANDLERS, views=len(views))
    source, x = group.models[0].graph.inputs[0], emit.graph.inputs[0]
    alone = len(views) == 1 and views[0].identity
    conv = _first_stage(source) if share and not alone else None
    if conv is not None:
        start = share_affine(emit, x, stacker, conv, views, stop=stop, group=group.number, notes=notes)
        return stacker.run(start=start, shared=set(), stop=stop), stacker
    n_chans, n_times = static_dims(x)
    parts = [Signal.whole(view.onnx(emit, x), n_times) for view in views]
    feed = join(emit, parts, offset=np.zeros(n_chans), group=group.number)
    if len(parts) > 1:
        notes.append("views are batched in front of the network")
    return stacker.run(start={source: feed}, shared={source}, stop=stop), stacker


def _first_stage(window: ir.Value) -> Conv1d | None:
    """Return the convolution that alone reads the window, or None."""
    readers = set(window.consumers())
    conv = any_conv_of(readers.pop()) if len(readers) == 1 else None
    return conv if conv is not None and not conv.rows and conv.group == 1 else None


def _linear_part(emit: Emitter, group: _Group, views: list[LinearView], notes: list[str], *, share: bool) -> ir.Value:
    """Return the group's share of a mean or weighted sum, (batch, n_outputs)."""
    weights = np.stack(group.weights)
    used = np.flatnonzero(weights.any(axis=0))
    views, weights = [views[i] for i in used], weights[:, used]
    output = group.models[0].graph.outputs[0]
    tail = output.producer()
    separable = np.linalg.matrix_rank(weights, tol=1e-12 * np.abs(weights).max()) <= 1
    dense = tail is not None and tail.op_type == "Gemm" and not tail.attributes.get_int("transA", 0)
    if tail is None or not (separable and dense) or [constant(v) is None for v in tail.inputs[:2]] != [True, False]:
        y, stacker = _branch_values(emit, group, views, notes, share=share, stop=output)
        return _weighted_sum(emit, y, weights, stacker.dims(output)[0], group.number)
    h, stacker = _branch_values(emit, group, views, notes, share=share, stop=tail.inputs[0])
    pivot = np.unravel_index(np.abs(weights).argmax(), weights.shape)
    by_view = weights[pivot[0]] / weights[pivot[0]].sum() if weights[pivot[0]].sum() else weights[pivot[0]]
    by_member = weights[:, pivot[1]] / by_view[pivot[1]]
    (width,) = stacker.dims(tail.inputs[0])
    h = _sum_views(emit, h, by_view, len(group.models) * width, group.number)
    kernels, biases = gemm_weights(stacker, stacker.nodes[0].index(tail), tail)
    weight = np.concatenate([w * k.astype(np.float64) for w, k in zip(by_member, kernels, strict=True)])
    bias = np.sum([w * b.astype(np.float64) for w, b in zip(by_member, biases, strict=True)], axis=0) * by_view.sum()
    if len(group.models) > 1 or len(views) > 1:
        notes.append(f"{len(group.models)} x {len(views)} branches merged in front of the last dense layer")
    y = emit("Gemm", h, weight.astype(np.float32), bias.astype(np.float32))
    y.meta[DENSE] = group.number
    stacker.stands_for(y, output)
    return y


def _sum_views(emit: Emitter, h: ir.Value, weights: np.ndarray, width: int, group: int) -> ir.Value:
    """Return the weighted sum over views of (views x batch, width)."""
    n = len(weights)
    if n == 1:
        return h if weights[0] == 1.0 else emit("Mul", h, np.float32(weights[0]))
    equal = np.ptp(weights) == 0.0
    known = Apart(group=group, weights=np.full(n, weights.sum() / n) if equal else weights)
    apart = put_apart(emit, h, [n, width], known)
    if equal:
        mean = emit("ReduceMean", apart, [0], keepdims=0)
        return mean if abs(weights.sum() - 1.0) < 1e-12 else emit("Mul", mean, np.float32(weights.sum()))
    return emit("ReduceSum", emit("Mul", apart, weights.reshape(n, 1, 1).astype(np.float32)), [0], keepdims=0)


def _weighted_sum(emit: Emitter, y: ir.Value, weights: np.ndarray, n_outputs: int, group: int) -> ir.Value:
    """Return the sum over members and views of (views x batch, members x n_outputs) with a weight for each."""
    members, views = weights.shape
    if members == views == 1:
        return y if weights[0, 0] == 1.0 else emit("Mul", y, np.float32(weights[0, 0]))
    apart = put_apart(emit, y, [views, members, n_outputs], Apart(group=group))
    factor = weights.T.reshape(views, 1, members, 1).astype(np.float32)
    return emit("ReduceSum", emit("Mul", apart, factor), [0, 2], keepdims=0)


def _ordered(
    emit: Emitter, groups: list[_Group], views: list[LinearView], plan: FusionPlan, notes: list[str], *, share: bool,
    n_outputs: int,
) -> ir.Value:  # fmt: skip
    """Return a median or trimmed mean: all branch outputs apart, each as often as the plan names it."""
    branches: list[ir.Value] = []
    for group in groups:
        output = group.models[0].graph.outputs[0]
        y, _ = _branch_values(emit, group, views, notes, share=share, stop=output)
        members = len(group.models)
        apart = put_apart(emit, y, [len(views), members, n_outputs], Apart(group=group.number))
        for m in range(members):
            for v in range(len(views)):
                one = emit("Gather", emit("Gather", apart, np.array(v), axis=0), np.array(m), axis=1)
                branches += [one] * round(float(group.weights[m][v]))
    return add_merge(emit, branches, plan.merge)
