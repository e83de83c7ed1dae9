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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.engines.onnxruntime import COSTS
from rtserve.fusion.passes.toeplitz import distinct
from rtserve.fusion.views import View
from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.fusion.passes.stack import Stacker
    from rtserve.graphs.emit import Emitter

__all__ = ["Tap", "share_filter"]

MOVING = ("identity", "roll", "crop-shift")


@dataclass(frozen=True, kw_only=True, eq=False)
class Tap:
    """The depthwise filter that reads the first stage.

    Parameters
    ----------
    node : Node
        The convolution, in the first member's graph.
    kernel : ndarray, (features, taps)
        Of all members.
    bias : ndarray or None, (features,)
        Its bias.
    left, right, n_times, n_out : int
        Zero padding, samples in and out.
    """

    node: Any
    kernel: np.ndarray
    bias: np.ndarray | None
    left: int
    right: int
    n_times: int
    n_out: int

    def at(self, start: int, places: np.ndarray) -> np.ndarray:
        """Return h[start - m] for every place m, (features, places); zero outside of the filter."""
        index = start - places
        inside = (index >= 0) & (index < self.kernel.shape[1])
        return np.where(inside, self.kernel[:, np.clip(index, 0, self.kernel.shape[1] - 1)], 0.0)


def share_filter(
    emit: Emitter, stacker: Stacker, conv: ir.Node, views: Sequence[View], base: ir.Value | None
) -> dict[Any, ir.Value]:
    """Return the filter's output for all views, keyed by the value it stands for; nothing where it is not shared.

    Parameters
    ----------
    emit : Emitter
        Where the nodes go.
    stacker : Stacker
        The members.
    conv : Node
        The first stage.
    views : sequence of View
        In the order in which they stand on the batch.
    base : Value or None
        The stage's output for the identity, (batch, features, n_times).
    """
    tap = _tap_of(stacker, conv) if base is not None else None
    if tap is None or base is None or not _pays(tap, views):
        return {}
    back = max(0, *(view.shift for view in views))
    ahead = max(0, *(-view.shift for view in views))
    u = emit("Unsqueeze", base, [2])
    extra = [] if tap.bias is None else [tap.bias.astype(np.float32)]
    kernel = tap.kernel[:, None, None].astype(np.float32)
    pads = [0, tap.left + back, 0, tap.right + ahead]
    whole = emit("Conv", u, kernel, *extra, group=len(kernel), pads=pads)
    moved = [view for view in views if view.shift]
    corrected = emit("Add", _corrections(emit, u, tap, moved, back, ahead), whole)
    parts = []
    for view in views:
        start, end = back - view.shift, back - view.shift + tap.n_out
        if view.shift:
            number = moved.index(view)
            y = emit("Slice", corrected, [number, start], [number + 1, end], [0, 4])
            parts.append(emit("Reshape", y, [-1, len(kernel), 1, tap.n_out]))
        else:
            parts.append(emit.slice(whole, 3, start, end))
    return {tap.node.outputs[0]: emit("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]}


def _tap_of(stacker: Stacker, conv: ir.Node) -> Tap | None:
    """Return the one depthwise filter behind the stage, or None where there is none like it."""
    readers = list(conv.outputs[0].consumers())
    bias = constant(conv.inputs[2]) if len(conv.inputs) > 2 else None
    if len(readers) != 1 or readers[0].op_type != "Unsqueeze" or (bias is not None and bias.any()):
        return None
    axes = constant(readers[0].inputs[1])
    filters = [node for node in readers[0].outputs[0].consumers() if node.op_type == "Conv"]
    if axes is None or axes.tolist() != [2] or len(filters) != 1:
        return None
    node = filters[0]
    weight = constant(node.inputs[1])
    plain = all(v == 1 for key in ("strides", "dilations") for v in node.attributes.get_ints(key) or ())
    if weight is None or weight.ndim != 4 or weight.shape[1:3] != (1, 1) or not plain:
        return None
    if node.attributes.get_int("group", 1) != len(weight):
        return None
    index = stacker.nodes[0].index(node)
    pads = node.attributes.get_ints("pads") or (0, 0, 0, 0)
    n_times = stacker.dims(conv.outputs[0])[1]
    return Tap(
        node=node,
        kernel=np.concatenate(stacker.arrays(index, 1))[:, 0, 0].astype(np.float64),
        bias=np.concatenate(stacker.arrays(index, 2)) if len(node.inputs) > 2 else None,
        left=pads[1],
        right=pads[3],
        n_times=n_times,
        n_out=stacker.dims(node.outputs[0])[2],
    )


def _pays(tap: Tap, views: Sequence[View]) -> bool:
    """Whether the filter outputs saved cost clearly more time than the corrections."""
    moved = [view for view in views if view.shift]
    if not moved or any(view.kind not in MOVING or abs(view.shift) >= tap.n_times // 4 for view in views):
        return False
    reach = max(abs(view.shift) for view in moved)
    saved = tap.kernel.size * (tap.n_out * (len(views) - 1) - 2 * reach) / COSTS.depthwise_macs_per_us
    return bool(saved > 1.5 * (COSTS.corrected_us + COSTS.view_corrected_us * len(moved)))


def _matrix(tap: Tap, back: int, ahead: int, *, wraps: bool) -> np.ndarray:
    """Return D, (features, ahead + back, places), for u's first `ahead` and last `back` samples."""
    places = np.arange(-back, tap.n_out + ahead) - tap.left
    moves = [(j, tap.n_times + j) for j in range(ahead)] + [(tap.n_times - i, -i) for i in range(back, 0, -1)]
    rows = [(tap.at(to, places) if wraps else 0.0) - tap.at(sample, places) for sample, to in moves]
    return np.stack(rows, axis=1)


def _corrections(emit: Emitter, u: ir.Value, tap: Tap, views: Sequence[View], back: int, ahead: int) -> ir.Value:
    """Return what is added to the filter's output for every view that moves, (views, batch, features, 1, places)."""
    kinds = list(dict.fromkeys(view.kind == "roll" for view in views))
    matrices, run = distinct(np.concatenate([_matrix(tap, back, ahead, wraps=wraps) for wraps in kinds], axis=1))
    filters, samples, places = matrices.shape
    masks = np.zeros((len(views), len(kinds), ahead + back), np.float32)
    for mask, view in zip(masks, views, strict=True):
        row = mask[kinds.index(view.kind == "roll")]
        row[: max(-view.shift, 0)] = 1.0
        row[len(row) - max(view.shift, 0) :] = 1.0
    ends = [emit.slice(u, 3, 0, ahead)] if ahead else []
    ends += [emit.slice(u, 3, tap.n_times - back, tap.n_times)] if back else []
    edge = emit("Concat", *ends * len(kinds), axis=3) if len(ends) * len(kinds) > 1 else ends[0]
    masked = emit("Mul", emit("Reshape", edge, [-1, filters, run, 1, samples]), masks.reshape(len(views), samples))
    front = emit("Reshape", emit("Transpose", masked, perm=[1, 3, 0, 2, 4]), [filters, -1, samples])
    product = emit("MatMul", front, matrices.astype(np.float32))
    rear = emit("Reshape", product, [filters, len(views), -1, run, places])
    return emit("Reshape", emit("Transpose", rear, perm=[1, 2, 0, 3, 4]), [len(views), -1, filters * run, 1, places])
