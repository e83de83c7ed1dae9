r"""Views that move samples share the depthwise filter behind a collapsed prefix, not only its spatial step.

Let u be the mixed electrodes, h a filter of K taps with zero padding l, and Y the filter on the zero-extended u,
:math:`Y[a] = \sum_\tau h[\tau]\, \bar u[a + \tau]`. The identity reads :math:`Y[n - l]`. A roll by k reads
:math:`Y[n - l - k]`, except for the k samples that went round: they must be taken off where the shift would leave them, and
put where they came to,

.. math:: y_k[n] = Y[m - l] + \sum_{i=1}^{k} u[T - i]\,D[i, m], \qquad D[i, m] = h[-i - m + l] - h[T - i - m + l],
          \qquad m = n - k.

D is the same for all k, only the sum is longer: the last samples of u, masked for every view, times one small matrix are
the corrections of all views, whose outputs are pieces of the corrected Y. For a filter longer than the shifts that is much
less than a convolution per view. Rolls to the other side take the first samples; a crop-shift only takes off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.toeplitz import distinct
from rtserve.fusion.engines.onnxruntime import COSTS
from rtserve.fusion.ir.conv import Conv1d, conv_of
from rtserve.fusion.ir.joint import Signal
from rtserve.fusion.ir.linear_view import LinearView
from rtserve.fusion.ir.nodes import axes_of, only_reader
from rtserve.fusion.program.stack import Stacker
from rtserve.graphs.emit import Emitter

__all__ = ["share_filter"]

Move = tuple[int, bool]
"""`LinearView.move`."""


def share_filter(
    stacker: Stacker, conv: Conv1d, views: Sequence[LinearView], outputs: Sequence[Signal]
) -> dict[Any, list[Signal]]:
    """Return the filter's output for every view, keyed by the value it stands for; nothing where it is not shared.

    Parameters
    ----------
    stacker : Stacker
        The members.
    conv : Conv1d
        The first stage.
    views : sequence of LinearView
        In the order in which they stand on the batch, all different.
    outputs : sequence of Signal
        The stage's for them.
    """
    emit, tap = stacker.emit, _tap_of(stacker, conv)
    moves = [view.move for view in views if view.move and view.in_order]
    if tap is None or len(moves) < len(views) or (0, True) not in moves:
        return {}
    back, ahead = (max(sign * shift for shift, _ in moves) for sign in (1, -1))
    extended = replace(tap, left=tap.left + back, right=tap.right + ahead)
    if not _pays(tap, extended, moves):
        return {}
    u = emit("Unsqueeze", outputs[moves.index((0, True))].value, [2])
    whole = extended.emit(emit, u)
    moved = [move for move in moves if move[0]]
    corrected = emit("Add", _corrections(emit, u, tap, moved, back, ahead), whole)
    parts = []
    for shift, wraps in moves:
        start, end = back - shift, back - shift + tap.n_out
        if shift:
            number = moved.index((shift, wraps))
            y = emit("Slice", corrected, [number, start], [number + 1, end], [0, 4])
            parts.append(emit("Reshape", y, [-1, tap.group, 1, tap.n_out]))
        else:
            parts.append(emit.slice(whole, 3, start, end))
    return {tap.node.outputs[0]: [Signal.whole(part, tap.n_out) for part in parts]}


def _tap_of(stacker: Stacker, conv: Conv1d) -> Conv1d | None:
    """Return the one depthwise filter behind the stage, or None where there is none like it."""
    wide = only_reader(conv.node.outputs[0], "Unsqueeze")
    if wide is None or axes_of(wide) != (2,) or (conv.bias is not None and conv.bias.any()):
        return None
    filters = [node for node in wide.outputs[0].consumers() if node.op_type == "Conv"]
    tap = conv_of(filters[0]) if len(filters) == 1 else None
    if tap is None or (tap.stride, tap.dilation, tap.weight.shape[1], tap.group) != (1, 1, 1, len(tap.weight)):
        return None
    return stacker.conv(tap)


def _pays(tap: Conv1d, extended: Conv1d, moves: Sequence[Move]) -> bool:
    """Whether the filter outputs saved cost clearly more time than the corrections."""
    reaches = [abs(shift) for shift, _ in moves]
    moved = np.count_nonzero(reaches)
    if not moved or max(reaches) >= tap.n_in // 4:
        return False
    saved = tap.weight.size * (tap.n_out * len(moves) - extended.n_out) / COSTS.depthwise_macs_per_us
    return bool(saved > 1.5 * (COSTS.corrected_us + COSTS.view_corrected_us * moved))


def _matrix(tap: Conv1d, back: int, ahead: int, *, wraps: bool) -> np.ndarray:
    """Return D, (features, ahead + back, places), for u's first `ahead` and last `back` samples."""
    kernel = np.pad(tap.weight[:, 0].astype(np.float64), ((0, 0), (0, 1)))
    samples = np.r_[:ahead, tap.n_in - back : tap.n_in]
    index = samples[:, None] - np.arange(-back, tap.n_out + ahead) + tap.left
    came = index + np.repeat([tap.n_in, -tap.n_in], [ahead, back])[:, None]
    left, new = (kernel[:, np.where((at >= 0) & (at < tap.taps), at, tap.taps)] for at in (index, came))
    return (new if wraps else 0.0) - left


def _corrections(emit: Emitter, u: ir.Value, tap: Conv1d, moves: Sequence[Move], back: int, ahead: int) -> ir.Value:
    """Return what is added to the filter's output for every view that moves, (views, batch, features, 1, places)."""
    kinds = list(dict.fromkeys(wraps for _, wraps in moves))
    matrices, run = distinct(np.concatenate([_matrix(tap, back, ahead, wraps=wraps) for wraps in kinds], axis=1))
    filters, samples, places = matrices.shape
    at = np.arange(ahead + back)
    ends = [(at < -shift) | (at >= len(at) - shift) for shift, _ in moves]
    masks = [[end & (wraps == kind) for kind in kinds] for end, (_, wraps) in zip(ends, moves, strict=True)]
    cut = [emit.slice(u, 3, 0, ahead)] if ahead else []
    cut += [emit.slice(u, 3, tap.n_in - back, tap.n_in)] if back else []
    edge = emit("Concat", *cut * len(kinds), axis=3) if len(cut) * len(kinds) > 1 else cut[0]
    mask = np.reshape(masks, (len(moves), samples)).astype(np.float32)
    masked = emit("Mul", emit("Reshape", edge, [-1, filters, run, 1, samples]), mask)
    front = emit("Reshape", emit("Transpose", masked, perm=[1, 3, 0, 2, 4]), [filters, -1, samples])
    product = emit("MatMul", front, matrices.astype(np.float32))
    rear = emit("Reshape", product, [filters, len(moves), -1, run, places])
    return emit("Reshape", emit("Transpose", rear, perm=[1, 2, 0, 3, 4]), [len(moves), -1, filters * run, 1, places])
