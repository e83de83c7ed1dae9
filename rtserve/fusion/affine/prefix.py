r"""Collapse the linear prefix: what precedes the first non-linearity, in the cheaper order.

Temporal filters, batch normalisation, a spatial step and average pooling are one affine map of the window,

.. math:: v[g, t] = \sum_e S[g, e] \sum_\tau P[g, t, \tau]\, x[e, \tau] + b[g, t],

and the sums commute: mixing the electrodes first (u = S x) leaves one short filter per output instead of a bank over
129 electrodes. `trace` finds the map in float64, `toeplitz` says what P is; the result is a 1x1 convolution, a depthwise
filter with its edge corrections, and a bias. Where every output mixes several filters (a dense spatial step) the two
steps merge into one convolution instead. The order with fewer multiply-adds is taken.
"""

from __future__ import annotations

from contextlib import suppress

import onnx_ir as ir

from rtserve.fusion.affine.dense_step import mix_dense
from rtserve.fusion.affine.operator import spacings
from rtserve.fusion.affine.space_first import macs_after, restored, space_first
from rtserve.fusion.affine.trace import Trace, trace
from rtserve.fusion.affine.trace_conv import DenseMix, JointMix
from rtserve.fusion.affine.value import side_by_side, static_dims
from rtserve.fusion.ir.passes import PassResult, Refused
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede
from rtserve.graphs.macs import node_macs

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Collapse every affine value at which a non-linearity begins, in place.

    Parameters
    ----------
    model : onnx_ir.Model
        Constants folded, shapes inferred.
    """
    found, result, x = _traced(model), PassResult(), model.graph.inputs[0]
    emit = Emitter(model.graph, before=next(iter(model.graph)), prefix="prefix")
    for node, refusal in found.refusals.items():
        out = node.outputs[0]
        with result.at(node):
            if isinstance(refusal, DenseMix):
                y, did = mix_dense(emit, x, refusal, node_macs(node) + found.macs(node.inputs[0]))
                y = restored(emit, y, static_dims(out))
            elif isinstance(refusal, JointMix):
                y, did = _on_the_window(emit, x, refusal, static_dims(out)), "written on the window as it is"
            else:
                continue
            supersede(model, out, y)
            result.done(f"{out.name}: {did}")
    for siblings in _siblings(_worthwhile(model, found, result), found):
        result.done(_collapse(emit, model, siblings, found), len(siblings))
    if not result.changed:
        result.refused = list(dict.fromkeys([*result.refused, *found.refusals.values()]))
    return result


def _on_the_window(emit: Emitter, x: ir.Value, joint: JointMix, dims: tuple[int, ...]) -> ir.Value:
    """Return a convolution over a rearranged window as one on (n_chans, n_times) itself, which views can share."""
    if joint.conv is None:
        raise joint
    return emit("Unsqueeze", joint.conv.emit(emit, x), [3 if dims[2] == 1 else 2])


def _traced(model: ir.Model) -> Trace:
    """Return the trace by the fewest impulses that tell what every value reads."""
    *closer, last = spacings(static_dims(model.graph.inputs[0])[1])
    for apart in closer:
        with suppress(Refused):  # what was found goes before the next, which is twice as large
            return _told(model, trace(model, apart))
    return trace(model, last)


def _told(model: ir.Model, found: Trace) -> Trace:
    """Return a trace; refuse where what some value reads cannot be told from its responses."""
    asked = [affine for v in _frontier(model, found) if (affine := found.values[v]).mixed]
    for affine in [*asked, *(one.value for one in found.refusals.values() if isinstance(one, DenseMix))]:
        _ = affine.operator
    return found


def _frontier(model: ir.Model, found: Trace) -> list[ir.Value]:
    """Return affine values that something not affine reads, the input itself left out."""
    outputs = set(model.graph.outputs)
    return [v for v in found.values if v.producer() is not None and (v in outputs or found.stops_at(v))]


def _worthwhile(model: ir.Model, found: Trace, result: PassResult) -> list[ir.Value]:
    """Return the values that cost fewer multiply-adds with space first; why the others do not is noted.

    What a value shares with one that stays as it is, is computed in any case: a value is dropped where it costs no less
    than what it alone lets go of, the dearest first, until none is.
    """
    chosen: dict[ir.Value, int] = {}
    for value in _frontier(model, found):
        if not (found.values[value].mixed or found.ends_at(value)):
            continue  # what reads it says why
        with result.at(value.producer()):  # type: ignore[arg-type]
            chosen[value] = _less(value, found)
    while chosen:
        saved = found.saved(model, chosen)
        over = {v: cost - saved + found.saved(model, chosen.keys() - {v}) for v, cost in chosen.items()}
        worst = max(over, key=lambda v: over[v])
        if over[worst] < 0:
            break
        cost = chosen.pop(worst)
        with result.at(worst.producer()):  # type: ignore[arg-type]
            raise Refused(f"{cost - over[worst]:,} multiply-adds now that nothing else needs, {cost:,} collapsed")
    return list(chosen)


def _less(value: ir.Value, found: Trace) -> int:
    """Return the multiply-adds of a value with space first; refuse where it has as many now, all that it reads counted."""
    affine = found.values[value]
    if not affine.mixed:
        raise Refused("the non-linearity comes before the spatial step")
    before, after = found.macs(value), macs_after(affine)
    if after >= before:
        raise Refused(f"{before:,} multiply-adds now, {after:,} collapsed")
    return after


def _siblings(values: list[ir.Value], found: Trace) -> list[list[ir.Value]]:
    """Return values in groups that are one value side by side: same time axis, and cheap to filter together."""
    groups: list[list[ir.Value]] = []
    for value in values:
        mine = found.values[value]
        alike = (group for group in groups if found.values[group[0]].dims[1:] == mine.dims[1:])
        if (own := next((group for group in alike if _join_pays([*group, value], found)), None)) is None:
            groups.append(own := [])
        own.append(value)
    return groups


def _join_pays(values: list[ir.Value], found: Trace) -> bool:
    """Whether filtering side by side costs at most as much again as filtering one by one."""
    affines = [found.values[value] for value in values]
    joint = side_by_side(affines, 0)
    if any(affine.operator.filter is None for affine in (*affines, joint)):
        return False
    return macs_after(joint) <= 2 * sum(map(macs_after, affines))


def _collapse(emit: Emitter, model: ir.Model, values: list[ir.Value], found: Trace) -> str:
    """Emit a group of values, space first, in the place of what computed them; return what was done."""
    affines = [found.values[value] for value in values]
    joint, sizes = side_by_side(affines, 0), [affine.dims[0] for affine in affines]
    before = sum(map(found.macs, values))
    y = restored(emit, space_first(emit, model.graph.inputs[0], joint), joint.dims)
    parts = emit.many("Split", y, sizes, n=len(sizes), axis=1) if len(sizes) > 1 else [y]
    for value, part in zip(values, parts, strict=True):
        supersede(model, value, part)
    shape = joint.operator.filter
    kind = "dense in time" if shape is None else f"{shape.conv.taps} taps" + ", edges corrected" * bool(shape.corners)
    names = " + ".join(str(value.name) for value in values)
    return f"{names}: space first, then {kind}; {before:,} -> {macs_after(joint):,} multiply-adds"
