r"""Views in front of the first stage, by two Gathers.

The window's samples, and zeros, are gathered into one signal that holds every window which the views' outputs read
(`rtserve.fusion.program.share.pack`); the stage runs on that, once; and with its outputs R as rows,
:math:`v_b[n, :] = R[\,i_b(n), :\,]` is one Gather for all views. A factor is on what is linear,
:math:`a\,(R - b) + b` with b the bias, which is left out of R and added behind. The views lie behind the batch then, and
are put apart from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.conv import ZERO, Conv1d
from rtserve.fusion.ir.joint import Joint
from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.lower.apart import apart_behind, turn_apart
from rtserve.fusion.program.share import Packing, pack
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

__all__ = ["Views", "gathered", "pieced", "read"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """What joined views read.

    Parameters
    ----------
    stages : list of Packing
        Convolutions of the window, each with the samples that hold what it reads; their places are not used.
    place : ndarray, (views, samples)
        Which output every sample of every view is, those of all stages one behind the other.
    factors : ndarray, (views,)
        Times what.
    """

    stages: list[Packing]
    place: np.ndarray
    factors: np.ndarray

    @property
    def scaled(self) -> bool:
        """Whether a view has a factor."""
        return bool((self.factors != 1.0).any())


def read(joint: Joint) -> Views:
    """Return what the views read; each is put together by one convolution, times one factor.

    Raises
    ------
    Refused
        Where that is not known.
    """
    stages: list[Conv1d] = []
    for source in joint.sources:
        if source.stage is None:
            raise Refused(f"{source.name} is no output of the first stage")
        stages += [source.stage] * (source.stage not in stages)
    made = np.array([(stages.index(s.stage), s.factor) for s in joint.sources])[joint.number]  # type: ignore[arg-type]
    if np.ptp(made, axis=1).any():
        raise Refused("a view is put together by several convolutions, or has several factors")
    first = [list(joint.sources)[number] for number in joint.number[:, 0]]
    packings, place, n = [], np.zeros_like(joint.index), 0
    for stage in stages:
        own = np.array([source.stage is stage for source in first])
        found = [s.windows if s.stage is stage else np.zeros((s.samples, stage.taps), int) for s in joint.sources]
        packings.append(_packed(stage, np.concatenate(found)[joint.index[own]]))  # type: ignore[arg-type]
        place[own] = packings[-1].place + n
        n += packings[-1].conv.n_out
    return Views(stages=packings, place=place, factors=np.array([source.factor for source in first]))


def _packed(stage: Conv1d, windows: np.ndarray) -> Packing:
    """Return the signal that holds all windows, (views, outputs, taps), and the stage on it.

    The windows of a view move by the stride over a signal of its own, forwards or backwards.
    """
    at = stage.stride * np.arange(windows.shape[1])[:, None] + stage.dilation * np.arange(stage.taps)
    signals, turns = np.full((len(windows), at.max() + 1), ZERO), []
    for signal, view in zip(signals, windows, strict=True):
        signal[at] = view
        turns.append(1 if np.array_equal(signal[at], view) else -1)
        signal[at] = view[:: turns[-1]]
        if not np.array_equal(signal[at], view[:: turns[-1]]):
            raise Refused("a view's windows are no signal")
    found = pack(signals, replace(stage, n_in=signals.shape[1], left=0, right=0))
    return replace(found, place=np.stack([row[::turn] for row, turn in zip(found.place, turns, strict=True)]))


def pieced(joint: Joint) -> int:
    """Return how many views are put together of several sources."""
    return int(np.count_nonzero(np.ptp(joint.number, axis=1)))


def gathered(model: ir.Model, node: ir.Node, joint: Joint, views: Views, *, turned: bool = False) -> str:
    """Write the views in the place of a node that joins them; return what was done.

    The window's samples are gathered along time, or, `turned`, as rows.
    """
    ends = apart_behind(model, joint)
    emit = Emitter(model.graph, before=node, prefix="seams")
    (n_views, samples), first = views.place.shape, views.stages[0].conv
    outputs, x = len(first.weight), model.graph.inputs[0]
    tables = [_outputs(emit, x, packing, bias=not views.scaled, turned=turned) for packing in views.stages]
    table = emit("Concat", *tables, axis=1) if len(tables) > 1 else tables[0]
    y = emit("Gather", table, views.place.reshape(-1), axis=1)
    if views.scaled:
        y = emit("Reshape", y, [-1, n_views, samples, outputs])
        y = emit("Mul", y, views.factors.reshape(-1, 1, 1).astype(np.float32))
        y = y if first.bias is None else emit("Add", y, first.bias.astype(np.float32))
    y = emit("Transpose", emit("Reshape", y, [-1, samples, outputs]), perm=[0, 2, 1])
    supersede(model, node.outputs[0], y)
    turn_apart(model, ends, range(n_views))
    computed = sum(packing.conv.n_out for packing in views.stages)
    return f"{computed} outputs computed for {views.place.size} of {n_views} views"


def _outputs(emit: Emitter, x: ir.Value, packing: Packing, *, bias: bool, turned: bool) -> ir.Value:
    """Return a stage's outputs as rows, (batch, outputs, channels)."""
    samples, n_times, axis = packing.samples, int(x.shape[2]), 1 if turned else 2  # type: ignore[index,arg-type]
    x = emit("Transpose", x, perm=[0, 2, 1]) if turned else x
    if (samples == ZERO).any():
        x = emit("Pad", x, [0] * (3 + axis) + [1] + [0] * (2 - axis))
        samples = np.where(samples == ZERO, n_times, samples)
    x = emit("Gather", x, samples, axis=axis)
    conv = packing.conv if bias else replace(packing.conv, bias=None)
    y = conv.emit(emit, emit("Transpose", x, perm=[0, 2, 1]) if turned else x)
    return emit("Transpose", y, perm=[0, 2, 1])
