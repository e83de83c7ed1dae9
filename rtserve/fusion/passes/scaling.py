r"""Amplitude views share the whole affine part of a network, not only its first convolution.

For an affine map, :math:`L(a x) + b = a\,(L x + b) + (1 - a)\,b`. Where the first stage is followed by more that is affine
(a filter, its edge corrections, a time-dependent bias), scale and sign-flip are applied behind all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.ir.traits import Trait, has
from rtserve.fusion.passes.affine import static_dims
from rtserve.fusion.passes.running import clean
from rtserve.fusion.passes.share import SCALING
from rtserve.fusion.views import View
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
    early : list of View
        Views computed up to it; the identity is the first where a scaled view needs it.
    views : list of View
        All views in their order.
    bias : ndarray, (members x d1, ...)
        What `value` is for a window of zeros.
    """

    value: Any
    early: list[View]
    views: list[View]
    bias: np.ndarray

    def write(self, emit: Emitter, stacker: Stacker, start: dict[Any, ir.Value]) -> ir.Value:
        """Return the affine value for all views, (views x batch, members x d1, ...), from what the early ones share."""
        y = stacker.run(start=start, shared=set(), stop=self.value)
        parts = (
            emit.many("Split", y, n=len(self.early), axis=0, num_outputs=len(self.early))
            if len(self.early) > 1
            else [y]
        )
        made = {view.name: part for view, part in zip(self.early, parts, strict=True)}
        base = parts[0]
        outputs = [made[v.name] if v.name in made else self._scaled(emit, base, v) for v in self.views]
        return emit("Concat", *outputs, axis=0)

    def _scaled(self, emit: Emitter, base: ir.Value, view: View) -> ir.Value:
        factor = np.float32(view.factor)
        scaled = emit("Mul", base, factor)
        shift = (1.0 - np.float64(factor)) * self.bias
        if not shift.any():
            return scaled
        if shift.ndim > 1 and np.ptp(shift.reshape(len(shift), -1), axis=1).max() == 0:
            shift = shift.reshape(len(shift), -1)[:, 0].reshape(-1, *([1] * (shift.ndim - 1)))
        return emit("Add", scaled, shift[None].astype(np.float32))


def late_scaling(models: Sequence[ir.Model], conv: ir.Node, views: Sequence[View], stop: Any) -> LateScaling | None:
    """Return how amplitude views can wait until the end of the affine part, or None where that is the stage itself."""
    if not any(view.kind in SCALING for view in views):
        return None
    last = _last_affine(models[0], conv, stop)
    if last is None:
        return None
    place = list(models[0].graph).index(last.producer())
    identity = View(name="identity", kind="identity")
    moving = [view for view in views if view.kind not in SCALING and view.kind != "identity"]
    return LateScaling(
        value=last,
        early=[identity, *moving],
        views=list(views),
        bias=np.concatenate([_at_zero(model, place) for model in models]),
    )


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
    x, found = model.graph.inputs[0], _affine_values(model, conv)
    best = None
    for node in model.graph:
        value = node.outputs[0]
        if node is conv or value is stop or value not in found or len(node.outputs) > 1:
            continue
        if not _reaches(stop, x, value):
            best = value
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


def _reaches(start: Any, target: Any, cut: Any) -> bool:
    """Whether walking back from `start`, not through `cut`, arrives at `target`."""
    stack, seen = [start], set()
    while stack:
        value = stack.pop()
        if value is target:
            return True
        if value is cut or value in seen or value is None:
            continue
        seen.add(value)
        node = value.producer()
        if node is not None:
            stack += list(node.inputs)
    return False
