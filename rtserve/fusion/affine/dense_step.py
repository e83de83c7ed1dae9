r"""Spatial steps in which every output mixes several temporal filters.

.. math:: y[o, t] = \sum_f \sum_\tau P[f, t, \tau] \sum_e w[o, f, e]\, x[e, \tau] + b[o, t].

Such a map has one term per filter, so that space first would mean a row of electrode weights for every pair of output and
filter. Two ways pay, and the cheaper one is taken:

- short filters: filters and weights merge into one kernel over electrodes and time,
  :math:`k[o, e, \tau] = \sum_f w[o, f, e]\, h[f, \tau]`;
- long ones (a bank by Fourier transform fills the window): space first, :math:`u[o, f] = \sum_e w[o, f, e]\, x[e]`, and the
  filters of one output end to end are one product with :math:`[P_1; \dots; P_F]`, which sums over them as it goes.

A convolution that already mixes electrodes and time stays one; it is only written on the window as it comes in, where
views can share it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.toeplitz import Filter, read_by
from rtserve.fusion.affine.trace import Trace
from rtserve.fusion.affine.trace_conv import DenseMix, JointMix
from rtserve.fusion.affine.value import static_dims
from rtserve.fusion.ir.passes import Refused
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede
from rtserve.graphs.macs import node_macs

__all__ = ["mix_dense", "on_the_window"]


def mix_dense(emit: Emitter, model: ir.Model, node: ir.Node, dense: DenseMix, found: Trace) -> str:
    """Write a bank of filters and a dense spatial step in the cheaper of the two ways; return what was done.

    Raises
    ------
    Refused
        Where none saves work.
    """
    operator = dense.value.operator
    filters, n_out, n_in = operator.filter, operator.n_out, operator.n_in
    outputs, per_group, n_chans = dense.taps.shape
    steady = np.ptp(_bias(dense), axis=1).max() == 0
    mergeable = (
        filters is not None and not filters.corners and min(filters.conv.left, filters.conv.right) >= 0 and steady
    )
    costs = {"split": outputs * per_group * n_in * (n_chans + n_out)} if not operator.cut else {}
    if mergeable and filters is not None:
        costs["merged"] = outputs * n_chans * filters.conv.taps * n_out
    before = node_macs(node) + found.macs(node.inputs[0])
    way = min(costs, key=lambda key: costs[key], default="")
    if not way or costs[way] >= before:
        raise Refused(f"{before:,} multiply-adds now, {costs.get(way, before):,} with its filters in another order")
    if way == "merged" and filters is not None:
        y = _merged(emit, model, dense, filters)
        done = "filters and dense spatial step merged"
    else:
        y = _split(emit, model, dense, operator.array)
        done = f"space first, then {per_group} filters of an output as one product"
    wanted = static_dims(node.outputs[0])
    supersede(model, node.outputs[0], y if wanted == (outputs, 1, n_out) else emit("Reshape", y, [0, *wanted]))
    return f"{node.outputs[0].name}: {done}; {before:,} -> {costs[way]:,} multiply-adds"


def _bias(dense: DenseMix) -> np.ndarray:
    """Return b (outputs, n_out): the filters' own, mixed, and that of the step."""
    outputs, per_group, _ = dense.taps.shape
    grouped = dense.taps.sum(-1).reshape(dense.group, outputs // dense.group, per_group)
    own = dense.value.bias.reshape(dense.value.dims[0], -1).reshape(dense.group, per_group, -1)
    bias: np.ndarray = np.einsum("gof,gft->got", grouped, own).reshape(outputs, -1) + dense.bias[:, None]
    return bias


def _merged(emit: Emitter, model: ir.Model, dense: DenseMix, filters: Filter) -> ir.Value:
    """Return (batch, outputs, 1, n_out) by one convolution over electrodes and time."""
    outputs, per_group, n_chans = dense.taps.shape
    kernels = filters.conv.weight.reshape(dense.group, per_group, -1)
    grouped = dense.taps.reshape(dense.group, outputs // dense.group, per_group, n_chans)
    weight = np.einsum("gofe,gfk->goek", grouped, kernels).reshape(outputs, n_chans, -1)
    x = emit("Unsqueeze", model.graph.inputs[0], [2])
    return replace(filters.conv, weight=weight, bias=_bias(dense)[:, 0], group=1).emit(emit, x)


def _split(emit: Emitter, model: ir.Model, dense: DenseMix, operator: np.ndarray) -> ir.Value:
    """Return (batch, outputs, 1, n_out): electrodes mixed for every output and filter, then one product per group."""
    outputs, per_group, n_chans = dense.taps.shape
    read = read_by(operator)
    x, operator = emit.take(model.graph.inputs[0], 2, read, operator.shape[2]), operator[..., read]
    n_out, n_in = operator.shape[1:]
    weight = dense.taps.reshape(outputs * per_group, n_chans, 1).astype(np.float32)
    u = emit("Conv", x, weight)
    matrices = operator.transpose(0, 2, 1).reshape(dense.group, per_group * n_in, n_out).astype(np.float32)
    if dense.group == 1:
        y = emit("MatMul", emit("Reshape", u, [-1, outputs, per_group * n_in]), matrices[0])
    else:
        rows = emit("Reshape", u, [-1, dense.group, outputs // dense.group, per_group * n_in])
        y = emit("Reshape", emit("MatMul", rows, matrices), [-1, outputs, n_out])
    bias = _bias(dense)
    if bias.any():
        y = emit("Add", y, (bias if np.ptp(bias, axis=1).max() > 0 else bias[:, :1])[None].astype(np.float32))
    return emit("Unsqueeze", y, [2])


def on_the_window(emit: Emitter, model: ir.Model, node: ir.Node, joint: JointMix) -> str:
    """Write a convolution over a rearranged window as one on (n_chans, n_times) itself, which views can share.

    Raises
    ------
    Refused
        Where it reads anything else.
    """
    found = joint.as_conv1d()
    if found is None:
        raise joint
    y = found.emit(emit, model.graph.inputs[0])
    old, dims = node.outputs[0], static_dims(node.outputs[0])
    y = emit("Unsqueeze", y, [3 if dims[2] == 1 else 2]) if len(dims) == 3 else y
    supersede(model, old, y)
    return f"{old.name}: written on the window as it is"
