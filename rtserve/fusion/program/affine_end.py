r"""What views share of what is affine in the window, in front of everything else.

They share the first stage (`rtserve.fusion.program.stage`), and a filter behind it (`rtserve.fusion.program.shared_filter`).
A factor waits until the end of the affine part: for an affine map, :math:`L(a x) + b = a\,(L x + b) + (1 - a)\,b`, so a
scaled view is one step behind all of it, whatever else the view does.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from operator import is_not
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.value import static_dims
from rtserve.fusion.ir.conv import Conv1d
from rtserve.fusion.ir.joint import Signal, join
from rtserve.fusion.ir.nodes import computing
from rtserve.fusion.ir.traits import Trait, has
from rtserve.fusion.program.shared_filter import share_filter
from rtserve.fusion.program.stack import Stacker
from rtserve.fusion.program.stage import share_views
from rtserve.graphs.double import double_model
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant
from rtserve.graphs.graph import IR_VERSION

__all__ = ["scaled", "share_affine"]


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
        filtered = share_filter(stacker, conv, list(early.values()), parts[first])
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
    from onnx.reference import ReferenceEvaluator

    x = graph.inputs[0]
    part = ir.Model(ir.convenience.extract(graph, [x], [value]), ir_version=IR_VERSION)
    evaluator = ReferenceEvaluator(double_model(ir.serde.serialize_model(part)))
    result: np.ndarray = evaluator.run(None, {x.name: np.zeros((1, *static_dims(x)))})[0][0]
    return result
