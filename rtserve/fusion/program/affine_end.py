r"""What views share of what is affine in the window, in front of everything else.

They share the first stage (`rtserve.fusion.program.stage`). A factor waits until the end of the affine part: for an affine
map, :math:`L(a x) + b = a\,(L x + b) + (1 - a)\,b`, so a scaled view is one step behind all of it, whatever else it does.

Views that move samples share the depthwise filter behind a collapsed prefix, too, not only its spatial step.
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
from functools import partial
from operator import is_not
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.toeplitz import distinct
from rtserve.fusion.affine.value import static_dims
from rtserve.fusion.engines.onnxruntime import COSTS
from rtserve.fusion.ir.conv import Conv1d, conv_of
from rtserve.fusion.ir.joint import Signal, join
from rtserve.fusion.ir.linear_view import LinearView
from rtserve.fusion.ir.nodes import axes_of, computing, only_reader
from rtserve.fusion.ir.traits import Trait, has
from rtserve.fusion.program.stack import Stacker
from rtserve.fusion.program.stage import share_views
from rtserve.graphs.double import evaluated
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant
from rtserve.graphs.graph import IR_VERSION

__all__ = ["scaled", "share_affine"]

Move = tuple[int, bool]
"""`LinearView.move`."""


def share_affine(stacker: Stacker, x: ir.Value, conv: Conv1d, *, stop: Any) -> dict[Any, ir.Value]:
    """Return values of the first member for all views and members, (views x batch, members x d1, ...).

    Parameters
    ----------
    stacker : Stacker
        The members; what is shared is noted.
    x : Value
        The window (batch, n_chans, n_times).
    conv : Conv1d
        The convolution of the first member that alone reads the window.
    stop : Value
        What will be computed of the first member at most.
    """
    emit, first, stage = stacker.emit, conv.node.outputs[0], stacker.conv(conv)
    stacker.notes.append(f"views share Conv {first.name}")
    plain = [replace(view, factor=1.0) for view in stacker.views]
    early = {view.key: view for view in plain}
    bias = np.zeros((len(stage.weight), 1)) if stage.bias is None else stage.bias.astype(np.float64)[:, None]
    parts = {first: share_views(emit, x, stage, list(early.values()))}
    amplitudes = any(view.factor != 1.0 for view in stacker.views)
    last = _last_affine(stacker.models[0], first, stop) if amplitudes else None
    if last is not None or not amplitudes:
        filtered = _share_filter(stacker, conv, list(early.values()), parts[first])
        stacker.notes += [f"views share the filter {value.name}" for value in filtered]
        parts = filtered | parts
    if last is not None:
        stacker.notes.append(f"scaled views share everything up to {last.name}")
        start = {value: join(emit, found, offset=bias[:, 0], group=None) for value, found in parts.items()}
        y = stacker.run(start=start, stop=last)
        n = len(early)
        split = emit.many("Split", y, n=n, axis=0, num_outputs=n) if n > 1 else [y]
        twins = zip(stacker.models, stacker.twins[last.producer()], strict=True)
        bias = np.concatenate([_at_zero(model.graph, twin.outputs[last.index()]) for model, twin in twins])
        parts = {last: [Signal.whole(part, bias.shape[-1]) for part in split]}
    joined = {}
    for value, found in parts.items():
        made = dict(zip(early, found, strict=True))
        views = [scaled(emit, made[one.key], view.factor, bias) for one, view in zip(plain, stacker.views, strict=True)]
        joined[value] = join(emit, views, offset=bias.reshape(len(bias), -1)[:, 0], group=stacker.group)
    return joined


def scaled(emit: Emitter, signal: Signal, factor: float, bias: np.ndarray) -> Signal:
    """Return what an affine map makes of a scaled window: of the window it makes `signal`, of zeros bias (d1, ...)."""
    if factor == 1.0:
        return signal
    shift = (1.0 - np.float64(np.float32(factor))) * bias
    y = emit("Mul", signal.value, np.float32(factor))
    if shift.any():
        if np.ptp(shift.reshape(len(shift), -1), axis=1).max() == 0:
            shift = shift.reshape(len(shift), -1)[:, 0].reshape(-1, *([1] * (shift.ndim - 1)))
        y = emit("Add", y, shift[None].astype(np.float32))
    return Signal.whole(y, len(signal.places), base=signal.value, factor=factor, **signal.reads)


def _last_affine(model: ir.Model, first: Any, stop: Any) -> Any:
    """Return the last value affine in the stage's output `first` that everything on the way to `stop` comes from.

    None where that is the stage's output itself.
    """
    affine: dict[Any, Any] = {first: None}
    for node in model.graph:
        computed = [v for v in node.inputs if v is not None and constant(v) is None]
        if not computed or not all(v in affine for v in computed):
            continue
        if has(node, Trait.AFFINE) or (has(node, Trait.WEIGHS) and computed == [node.inputs[0]]):
            affine |= dict.fromkeys(node.outputs)
    for value in reversed(affine):
        if value is not stop and first.producer() not in computing([stop], partial(is_not, value)):
            return value if value is not first else None
    return None


def _at_zero(graph: ir.Graph, value: ir.Value) -> np.ndarray:
    """Return what a value is for a window of zeros, (d1, ...), in float64."""
    x = graph.inputs[0]
    part = ir.Model(ir.convenience.extract(graph, [x], [value]), ir_version=IR_VERSION)
    found: np.ndarray = evaluated(part, np.zeros((1, *static_dims(x))))[0]
    return found


def _share_filter(
    stacker: Stacker, conv: Conv1d, views: Sequence[LinearView], outputs: Sequence[Signal]
) -> dict[Any, list[Signal]]:
    """Return the filter's output for every view, keyed by the value it stands for; nothing where it is not shared.

    The views are all different, in the order in which they stand on the batch, and `outputs` the first stage's for them.
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
