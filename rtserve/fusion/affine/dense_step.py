r"""Spatial steps in which every output mixes several temporal filters.

.. math:: y[o, t] = \sum_f \sum_\tau P[f, t, \tau] \sum_e w[o, f, e]\, x[e, \tau] + b[o, t].

Such a map has one term per filter, so that space first would mean a row of electrode weights for every pair of output and
filter. Two ways pay, and the cheaper one is taken:

- short filters: filters and weights merge into one kernel over electrodes and time,
  :math:`k[o, e, \tau] = \sum_f w[o, f, e]\, h[f, \tau]`;
- long ones (a bank by Fourier transform fills the window): space first, :math:`u[o, f] = \sum_e w[o, f, e]\, x[e]`, and the
  filters of one output end to end are one product with :math:`[P_1; \dots; P_F]`, which sums over them as it goes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.toeplitz import Filter, read_by
from rtserve.fusion.affine.trace_conv import DenseMix
from rtserve.fusion.ir.passes import Refused
from rtserve.graphs.emit import Emitter

__all__ = ["mix_dense"]


def mix_dense(emit: Emitter, x: ir.Value, dense: DenseMix, before: int) -> tuple[ir.Value, str]:
    """Write a bank of filters and a dense spatial step in the cheaper of the two ways.

    Returns (batch, outputs, 1, n_out), and what was done.

    Parameters
    ----------
    emit : Emitter
        Where the nodes go.
    x : Value
        The window.
    dense : DenseMix
        The step.
    before : int
        The multiply-adds now.

    Raises
    ------
    Refused
        Where none saves work.
    """
    operator = dense.value.operator
    filters, n_out, n_in = operator.filter, operator.n_out, operator.n_in
    groups, outputs, per_group, n_chans = dense.taps.shape
    costs = {"split": groups * outputs * per_group * n_in * (n_chans + n_out)} if not operator.cut else {}
    steady = np.ptp(dense.bias, axis=1).max() == 0
    if steady and filters is not None and not filters.corners and min(filters.conv.left, filters.conv.right) >= 0:
        costs["merged"] = groups * outputs * n_chans * filters.conv.taps * n_out
    way = min(costs, key=lambda key: costs[key], default="")
    if not way or costs[way] >= before:
        raise Refused(f"{before:,} multiply-adds now, {costs.get(way, before):,} with its filters in another order")
    if way == "merged" and filters is not None:
        y, done = _merged(emit, x, dense, filters), "filters and dense spatial step merged"
    else:
        done = f"space first, then {per_group} filters of an output as one product"
        y = _split(emit, x, dense, operator.array)
    return y, f"{done}; {before:,} -> {costs[way]:,} multiply-adds"


def _merged(emit: Emitter, x: ir.Value, dense: DenseMix, filters: Filter) -> ir.Value:
    """Return what one convolution over electrodes and time makes."""
    groups, _, per_group, n_chans = dense.taps.shape
    x = x if filters.read is None else emit.take(x, 2, filters.read, dense.value.n_times)
    kernels = filters.conv.weight.reshape(groups, per_group, -1)
    weight = np.einsum("gofe,gfk->goek", dense.taps, kernels).reshape(len(dense.bias), n_chans, -1)
    return replace(filters.conv, weight=weight, bias=dense.bias[:, 0], group=1).emit(emit, emit("Unsqueeze", x, [2]))


def _split(emit: Emitter, x: ir.Value, dense: DenseMix, operator: np.ndarray) -> ir.Value:
    """Return the electrodes mixed for every output and filter, then one product per group."""
    groups, outputs, per_group, n_chans = dense.taps.shape
    read = read_by(operator)
    x, operator = emit.take(x, 2, read, operator.shape[2]), operator[..., read]
    n_out, n_in = operator.shape[1:]
    u = emit("Conv", x, dense.taps.reshape(-1, n_chans, 1).astype(np.float32))
    matrices = operator.transpose(0, 2, 1).reshape(groups, per_group * n_in, n_out).astype(np.float32)
    if groups == 1:
        y = emit("MatMul", emit("Reshape", u, [-1, outputs, per_group * n_in]), matrices[0])
    else:
        rows = emit("Reshape", u, [-1, groups, outputs, per_group * n_in])
        y = emit("Reshape", emit("MatMul", rows, matrices), [-1, groups * outputs, n_out])
    if dense.bias.any():
        wide = dense.bias if np.ptp(dense.bias, axis=1).max() > 0 else dense.bias[:, :1]
        y = emit("Add", y, wide[None].astype(np.float32))
    return emit("Unsqueeze", y, [2])
