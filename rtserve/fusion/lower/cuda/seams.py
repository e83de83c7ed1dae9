r"""Views in front of the first stage, by two Gathers.

Assembly puts a view together out of runs of shared outputs and of seam windows, a handful of small kernels for each view.
Here the window's samples, and zeros, are gathered into one signal that holds every window which the views' outputs read
(`rtserve.fusion.program.share.pack`); the stage runs on that, once; and with its outputs R as rows,
:math:`v_b[n, :] = R[\,i_b(n), :\,]` is one Gather for all views. A factor is on what is linear,
:math:`a\,(R - b) + b` with b the bias, which is left out of R and added behind. The views lie behind the batch then, and
are put apart from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.cuda import CONVOLVED, JOINED, PACKED, SCALED, SEAMS
from rtserve.fusion.ir.conv import ZERO, Conv1d
from rtserve.fusion.ir.joint import Apart, Joint, Source, joints
from rtserve.fusion.ir.passes import PassResult, Refused
from rtserve.fusion.lower.apart import apart_behind, turn_apart
from rtserve.fusion.program.share import Packing, pack
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

__all__ = ["Views", "gathered", "pieced", "read", "run"]


def run(model: ir.Model) -> PassResult:
    """Rewrite all views that are joined on the batch, in place."""
    result = PassResult()
    for node, joint in joints(model):
        with result.at(node):
            views = read(joint)
            if (few := _launched(joint)) <= views.launched:
                raise Refused(f"they are put together by {few} kernels as they are")
            result.done(gathered(model, node, views, apart_behind(model, joint)))
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """What joined views read.

    Parameters
    ----------
    stages : list of Packing
        Convolutions of the window, each with the samples of it that hold all that it reads; their places are not used.
    place : ndarray, (views, samples)
        Which output every sample of a view is, those of all stages one behind the other.
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

    @property
    def launched(self) -> int:
        """How many kernels put them together by Gathers."""
        several = len(self.stages) > 1
        return (PACKED + CONVOLVED) * len(self.stages) + JOINED * (1 + several) + SCALED * self.scaled


def read(joint: Joint) -> Views:
    """Return what the views read.

    Raises
    ------
    Refused
        Where that is not known.
    """
    mine: dict[Conv1d, list[tuple[Source, int]]] = {}
    for source, first in joint.sources.items():
        if source.stage is None:
            raise Refused(f"{source.name} is no output of the first stage")
        mine.setdefault(source.stage, []).append((source, first))
    stages, place, n = [], np.zeros_like(joint.index), 0
    factors = np.zeros(joint.index.shape)
    for stage, its in mine.items():
        windows = np.full((*joint.index.shape, stage.taps), ZERO - 1)
        for source, first in its:
            here = (joint.index >= first) & (joint.index < first + source.samples)
            windows[here] = source.windows[joint.index[here] - first]  # type: ignore[index]
            factors[here] = source.factor
        own = (windows[..., 0] >= ZERO).all(axis=1)
        if own.sum() * place.shape[1] != (windows[..., 0] >= ZERO).sum():
            raise Refused("a view is put together by several convolutions")
        packing = _packed(stage, windows[own])
        stages.append(packing)
        place[own] = packing.place + n
        n += packing.conv.n_out
    if np.ptp(factors, axis=1).any():
        raise Refused("a view has several factors")
    return Views(stages=stages, place=place, factors=factors[:, 0])


def _packed(stage: Conv1d, windows: np.ndarray) -> Packing:
    """Return the signal that holds all windows, (views, outputs, taps), and the stage on it."""
    turned = [_signal(stage, view) for view in windows]
    signals = [
        _signal(stage, view[::-1]) if signal is None else signal for view, signal in zip(windows, turned, strict=True)
    ]
    if any(signal is None for signal in signals):
        raise Refused("a view's windows are no signal")
    found = pack(np.stack(signals), replace(stage, n_in=len(signals[0]), left=0, right=0))  # type: ignore[arg-type]
    place = [row[::-1] if signal is None else row for row, signal in zip(found.place, turned, strict=True)]
    return replace(found, place=np.stack(place))


def _signal(stage: Conv1d, windows: np.ndarray) -> np.ndarray | None:
    """Return the samples over which windows (outputs, taps) move by the stride; None where they move otherwise."""
    at = stage.stride * np.arange(len(windows))[:, None] + stage.dilation * np.arange(stage.taps)
    signal = np.full(at.max() + 1, ZERO)
    signal[at] = windows
    return signal if np.array_equal(signal[at], windows) else None


def pieced(joint: Joint) -> list[bool]:
    """Return which views are put together of several sources."""
    firsts = np.array(list(joint.sources.values()))
    return [len(np.unique(np.searchsorted(firsts, index, side="right"))) > 1 for index in joint.index]


def _launched(joint: Joint) -> int:
    """Return how many kernels put the views together as assembled."""
    made = [SCALED if source.base else SEAMS if source.flat else CONVOLVED for source in joint.sources]
    return sum(made) + JOINED * (sum(pieced(joint)) + 1)


def gathered(
    model: ir.Model, node: ir.Node, views: Views, ends: list[tuple[ir.Node, Apart]], *, turned: bool = False
) -> str:
    """Write the views in the place of a node that joins them; return what was done.

    The window's samples are gathered along time, or, `turned`, as rows.
    """
    emit = Emitter(model.graph, before=node, prefix="seams")
    n_views, samples = views.place.shape
    first = views.stages[0].conv
    outputs = len(first.weight)
    tables = [
        _outputs(emit, model.graph.inputs[0], packing, bias=not views.scaled, turned=turned) for packing in views.stages
    ]
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
