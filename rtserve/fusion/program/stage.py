r"""The first stage of all views, from what it makes of the window.

Let the stage be a convolution of kernel K, stride s, dilation d along time. Output t of a view is decided by its
*window*: which samples of x its taps read, zero padding included, first tap first or, of a window that runs backwards,
last tap first. Views that only move samples in time read windows that are mostly the same:

- a **regular** window is x (zero-extended) from sample a on; all regular windows with the same a mod s are one
  convolution of x, whichever views ask for them;
- a **seam** window touches a wrap or an artificial edge; the few distinct ones are gathered and convolved by themselves.

With K = 1 every window is regular, so a collapsed prefix mixes the electrodes once for all of these views. A channel
permutation and a reversed kernel are further weights, shared by all views that have them; a dropped channel subtracts its
own contribution. A factor waits until the end of what is affine (`rtserve.fusion.program.affine_end`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK, COSTS
from rtserve.fusion.ir.conv import ZERO, Conv1d
from rtserve.fusion.ir.joint import Signal, Source
from rtserve.fusion.ir.landmarks import SEAMS
from rtserve.fusion.ir.linear_view import LinearView, runs_of
from rtserve.fusion.program.share import spans
from rtserve.graphs.emit import Emitter

__all__ = ["pays", "share_views"]

SHORTEST = 4
"""Samples that a piece must have for one Gather of pieces to be cheaper than cutting and joining."""
SEAM_NODES = 8
"""Nodes that gather seam windows, multiply them and put them in place."""


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
        Of any kind, without their factors.
    """
    x, stage, views = _read_by_any(emit, x, stage, views)
    made: dict[int, Signal] = {}
    for own, wanted in _kernels(stage, views):
        made |= zip(wanted, _outputs(emit, x, own, np.stack(list(wanted.values()))), strict=True)
    return [_without(emit, x, stage, view, made[number]) for number, view in enumerate(views)]


def pays(stage: Conv1d, views: Sequence[LinearView]) -> bool:
    """Whether what views share of a stage costs less than views of the window in front of it would.

    Views that read no windows in common cost more multiply-adds shared: every phase is computed whole, seam windows besides.
    Two phases of stride 2 may be had for three quarters (`rtserve.fusion.lower.onnxruntime.paired`). In front every view is
    written twice, once more where there are several, and each is put in blocks by itself.
    """
    wanted = [(own, *_parts(own, np.stack(list(mine.values())))) for own, mine in _kernels(stage, views)]
    seams = [sum(len(run) for run in runs.values()) for _, _, runs, _ in wanted]
    blocks = stage.channels >= BLOCK and not len(stage.weight) % BLOCK
    computed = sum(seams) + sum(
        sum(whole.n_out for whole in phases.values()) * (0.75 if blocks and stage.stride == len(phases) == 2 else 1)
        for _, phases, _, _ in wanted
    )
    if (more := computed - len(views) * stage.n_out) <= 0:
        return True
    moved, others = [view for view in views if not view.still], len(views) - 1
    pieces = [len(runs_of(numbers)) for _, _, _, number in wanted for numbers in number]
    nodes = sum(pieces) + len(views) + SEAM_NODES * np.count_nonzero(seams) - sum(len(view.runs) + 1 for view in moved)
    size, written = stage.channels * stage.n_in, 2 * len(moved) + others + bool(others)
    front = size * (COSTS.placed_us * written + COSTS.blocked_us * others)
    return bool(front > more * stage.weight.size / COSTS.macs_per_us + nodes * COSTS.node_us)


def _kernels(stage: Conv1d, views: Sequence[LinearView]) -> list[tuple[Conv1d, dict[int, np.ndarray]]]:
    """Return the stage with every kernel that views have of it, and what windows the views, by number, read of that."""
    kernels: dict[Any, tuple[Conv1d, dict[int, np.ndarray]]] = {}
    for number, view in enumerate(views):
        weight, windows = stage.weight, stage.reads(view.times)
        channels = b"" if _in_place(view) else view.channels.tobytes()
        backwards = sum(step * n for _, step, n in view.runs) < 0
        if channels:  # the weights on the channels of x that these are
            weight, kept = np.zeros_like(weight), view.channels != ZERO
            np.add.at(weight.swapaxes(0, 1), view.channels[kept], stage.weight.swapaxes(0, 1)[kept])
        if backwards:
            weight, windows = weight[:, :, ::-1], windows[:, ::-1]
        kernels.setdefault((channels, backwards), (replace(stage, weight=weight), {}))[1][number] = windows
    return list(kernels.values())


def _read_by_any(
    emit: Emitter, x: ir.Value, stage: Conv1d, views: Sequence[LinearView]
) -> tuple[ir.Value, Conv1d, Sequence[LinearView]]:
    """Return it all without the channels that no view reads: what is in them, NaN too, must not be read."""
    read = np.flatnonzero(np.any([view.channels != ZERO for view in views], axis=0))
    if not len(read):  # zeros in place of a channel: of none there is no convolution
        views = [replace(view, channels=np.zeros(1, dtype=view.channels.dtype)) for view in views]
        return _zeros_like(emit, emit.slice(x, 1, 0, 1)), replace(stage, weight=stage.weight[:, :1]), views
    if len(read) == len(views[0].channels) or not all(map(_in_place, views)):
        return x, stage, views
    own = [np.where(view.channels[read] == ZERO, ZERO, np.arange(len(read))) for view in views]
    views = [replace(view, channels=channels) for view, channels in zip(views, own, strict=True)]
    return emit("Gather", x, read, axis=1), replace(stage, weight=stage.weight[:, read]), views


def _zeros_like(emit: Emitter, x: ir.Value) -> ir.Value:
    """Return zeros of a value's shape, whatever is in it: NaN times zero is NaN."""
    return emit("Where", np.array(False), x, np.float32(0.0))


def _in_place(view: LinearView) -> bool:
    """Whether a view is the window, or that without some channels, whose contributions can be taken off."""
    kept = np.flatnonzero(view.channels != ZERO)
    return view.in_order or (view.still and np.array_equal(view.channels[kept], kept))


def _without(emit: Emitter, x: ir.Value, stage: Conv1d, view: LinearView, whole: Signal) -> Signal:
    """Return what is left of the stage's output where a view drops channels."""
    dropped = np.flatnonzero(view.channels == ZERO)
    if not len(dropped) or not _in_place(view):
        return whole
    own = replace(stage, weight=stage.weight[:, dropped], bias=None)
    return Signal.whole(emit("Sub", whole.value, own.emit(emit, emit("Gather", x, dropped, axis=1))), stage.n_out)


def _outputs(emit: Emitter, x: ir.Value, stage: Conv1d, windows: np.ndarray) -> list[Signal]:
    """Return the outputs of windows (views, n_out, taps), put together of shared phases and a few runs of seam windows."""
    phases, runs, number = _parts(stage, windows)
    parts = {
        n: Signal.whole(whole.emit(emit, x), whole.n_out, stage=stage, windows=whole.reads(np.arange(stage.n_in)))
        for n, whole in phases.items()
    }
    if runs:
        parts |= zip(runs, _seams(emit, x, stage, list(runs.values())), strict=True)
    return [_assembled(emit, parts, numbers) for numbers in number]


def _parts(stage: Conv1d, windows: np.ndarray) -> tuple[dict[int, Conv1d], dict[int, np.ndarray], np.ndarray]:
    """Return the phases and the runs of seam windows that views read, by the number of their first output, and every view's.

    All of these are numbered, with one number between any two of them that belongs to none.
    """
    begins, regular = _begins(windows, stage)
    number, phases, n = np.zeros(windows.shape[:2], dtype=np.int64), {}, 0
    for phase in np.unique(begins[regular] % stage.stride):
        mine = regular & (begins % stage.stride == phase)
        first = min(begins[mine].min(), -(-begins[mine].min() % stage.stride))
        over = begins[mine].max() + stage.span - stage.n_in
        phases[n] = replace(stage, left=int(max(-first, 0)), right=int(max(over, 0)))
        number[mine] = n + (begins[mine] - first) // stage.stride
        n += phases[n].n_out + 1
    runs: dict[bytes, tuple[int, np.ndarray]] = {}
    for view, seam in enumerate(~regular):
        for low, high in spans(np.flatnonzero(seam)):
            run = windows[view, low:high]
            start, _ = runs.setdefault(run.tobytes(), (n, run))
            n += (len(run) + 1) * (start == n)
            number[view, low:high] = np.arange(start, start + len(run))
    return phases, dict(runs.values()), number


def _begins(windows: np.ndarray, stage: Conv1d) -> tuple[np.ndarray, np.ndarray]:
    """Return from which sample of x every window is, and where it is the zero-extended x; all zeros count as a seam."""
    tap = np.argmax(windows != ZERO, axis=-1)
    begins = np.take_along_axis(windows, tap[..., None], axis=-1)[..., 0] - stage.dilation * tap
    at = begins[..., None] + stage.dilation * np.arange(stage.taps)
    extended = np.where((at >= 0) & (at < stage.n_in), at, ZERO)
    return begins, (windows == extended).all(axis=-1) & (windows != ZERO).any(axis=-1)


def _assembled(emit: Emitter, parts: dict[int, Signal], numbers: np.ndarray) -> Signal:
    """Return the signal of some outputs of parts, which stand by the number of their first, from runs of neighbours."""
    pieces, places = [], []
    for first, step, n in runs_of(numbers):
        start = max(start for start in parts if start <= first)
        low, value, own = first - start, parts[start].value, parts[start].places
        places += [own[low + step * i] for i in range(n)]
        if step < 0:
            value = emit.slice(value, 2, low - len(own), low - n if low >= n else None, -1)
        elif n < len(own):
            value = emit.slice(value, 2, low, low + n)
        pieces.append(value)
    return Signal(value=emit("Concat", *pieces, axis=2) if len(pieces) > 1 else pieces[0], places=places)


def _seams(emit: Emitter, x: ir.Value, stage: Conv1d, runs: Sequence[np.ndarray]) -> list[Signal]:
    """Gather runs of seam windows as rows and multiply them with the kernel; their source is the product.

    Each window is there once where that saves more than the node that puts them in their places.
    The samples that seams read are cut out first and gathered as rows with time in front: element by element along time
    would cost more than the convolution. A row of zeros stands for zero padding.
    """
    every, n_chans, sizes = np.concatenate(runs), stage.weight.shape[1], [len(run) for run in runs]
    _, first, which = np.unique(every, axis=0, return_index=True, return_inverse=True)
    which, index = np.argsort(np.argsort(first))[which.reshape(-1)], every[np.sort(first)]
    if (len(every) - len(index)) * stage.weight.size < COSTS.node_us * COSTS.macs_per_us:  # a node to tell them apart
        which, index = np.arange(len(every)), every
    rows, samples = _sample_rows(emit, x, stage, np.unique(index[index >= 0]))
    if (index < 0).any():
        rows = emit("Pad", rows, [0, 0, 0, 0, 1, 0])
    place = {t: i for i, t in enumerate(samples)}
    order = np.array([place.get(int(t), len(place)) for t in index.reshape(-1)], dtype=np.int64)
    windows = emit("Reshape", emit("Gather", rows, order, axis=1), [-1, stage.taps * n_chans])
    kernel = stage.weight.transpose(2, 1, 0).reshape(stage.taps * n_chans, -1).astype(np.float32)
    bias = [] if stage.bias is None else [stage.bias.astype(np.float32)]
    product = emit("Gemm", windows, kernel, *bias)
    product.meta[SEAMS] = len(index)
    y = emit("Reshape", product, [-1, len(index), len(stage.weight)])
    y = emit("Gather", y, which, axis=1) if len(index) < len(every) else y
    y = emit("Transpose", y, perm=[0, 2, 1])
    cut = emit.many("Split", y, sizes, n=len(sizes), axis=2) if len(sizes) > 1 else [y]
    source = Source.of(product, len(index), flat=True, stage=stage, windows=index)
    places = [(source, int(t)) for t in which]
    ends = accumulate(sizes)
    return [Signal(value=value, places=places[end - n : end]) for value, n, end in zip(cut, sizes, ends, strict=True)]


def _sample_rows(emit: Emitter, x: ir.Value, stage: Conv1d, wanted: np.ndarray) -> tuple[ir.Value, list[int]]:
    """Return samples of x as rows, (batch, samples, n_chans), and which they are: those wanted, and perhaps others."""
    n_chans, runs = stage.weight.shape[1], spans(wanted)
    size = _piece(wanted, stage.n_in) if len(runs) > 1 else 0
    if size:  # x as pieces of one length, of which some are taken
        taken = np.unique(wanted // size)
        pieces = emit("Gather", emit("Reshape", x, [-1, n_chans, stage.n_in // size, size]), taken, axis=2)
        rows = emit("Reshape", emit("Transpose", pieces, perm=[0, 2, 3, 1]), [-1, len(taken) * size, n_chans])
        return rows, [int(k) * size + i for k in taken for i in range(size)]
    if not runs:
        runs = [(0, 1)]
        pieces = _zeros_like(emit, emit.slice(x, 2, 0, 1))
    else:
        cut = [emit.slice(x, 2, low, high) for low, high in runs]
        pieces = emit("Concat", *cut, axis=2) if len(cut) > 1 else cut[0]
    return emit("Transpose", pieces, perm=[0, 2, 1]), [t for low, high in runs for t in range(low, high)]


def _piece(wanted: np.ndarray, n_times: int) -> int:
    """Return the length of the pieces that hold the wanted samples most cheaply; 0 where most samples would be idle."""
    pieces = {k: len(np.unique(wanted // k)) for k in range(SHORTEST, n_times) if n_times % k == 0}
    best = min(pieces, key=lambda k: pieces[k] * (k + COSTS.piece_samples), default=0)
    return best if best and pieces[best] * best <= 2 * len(wanted) else 0
