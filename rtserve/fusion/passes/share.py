r"""Share the first linear stage between views.

Let the stage be a convolution of kernel K, stride s, dilation d along time. Output t of a view is decided by its
*window*: which samples of x its taps read, zero padding included. Views that only move samples in time (identity, roll,
crop-shift) read windows that are mostly the same:

- a **regular** window is x (zero-extended) from sample a on; all regular windows with the same a mod s are one
  convolution of x, whichever views ask for them;
- a **seam** window touches a wrap or an artificial edge; the few distinct ones are gathered and convolved by themselves.

With K = 1 every window is regular, so a collapsed prefix mixes the electrodes once for all of these views. The others:
:math:`C(a x) + b = a\,(C x + b) + (1 - a)\,b` (scale, sign-flip); a dropped channel subtracts its own contribution; a
channel permutation goes into the weights and is further output channels of the same convolution; a reversed window is
the flipped kernel on x, read backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.engines.onnxruntime import COSTS
from rtserve.fusion.ir.conv import ZERO, Conv1d
from rtserve.fusion.ir.joint import Signal, Source
from rtserve.fusion.ir.linear_view import LinearView
from rtserve.fusion.program.share import spans

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.emit import Emitter

__all__ = ["scaled", "share_views"]


def share_views(emit: Emitter, x: ir.Value, stage: Conv1d, views: Sequence[LinearView]) -> list[Signal]:
    """Return the stage's output for every view, (batch, outputs, n_out) each, and what it is put together of.

    Parameters
    ----------
    emit : Emitter
        Where the nodes go.
    x : Value
        The window (batch, n_chans, n_times).
    stage : Conv1d
        The convolution.
    views : sequence of LinearView
        Of any kind.
    """
    wanted = [view.times for view in views if view.still][:1]
    wanted += [v.times for v in views if v.in_order and not v.still and not v.backwards]
    made = _moving_outputs(emit, x, stage, wanted) if wanted else {}
    return [_of_view(emit, x, stage, view, made) for view in views]


def _of_view(emit: Emitter, x: ir.Value, stage: Conv1d, view: LinearView, made: dict[bytes, Signal]) -> Signal:
    """Return the stage's output for a view, from what those that only move samples have made."""
    kept, dropped = np.flatnonzero(view.channels != ZERO), np.flatnonzero(view.channels == ZERO)
    if not view.in_order and not (view.still and np.array_equal(view.channels[kept], kept)):
        weight = np.zeros_like(stage.weight)
        for c in kept:
            weight[:, view.channels[c]] += stage.weight[:, c]
        stage, dropped = replace(stage, weight=weight), dropped[:0]
        made = {} if view.still or view.backwards else _moving_outputs(emit, x, stage, [view.times])
    if view.backwards:
        y = _reversed(emit, x, stage)
    else:
        key = view.times.tobytes()
        y = made[key] if key in made else Signal.whole(stage.emit(emit, x), stage.n_out)
    if len(dropped):
        own = replace(stage, weight=stage.weight[:, dropped], bias=None)
        less = emit("Sub", y.value, own.emit(emit, emit("Gather", x, dropped, axis=1)))
        y = Signal.whole(less, stage.n_out)
    bias = np.zeros(1) if stage.bias is None else stage.bias.astype(np.float64)
    return y if view.factor == 1.0 else scaled(emit, y, view.factor, bias[:, None])


def scaled(emit: Emitter, signal: Signal, factor: float, bias: np.ndarray) -> Signal:
    """Return what an affine map makes of a scaled window: of the window it makes `signal`, of zeros bias (d1, ...)."""
    shift = (1.0 - np.float64(np.float32(factor))) * bias
    y = emit("Mul", signal.value, np.float32(factor))
    if shift.any():
        if np.ptp(shift.reshape(len(shift), -1), axis=1).max() == 0:
            shift = shift.reshape(len(shift), -1)[:, 0].reshape(-1, *([1] * (shift.ndim - 1)))
        y = emit("Add", y, shift[None].astype(np.float32))
    return Signal.whole(y, len(signal.places), base=signal.value, factor=factor)


def _moving_outputs(emit: Emitter, x: ir.Value, stage: Conv1d, signals: list[np.ndarray]) -> dict[bytes, Signal]:
    """Return the output of each signal, given as samples of x, from shared phases and a few seam windows."""
    starts: dict[int, set[int]] = {}
    seams = _Seams()
    reads: dict[bytes, list[tuple[int, int]]] = {}
    for times in signals:
        windows = stage.reads(times)
        begins = [_regular_start(window, stage) for window in windows]
        for start in begins:
            if start is not None:
                starts.setdefault(start % stage.stride, set()).add(start)
        places = seams.places(windows, [i for i, start in enumerate(begins) if start is None])
        reads[times.tobytes()] = [
            (-1, places[i]) if start is None else (start % stage.stride, start) for i, start in enumerate(begins)
        ]
    phases = {phase: _phase_output(emit, x, stage, sorted(wanted)) for phase, wanted in sorted(starts.items())}
    known = {id(y): (Source(value=y), np.arange(length)) for y, _, length in phases.values()}
    seam = None
    if seams.windows:
        seam, source, which = _seam_output(emit, x, stage, seams.windows)
        known[id(seam)] = source, which
    located = {
        name: [
            (seam, p) if phase < 0 else (phases[phase][0], (p - phases[phase][1]) // stage.stride)
            for phase, p in places
        ]
        for name, places in reads.items()
    }
    lengths = {name: len(which) for name, (_, which) in known.items()}
    cuts = _cut_seam(emit, seam, seams.lengths)
    return {
        name: Signal(
            value=_assemble(emit, places, lengths, cuts),
            places=[(known[id(value)][0], int(known[id(value)][1][t])) for value, t in places],
        )
        for name, places in located.items()
    }


class _Seams:
    """The seam windows, in the order of use, so that every run of them is one piece of a Split; equal runs once.

    A window that several different runs hold is computed in each: a row of a product costs less than a node.
    """

    def __init__(self) -> None:
        self.windows: list[tuple[int, ...]] = []
        self._runs: dict[tuple[tuple[int, ...], ...], int] = {}

    @property
    def lengths(self) -> list[int]:
        """Lengths of the runs, which follow each other."""
        return [len(run) for run in self._runs]

    def places(self, windows: np.ndarray, seam: Sequence[int]) -> dict[int, int]:
        """Return where the windows numbered in `seam`, in ascending order, stand among all seams."""
        places: dict[int, int] = {}
        for low, high in spans(seam):
            key = tuple(map(tuple, windows[low:high].tolist()))
            if key not in self._runs:
                self._runs[key] = len(self.windows)
                self.windows += key
            places |= {i: self._runs[key] + i - low for i in range(low, high)}
        return places


Cuts = dict[tuple[int, int, int], Any]
"""Pieces that are there already, by the value's id and their span."""


def _cut_seam(emit: Emitter, seam: ir.Value | None, sizes: Sequence[int]) -> Cuts:
    """Return the runs of the seam, cut by one Split; nothing where it is a single one."""
    if seam is None or len(sizes) < 2:
        return {}
    parts = emit.many("Split", seam, sizes, n=len(sizes), axis=2)
    edges = pairwise(accumulate(sizes, initial=0))
    return {(id(seam), low, high): part for (low, high), part in zip(edges, parts, strict=True)}


def _regular_start(window: np.ndarray, stage: Conv1d) -> int | None:
    """Return a if the window is the zero-extended x from sample a on, else None; all zeros count as a seam."""
    inside = np.flatnonzero(window >= 0)
    if not len(inside):
        return None
    start = int(window[inside[0]] - stage.dilation * inside[0])
    expected = start + stage.dilation * np.arange(stage.taps)
    expected = np.where((expected >= 0) & (expected < stage.n_in), expected, -1)
    return start if np.array_equal(expected, window) else None


def _phase_output(emit: Emitter, x: ir.Value, stage: Conv1d, starts: list[int]) -> tuple[ir.Value, int, int]:
    """Convolve x so that output j is the regular window from ``first + j stride`` on; return it, first, and its length."""
    first, last = starts[0], starts[-1]
    if first > 0:
        first = first % stage.stride - stage.stride * (first % stage.stride != 0)
    whole = replace(stage, left=max(-first, 0), right=max(last + stage.span - stage.n_in, 0))
    return whole.emit(emit, x), first, whole.n_out


def _seam_output(
    emit: Emitter, x: ir.Value, stage: Conv1d, seams: Sequence[tuple[int, ...]]
) -> tuple[ir.Value, Source, np.ndarray]:
    """Gather the seam windows as rows and multiply them with the kernel.

    Return the outputs, (batch, outputs, windows), the product as a source and which of its windows each of them is.

    The samples that seams read are cut out first and gathered as rows with time in front: element by element along time
    would cost more than the convolution. A row of zeros stands for zero padding.
    """
    index = np.array(list(seams), dtype=np.int64)
    n_chans = stage.weight.shape[1]
    rows, samples = _sample_rows(emit, x, stage, np.unique(index[index >= 0]))
    if (index < 0).any():
        rows = emit("Pad", rows, [0, 0, 0, 0, 1, 0])
    place = {t: i for i, t in enumerate(samples)}
    order = np.array([place.get(int(t), len(place)) for t in index.reshape(-1)], dtype=np.int64)
    windows = emit("Reshape", emit("Gather", rows, order, axis=1), [-1, stage.taps * n_chans])
    kernel = stage.weight.transpose(2, 1, 0).reshape(stage.taps * n_chans, -1).astype(np.float32)
    bias = [] if stage.bias is None else [stage.bias.astype(np.float32)]
    product = emit("Gemm", windows, kernel, *bias)
    y = emit("Transpose", emit("Reshape", product, [-1, len(seams), len(stage.weight)]), perm=[0, 2, 1])
    distinct, which = np.unique(order.reshape(len(seams), -1), axis=0, return_inverse=True)
    return y, Source(value=product, windows=distinct), which.reshape(-1)


SHORTEST = 4
"""Samples that a piece must have for one Gather of pieces to be cheaper than cutting and joining."""


def _sample_rows(emit: Emitter, x: ir.Value, stage: Conv1d, wanted: np.ndarray) -> tuple[ir.Value, list[int]]:
    """Return samples of x as rows, (batch, samples, n_chans), and which they are: those wanted, and perhaps others."""
    n_chans, runs = stage.weight.shape[1], spans(wanted.tolist())
    size = _piece(wanted, stage.n_in) if len(runs) > 1 else 0
    if size:  # x as pieces of one length, of which some are taken
        taken = np.unique(wanted // size)
        pieces = emit("Gather", emit("Reshape", x, [-1, n_chans, stage.n_in // size, size]), taken, axis=2)
        rows = emit("Reshape", emit("Transpose", pieces, perm=[0, 2, 3, 1]), [-1, len(taken) * size, n_chans])
        return rows, [int(k) * size + i for k in taken for i in range(size)]
    if not runs:
        runs = [(0, 1)]
        pieces = emit("Mul", emit.slice(x, 2, 0, 1), np.float32(0.0))
    else:
        cut = [emit.slice(x, 2, low, high) for low, high in runs]
        pieces = emit("Concat", *cut, axis=2) if len(cut) > 1 else cut[0]
    return emit("Transpose", pieces, perm=[0, 2, 1]), [t for low, high in runs for t in range(low, high)]


def _piece(wanted: np.ndarray, n_times: int) -> int:
    """Return the length of the pieces that hold the wanted samples most cheaply; 0 where most samples would be idle."""
    pieces = {k: len(np.unique(wanted // k)) for k in range(SHORTEST, n_times) if n_times % k == 0}
    best = min(pieces, key=lambda k: pieces[k] * (k + COSTS.piece_samples), default=0)
    return best if best and pieces[best] * best <= 2 * len(wanted) else 0


def _assemble(emit: Emitter, places: list[tuple[Any, int]], lengths: dict[int, int], cuts: Cuts) -> ir.Value:
    """Put a view's output together from runs of neighbouring samples."""
    parts = []
    for _, run in groupby(enumerate(places), lambda item: (id(item[1][0]), item[1][1] - item[0])):
        (_, (value, low)), *more = run
        high = low + 1 + len(more)
        part = cuts.get((id(value), low, high))
        if part is None:
            whole = (low, high) == (0, lengths[id(value)])
            part = value if whole else emit.slice(value, 2, low, high)
        parts.append(part)
    return emit("Concat", *parts, axis=2) if len(parts) > 1 else parts[0]


def _reversed(emit: Emitter, x: ir.Value, stage: Conv1d) -> Signal:
    """The flipped kernel with the paddings exchanged, read backwards; samples the stride leaves over move to the front."""
    over = stage.n_in + stage.left + stage.right - (stage.n_out - 1) * stage.stride - stage.span
    flipped = replace(stage, weight=stage.weight[:, :, ::-1], left=stage.right - over, right=stage.left)
    source = Source(value=flipped.emit(emit, x))
    backwards = range(stage.n_out - 1, -1, -1)
    return Signal(value=emit.slice(source.value, 2, -1, None, -1), places=[(source, t) for t in backwards])
