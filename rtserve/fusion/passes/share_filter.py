r"""Views that move samples share the depthwise filter behind a collapsed prefix, not only its spatial step.

Let u be the mixed electrodes, h a filter of K taps with zero padding l, and Y the filter on the zero-extended u,
:math:`Y[a] = \sum_\tau h[\tau]\, \bar u[a + \tau]`. The identity reads :math:`Y[n - l]`. A roll by k reads
:math:`Y[n - l - k]`, except for the k samples that went round: they must be taken off where the shift would leave them, and
put where they came to,

.. math:: y_k[n] = Y[n - l - k] + \sum_{j<k} u[T - k + j]\,(h[j - n + l] - h[T + j - n + l]).

So all such views are slices of one longer filter output and a correction of a few samples each: for a filter longer than
the shifts, a small product instead of a whole convolution per view. A crop-shift only takes off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.passes.toeplitz import distinct
from rtserve.fusion.views import View
from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.fusion.passes.stack import Stacker
    from rtserve.graphs.emit import Emitter

__all__ = ["Tap", "share_filter"]

MOVING = ("identity", "roll", "crop-shift")
MACS_PER_US = 22_000
"""What onnxruntime's depthwise kernel does in a microsecond, as measured; a dense one does twice that."""
FIXED_US, VIEW_US = 30.0, 12.0
"""What the corrections cost, whatever the views, and for each."""


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

    def at(self, start: int) -> np.ndarray:
        """Return h[start - n] for every output n, (features, n_out); zero outside of the filter."""
        index = start - np.arange(self.n_out)
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
    corrections = _corrections(emit, u, tap, [view for view in views if view.shift], back, ahead)
    parts = []
    for view in views:
        start = back - view.shift
        y = emit.slice(whole, 3, start, start + tap.n_out)
        parts.append(emit("Add", y, corrections.pop(0)) if view.shift else y)
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
    saved = tap.kernel.size * (tap.n_out * (len(views) - 1) - 2 * reach) / MACS_PER_US
    return bool(saved > 1.5 * (FIXED_US + VIEW_US * len(moved)))


def _matrix(tap: Tap, view: View, back: int, ahead: int) -> np.ndarray:
    """Return the correction of a view, (features, ahead + back, n_out), on u's first `ahead` and last `back` samples."""
    features = len(tap.kernel)
    result = np.zeros((features, ahead + back, tap.n_out))
    wraps, k = view.kind == "roll", abs(view.shift)
    for j in range(k):
        if view.shift > 0:
            row, leaves, comes = ahead + back - k + j, tap.n_times + j, j
        else:
            row, leaves, comes = j, j - k, tap.n_times - k + j
        result[:, row] -= tap.at(leaves + tap.left)
        if wraps:
            result[:, row] += tap.at(comes + tap.left)
    return result


def _corrections(emit: Emitter, u: ir.Value, tap: Tap, views: Sequence[View], back: int, ahead: int) -> list[ir.Value]:
    """Return the correction of every view that moves, (batch, features, 1, n_out) each, by one product per filter."""
    whole = np.concatenate([_matrix(tap, view, back, ahead) for view in views], axis=2)
    matrices, run = distinct(whole)
    filters, samples, width = len(whole) // run, ahead + back, whole.shape[2]
    ends = [emit.slice(u, 3, 0, ahead)] if ahead else []
    ends += [emit.slice(u, 3, tap.n_times - back, tap.n_times)] if back else []
    edge = emit("Concat", *ends, axis=3) if len(ends) > 1 else ends[0]
    front = emit("Transpose", emit("Reshape", edge, [-1, filters, run, samples]), perm=[1, 0, 2, 3])
    product = emit("MatMul", emit("Reshape", front, [filters, -1, samples]), matrices.astype(np.float32))
    rear = emit("Transpose", emit("Reshape", product, [filters, -1, run, width]), perm=[1, 0, 2, 3])
    fix = emit("Reshape", rear, [-1, len(whole), 1, width])
    return emit.many("Split", fix, [tap.n_out] * len(views), n=len(views), axis=3) if len(views) > 1 else [fix]
