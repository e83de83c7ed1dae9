r"""What views share of what is affine in the window, in front of everything else.

They share the first stage (`rtserve.fusion.program.stage`) and a filter behind it (`rtserve.fusion.program.shared_filter`).
A factor waits until the end of the affine part: for an affine map, :math:`L(a x) + b = a\,(L x + b) + (1 - a)\,b`, so a
scaled view is one step behind all of it, whatever else the view does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.value import static_dims
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.ir.conv import Conv1d
from rtserve.fusion.ir.joint import Signal, join
from rtserve.fusion.ir.linear_view import LinearView
from rtserve.fusion.ir.traits import Trait, has
from rtserve.fusion.program.shared_filter import share_filter
from rtserve.fusion.program.stack import Stacker
from rtserve.fusion.program.stage import share_views
from rtserve.graphs.double import double_model
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant

__all__ = ["scaled", "share_affine"]


def share_affine(
    emit: Emitter,
    x: ir.Value,
    stacker: Stacker,
    conv: Conv1d,
    views: Sequence[LinearView],
    *,
    stop: Any,
    group: int,
    notes: list[str],
) -> dict[Any, ir.Value]:
    """Return values of the first member for all views and members, (views x batch, members x d1, ...).

    Parameters
    ----------
    emit : Emitter
        Where the nodes go.
    x : Value
        The window (batch, n_chans, n_times).
    stacker : Stacker
        The members.
    conv : Conv1d
        The convolution of the first member that alone reads the window.
    views : sequence of LinearView
        Of any kind.
    stop : Value
        What will be computed of the first member at most.
    group : int
        The number of the members among those of other signatures.
    notes : list of str
        What is shared is added.
    """
    first, stage = conv.node.outputs[0], stacker.conv(conv)
    notes.append(f"views share Conv {first.name}")
    plain = [replace(view, factor=1.0) for view in views]
    early = list({view.key: view for view in plain}.values())
    bias = np.zeros((len(stage.weight), 1)) if stage.bias is None else stage.bias.astype(np.float64)[:, None]
    parts = {first: share_views(emit, x, stage, early)}
    amplitudes = any(view.factor != 1.0 for view in views)
    last = _last_affine(stacker.models[0], conv.node, stop) if amplitudes else None
    if last is not None or not amplitudes:
        base = next((part.value for part, view in zip(parts[first], early, strict=True) if view.identity), None)
        filtered = share_filter(emit, stacker, conv, early, base)
        notes += [f"views share the filter {value.name}" for value in filtered]
        parts = filtered | parts
    if last is not None:
        notes.append(f"scaled views share everything up to {last.name}")
        start = {value: join(emit, found, offset=bias[:, 0], group=None) for value, found in parts.items()}
        y = stacker.run(start=start, shared=set(), stop=last)
        n = len(early)
        split = emit.many("Split", y, n=n, axis=0, num_outputs=n) if n > 1 else [y]
        place = list(stacker.models[0].graph).index(last.producer())
        bias = np.concatenate([_at_zero(model, place) for model in stacker.models])
        parts = {last: [Signal.whole(part, bias.shape[-1]) for part in split]}
    joined = {}
    for value, found in parts.items():
        made = {view.key: signal for view, signal in zip(early, found, strict=True)}
        outputs = [scaled(emit, made[one.key], view.factor, bias) for one, view in zip(plain, views, strict=True)]
        joined[value] = join(emit, outputs, offset=bias.reshape(len(bias), -1)[:, 0], group=group)
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


def _affine_values(model: ir.Model, conv: ir.Node) -> set[Any]:
    """Return the values behind the stage that are affine in its output."""
    found = {conv.outputs[0]}
    for node in model.graph:
        computed = [v for v in node.inputs if v is not None and constant(v) is None]
        if not computed or not all(v in found for v in computed):
            continue
        if has(node, Trait.AFFINE) or (has(node, Trait.WEIGHS) and computed == [node.inputs[0]]):
            found.update(node.outputs)
    return found


def _last_affine(model: ir.Model, conv: ir.Node, stop: Any) -> Any:
    """Return the last affine value through which everything flows to `stop`; None if that is the stage's output."""
    affine, best = _affine_values(model, conv), None
    waiting = {model.graph.inputs[0]: len(model.graph.inputs[0].uses())}
    for node in model.graph:
        for value in node.inputs if stop not in waiting else ():
            if value in waiting:
                waiting |= {value: waiting[value] - 1} | {out: len(out.uses()) for out in node.outputs}
        waiting = {value: uses for value, uses in waiting.items() if uses or value is stop}
        if list(waiting) == [node.outputs[0]] and node is not conv and node.outputs[0] in affine - {stop}:
            best = node.outputs[0]
    return best


def _at_zero(model: ir.Model, place: int) -> np.ndarray:
    """Return what the first output of node `place` is for a window of zeros, (d1, ...), in float64."""
    from onnx.reference import ReferenceEvaluator

    copy = model.clone()
    copy.graph.outputs[:] = [list(copy.graph)[place].outputs[0]]
    copy = clean(copy)
    x = copy.graph.inputs[0]
    evaluator = ReferenceEvaluator(double_model(ir.serde.serialize_model(copy)))
    result: np.ndarray = evaluator.run(None, {x.name: np.zeros((1, *static_dims(x)))})[0][0]
    return result
