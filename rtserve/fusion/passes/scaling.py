r"""Amplitude views share the whole affine part of a network, not only its first convolution.

For an affine map, :math:`L(a x) + b = a\,(L x + b) + (1 - a)\,b`. Where the first stage is followed by more that is affine
(a filter, its edge corrections, a time-dependent bias), scale and sign-flip are applied behind all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.ir.joint import Signal, join
from rtserve.fusion.ir.linear_view import LinearView
from rtserve.fusion.ir.traits import Trait, has
from rtserve.fusion.passes.affine import static_dims
from rtserve.fusion.passes.running import clean
from rtserve.fusion.passes.share import scaled
from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.fusion.passes.stack import Stacker
    from rtserve.graphs.emit import Emitter

__all__ = ["LateScaling", "late_scaling"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LateScaling:
    """Where amplitude views are made.

    Parameters
    ----------
    value : Value
        The last affine value of the first member's graph.
    early : list of LinearView
        Views computed up to it; the identity is the first where a scaled view needs it.
    views : list of LinearView
        All views in their order.
    bias : ndarray, (members x d1, ...)
        What `value` is for a window of zeros.
    """

    value: Any
    early: list[LinearView]
    views: list[LinearView]
    bias: np.ndarray

    def write(self, emit: Emitter, stacker: Stacker, start: dict[Any, ir.Value], group: int) -> ir.Value:
        """Return the affine value for all views, (views x batch, members x d1, ...), from what the early ones share."""
        y = stacker.run(start=start, shared=set(), stop=self.value)
        parts = (
            emit.many("Split", y, n=len(self.early), axis=0, num_outputs=len(self.early))
            if len(self.early) > 1
            else [y]
        )
        signals = [Signal.whole(part, self.bias.shape[-1]) for part in parts]
        made = {view.key: signal for view, signal in zip(self.early, signals, strict=True)}
        outputs = [made[v.key] if v.key in made else scaled(emit, signals[0], v.factor, self.bias) for v in self.views]
        return join(emit, outputs, offset=self.bias.reshape(len(self.bias), -1)[:, 0], group=group)


def late_scaling(
    models: Sequence[ir.Model], conv: ir.Node, views: Sequence[LinearView], stop: Any
) -> LateScaling | None:
    """Return how amplitude views can wait until the end of the affine part, or None where that is the stage itself."""
    if not any(_amplitude(view) and view.factor != 1.0 for view in views):
        return None
    last = _last_affine(models[0], conv, stop)
    if last is None:
        return None
    place = list(models[0].graph).index(last.producer())
    identity = replace(next(view for view in views if _amplitude(view)), factor=1.0)
    return LateScaling(
        value=last,
        early=[identity, *(view for view in views if not _amplitude(view))],
        views=list(views),
        bias=np.concatenate([_at_zero(model, place) for model in models]),
    )


def _amplitude(view: LinearView) -> bool:
    return view.still and view.in_order


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
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    from rtserve.graphs.double import double_model

    copy = ir.serde.deserialize_model(ir.serde.serialize_model(model))
    value = list(copy.graph)[place].outputs[0]
    copy.graph.outputs.clear()
    copy.graph.outputs.append(value)
    copy = clean(copy)
    n_chans, n_times = static_dims(copy.graph.inputs[0])
    evaluator = ReferenceEvaluator(double_model(ir.serde.serialize_model(copy)))
    zeros = np.zeros((1, n_chans, n_times))
    result: np.ndarray = evaluator.run(None, {copy.graph.inputs[0].name: zeros})[0][0]
    return result
