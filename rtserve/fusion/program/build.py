r"""Assembling a plan from optimised members: alike members stacked, views sharing their first stage, tails merged.

Views lie on the batch axis behind the shared stage: (views x batch, ...). A mean or weighted sum over branches commutes
with the last dense layer, so it moves in front of it: members become one Gemm whose weight carries the member weights,
:math:`\sum_m w_m (W_m h_m + b_m) = [w_1 W_1 \dots w_N W_N]\,[h_1; \dots; h_N] + \sum_m w_m b_m`, and views are summed
before it. Never with a median or a trimmed mean, whose branches stay apart to the end. Branches of weight zero and
repeated branches are not computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.value import static_dims
from rtserve.fusion.ir.conv import any_conv_of
from rtserve.fusion.ir.joint import DENSE, Apart, Signal, join, put_apart
from rtserve.fusion.ir.linear_view import LinearView
from rtserve.fusion.ir.nodes import only_reader
from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.join import add_calibration, add_merge, empty_model, set_output
from rtserve.fusion.plan import FusionPlan
from rtserve.fusion.program.affine_end import share_affine
from rtserve.fusion.program.stack import Stacker, signature
from rtserve.fusion.program.stage import pays
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant
from rtserve.graphs.functions import declare

__all__ = ["assemble"]


def assemble(
    models: Mapping[str, ir.Model], plan: FusionPlan, *, n_outputs: int, stack: bool = True, share: bool = True
) -> tuple[ir.Model, tuple[str, ...]]:
    """Return the plan as one model, and what was done.

    Parameters
    ----------
    models : mapping of str to Model
        The different members, optimised, shapes inferred, by digest.
    plan : FusionPlan
        With bound views.
    n_outputs : int
        Numbers per window.
    stack, share : bool
        Whether alike members are stacked and views share their first stage.
    """
    size = static_dims(next(iter(models.values())).graph.inputs[0])
    model = empty_model(*size)
    emit, notes, parts = Emitter(model.graph, prefix="fused"), [], []
    for group, (alike, views, weights) in enumerate(_groups(models, plan, *size, stack=stack)):
        stacker = Stacker(emit, alike, views=views, group=group)
        if plan.merge.linear:
            parts.append(_sum(stacker, weights, share=share))
        else:
            parts += _branches(stacker, weights, n_outputs, share=share)
        notes += stacker.notes
    if not plan.merge.linear:
        y = add_merge(emit, parts, plan.merge)
    else:
        y = emit("Sum", *parts) if len(parts) > 1 else parts[0]
    set_output(model.graph, add_calibration(emit, y, plan.calibration), n_outputs)
    declare(model)
    return model, tuple(dict.fromkeys(notes))


def _groups(
    models: Mapping[str, ir.Model], plan: FusionPlan, n_chans: int, n_times: int, *, stack: bool
) -> list[tuple[list[ir.Model], list[LinearView], np.ndarray]]:
    """Return alike members with the distinct views that they are run on, and their weights (members, views).

    Weights of repeated branches are summed; members and views all of whose weights are zero are left out.
    """
    views = [view.linear(n_chans, n_times) for view in plan.views]
    distinct = {view.key: view for view in views}
    which = [list(distinct).index(view.key) for view in views]
    table: dict[str, np.ndarray] = {}
    for digest, row in zip(plan.members, np.reshape(plan.weights, (-1, len(views))), strict=True):
        np.add.at(table.setdefault(digest, np.zeros(len(distinct))), which, row)
    groups: dict[str, dict[str, np.ndarray]] = {}
    for digest, row in table.items():
        if row.any():
            groups.setdefault(signature(models[digest]) if stack else digest, {})[digest] = row
    if not groups:
        raise Refused("every branch has weight zero")
    found = []
    for alike in groups.values():
        weights = np.stack(list(alike.values()))
        used = np.flatnonzero(weights.any(axis=0))
        found.append(([models[d] for d in alike], [list(distinct.values())[i] for i in used], weights[:, used]))
    return found


def _of_views(stacker: Stacker, stop: Any, *, share: bool) -> ir.Value:
    """Write members up to `stop` (a value of the first) for all views: (views x batch, N x d1, ...)."""
    emit, views = stacker.emit, stacker.views
    source, x = stacker.models[0].graph.inputs[0], emit.graph.inputs[0]
    conv = any_conv_of(only_reader(source)) if share and not all(view.identity for view in views) else None
    if conv is not None and not conv.rows and conv.group == 1 and pays(stacker.conv(conv), views):
        return stacker.run(start=share_affine(stacker, x, conv, stop=stop), stop=stop)
    n_chans, n_times = static_dims(x)
    parts = [Signal.whole(view.onnx(emit, x), n_times) for view in views]
    if len(parts) > 1:
        stacker.notes.append("views are batched in front of the network")
    return stacker.run(start={source: join(emit, parts, offset=np.zeros(n_chans), group=stacker.group)}, stop=stop)


def _sum(stacker: Stacker, weights: np.ndarray, *, share: bool) -> ir.Value:
    """Return what members and views add to a mean or weighted sum, (batch, n_outputs)."""
    emit, output = stacker.emit, stacker.models[0].graph.outputs[0]
    tail = output.producer()
    separable = np.linalg.matrix_rank(weights, tol=1e-12 * np.abs(weights).max()) <= 1
    dense = tail is not None and tail.op_type == "Gemm" and not tail.attributes.get_int("transA", 0)
    if tail is None or not (separable and dense) or [constant(v) is None for v in tail.inputs[:2]] != [True, False]:
        y = _of_views(stacker, output, share=share)
        return _weighted_sum(emit, y, weights, stacker.dims(output)[0], stacker.group)
    h = _of_views(stacker, tail.inputs[0], share=share)
    member, view = np.unravel_index(np.abs(weights).argmax(), weights.shape)
    by_view = weights[member] / (weights[member].sum() or 1.0)
    by_member = weights[:, view] / by_view[view]
    (width,) = stacker.dims(tail.inputs[0])
    h = _sum_views(emit, h, by_view, len(weights) * width, stacker.group)
    kernels, biases = stacker.gemm_weights(tail)
    weight = np.concatenate([w * k.astype(np.float64) for w, k in zip(by_member, kernels, strict=True)])
    bias = np.sum([w * b.astype(np.float64) for w, b in zip(by_member, biases, strict=True)], axis=0) * by_view.sum()
    if weights.size > 1:
        stacker.notes.append("{} x {} branches merged in front of the last dense layer".format(*weights.shape))
    y = emit("Gemm", h, weight.astype(np.float32), bias.astype(np.float32))
    y.meta[DENSE] = stacker.group
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
    if weights.size == 1:
        return y if weights[0, 0] == 1.0 else emit("Mul", y, np.float32(weights[0, 0]))
    apart = put_apart(emit, y, [views, members, n_outputs], Apart(group=group))
    factor = weights.T.reshape(views, 1, members, 1).astype(np.float32)
    return emit("ReduceSum", emit("Mul", apart, factor), [0, 2], keepdims=0)


def _branches(stacker: Stacker, weights: np.ndarray, n_outputs: int, *, share: bool) -> list[ir.Value]:
    """Return all branch outputs apart, for a median or trimmed mean, each as often as the plan names it."""
    emit, (members, views) = stacker.emit, weights.shape
    y = _of_views(stacker, stacker.models[0].graph.outputs[0], share=share)
    apart = put_apart(emit, y, [views, members, n_outputs], Apart(group=stacker.group))
    branches: list[ir.Value] = []
    for (member, view), times in np.ndenumerate(weights):
        one = emit("Gather", emit("Gather", apart, np.array(view), axis=0), np.array(member), axis=1)
        branches += [one] * round(times)
    return branches
