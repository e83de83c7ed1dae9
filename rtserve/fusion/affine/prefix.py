r"""Collapse the linear prefix: what precedes the first non-linearity, in the cheaper order.

Temporal filters, batch normalisation, a spatial step and average pooling are one affine map of the window,

.. math:: v[g, t] = \sum_e S[g, e] \sum_\tau P[g, t, \tau]\, x[e, \tau] + b[g, t],

and the sums commute: mixing the electrodes first (u = S x) leaves one short filter per output instead of a bank over
129 electrodes. `trace` finds the map in float64, `toeplitz` says what P is; the result is a 1x1 convolution, a depthwise
filter with its edge corrections, and a bias. Where every output mixes several filters (a dense spatial step) the two
steps merge into one convolution instead. The order with fewer multiply-adds is taken.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.dense_step import mix_dense, on_the_window
from rtserve.fusion.affine.operator import spacings
from rtserve.fusion.affine.toeplitz import Corner, Filter, distinct, read_by
from rtserve.fusion.affine.trace import Trace, trace
from rtserve.fusion.affine.trace_conv import DenseMix, JointMix
from rtserve.fusion.affine.value import Affine, static_dims
from rtserve.fusion.ir.passes import PassResult, Refused
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

__all__ = ["run", "run_in_place"]


def run(model: ir.Model, *, share: bool = True) -> PassResult:
    """Collapse every affine value at which a non-linearity begins, in place.

    Parameters
    ----------
    model : onnx_ir.Model
        Constants folded, shapes inferred.
    share : bool
        Whether views may want to share what stands first.
    """
    found = _traced(model)
    result = PassResult()
    emit = Emitter(model.graph, before=next(iter(model.graph)), prefix="prefix")
    for node, refusal in found.refusals.items():
        with result.at(node):
            if isinstance(refusal, DenseMix):
                result.done(mix_dense(emit, model, node, refusal, found))
            elif isinstance(refusal, JointMix) and share:
                result.done(on_the_window(emit, model, node, refusal))
    for siblings in _siblings(_worthwhile(model, found, result), found):
        result.done(_collapse(emit, model, siblings, found), len(siblings))
    if not result.changed:
        result.refused = list(dict.fromkeys([*result.refused, *found.refusals.values()]))
    return result


run_in_place = partial(run, share=False)
"""Collapse, but leave a convolution that mixes electrodes and time at once as it stands: written on the window itself it can
be shared between views; for a single view it saves nothing, and OpenVINO was up to a tenth slower for it."""


def _traced(model: ir.Model) -> Trace:
    """Return the trace by the fewest impulses that tell what every value reads."""
    *closer, last = spacings(static_dims(model.graph.inputs[0])[1])
    for apart in closer:
        found = trace(model, apart)
        if not _tangled(model, found):
            return found
        del found  # before the next, which is twice as large
    return trace(model, last)


def _tangled(model: ir.Model, found: Trace) -> bool:
    """Whether what some value reads cannot be told from its responses."""
    mixed = [affine for v in _frontier(model, found) if (affine := found.values[v]).mixed]
    mixed += [one.value for one in found.refusals.values() if isinstance(one, DenseMix)]
    return any(affine.tangled for affine in mixed)


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
    before, after = found.macs(value), _macs_after(affine)
    if after >= before:
        raise Refused(f"{before:,} multiply-adds now, {after:,} collapsed")
    return after


def _siblings(values: list[ir.Value], found: Trace) -> list[list[ir.Value]]:
    """Return values in groups that are one value side by side: same time axis, and cheap to filter together."""
    groups: list[list[ir.Value]] = []
    for value in values:
        mine = found.values[value]
        for group in groups:
            if found.values[group[0]].dims[1:] == mine.dims[1:] and _join_pays([*group, value], found):
                group.append(value)
                break
        else:
            groups.append([value])
    return groups


def _join_pays(values: list[ir.Value], found: Trace) -> bool:
    """Whether filtering side by side costs at most as much again as filtering one by one."""
    affines = [found.values[value] for value in values]
    joint = _beside(affines)
    if any(affine.operator.filter is None for affine in (*affines, joint)):
        return False
    return _macs_after(joint) <= 2 * sum(map(_macs_after, affines))


def _beside(affines: list[Affine]) -> Affine:
    """Return mixed affine values side by side along the features."""
    if len(affines) == 1:
        return affines[0]
    return Affine(
        response=np.concatenate([a.response for a in affines], axis=1),
        bias=np.concatenate([a.bias for a in affines], axis=1),
        dims=(sum(a.dims[0] for a in affines), *affines[0].dims[1:]),
        n_times=affines[0].n_times,
        electrode=None,
        spatial=np.concatenate([a.spatial for a in affines if a.spatial is not None]),
        dropped=frozenset.intersection(*(a.dropped for a in affines)),
    )


def _collapse(emit: Emitter, model: ir.Model, values: list[ir.Value], found: Trace) -> str:
    """Emit a group of values, space first, in the place of what computed them; return what was done."""
    affines = [found.values[value] for value in values]
    joint = _beside(affines)
    shape = joint.operator.filter
    before = sum(found.macs(value) for value in values)
    result = _restore_shape(emit, _emit_rank_one(emit, model, joint), joint.dims)
    sizes = [affine.dims[0] for affine in affines]
    parts = emit.many("Split", result, sizes, n=len(sizes), axis=1) if len(sizes) > 1 else [result]
    for value, part in zip(values, parts, strict=True):
        supersede(model, value, part)
    kind = "dense in time" if shape is None else f"{shape.conv.taps} taps" + ", edges corrected" * bool(shape.corners)
    names = " + ".join(str(value.name) for value in values)
    after = _macs_after(joint)
    return f"{names}: space first, then {kind}; {before:,} -> {after:,} multiply-adds"


def _macs_after(affine: Affine) -> int:
    assert affine.spatial is not None
    features, n_chans = affine.spatial.shape
    shape, n_in, n_out = affine.operator.filter, affine.operator.n_in, affine.operator.n_out
    mix = features * n_chans * n_in
    if shape is None:
        return int(mix + features * n_in * n_out)
    corners = sum(c.matrix.size for c in shape.corners)
    return int(mix + (0 if shape.trivial else features * shape.conv.taps * n_out + corners))


def _emit_rank_one(emit: Emitter, model: ir.Model, affine: Affine) -> ir.Value:
    """Emit S x, the temporal operator and the bias; return (batch, features, 1, n_out)."""
    shape = affine.operator.filter
    assert affine.spatial is not None
    bias = affine.bias.reshape(affine.dims[0], -1)
    steady = bias[:, bias.shape[1] // 2]  # in the middle of the window
    rest = bias - steady[:, None]
    trivial = shape is not None and shape.trivial
    spatial = affine.spatial * (shape.conv.weight[:, 0] if shape is not None and trivial else 1.0)
    x = model.graph.inputs[0]
    if affine.dropped:
        read = [c for c in range(spatial.shape[1]) if c not in affine.dropped]
        x, spatial = emit("Gather", x, read, axis=1), spatial[:, read]
    weight = spatial[:, :, None].astype(np.float32)
    if trivial:
        y = emit("Unsqueeze", emit("Conv", x, weight, steady.astype(np.float32)), [2])
    else:
        u = emit("Unsqueeze", emit("Conv", x, weight), [2])
        if shape is not None:
            return _emit_filter(emit, u, shape, steady, rest)
        y = _emit_dense(emit, u, affine.operator.array)
        rest = rest + steady[:, None]
    if not rest.any():
        return y
    wide = rest if np.ptp(rest, axis=1).max() > 0 else rest[:, :1]
    return emit("Add", y, wide[None, :, None, :].astype(np.float32))


def _emit_filter(emit: Emitter, u: ir.Value, shape: Filter, steady: np.ndarray, rest: np.ndarray) -> ir.Value:
    """Emit the depthwise filter on u (batch, features, 1, n_in), its ends corrected by themselves."""
    y = replace(shape.conv, bias=steady).emit(emit, u)
    covered = np.zeros(rest.shape[1], dtype=bool)
    for corner in shape.corners:
        covered[corner.rows] = True
    if rest[:, ~covered].any():
        y, rest = emit("Add", y, rest[None, :, None, :].astype(np.float32)), np.zeros_like(rest)
    return _correct_ends(emit, u, y, shape.corners, rest, shape.conv.n_in) if shape.corners else y


def _correct_ends(
    emit: Emitter, u: ir.Value, y: ir.Value, corners: tuple[Corner, ...], rest: np.ndarray, n_in: int
) -> ir.Value:
    """Add every corner's product to its end of y; the middle is not touched.

    The samples that the corners read are put side by side and multiplied with one matrix per distinct filter and end,
    filters in front, so that the rows of one product are all windows and all outputs of a filter.
    """
    features, n_out = rest.shape
    corners = _alike(corners, n_in, n_out)
    run = min(distinct(corner.matrix)[1] for corner in corners)
    filters, ends = features // run, len(corners)
    _, columns, width = corners[0].matrix.shape
    matrices = np.stack([corner.matrix[::run] for corner in corners], axis=1).reshape(-1, columns, width)
    cut = [emit.slice(u, 3, c.columns.start, c.columns.stop) for c in corners]
    edge = emit("Concat", *cut, axis=3) if ends > 1 else cut[0]
    front = emit("Transpose", emit("Reshape", edge, [-1, filters, run, ends, columns]), perm=[1, 3, 0, 2, 4])
    product = emit("MatMul", emit("Reshape", front, [filters * ends, -1, columns]), matrices.astype(np.float32))
    back = emit("Transpose", emit("Reshape", product, [filters, ends, -1, run, width]), perm=[2, 0, 3, 1, 4])
    fix = emit("Reshape", back, [-1, features, 1, ends * width])
    inside = np.concatenate([rest[:, c.rows] for c in corners], axis=1)
    if inside.any():
        fix = emit("Add", fix, inside[None, :, None, :].astype(np.float32))
    return _put_ends(emit, y, fix, corners, n_out)


def _alike(corners: tuple[Corner, ...], n_in: int, n_out: int) -> tuple[Corner, ...]:
    """Return corners of one size: the smaller one reaches further in, with zeros."""
    columns = max(c.columns.stop - c.columns.start for c in corners)
    rows = max(c.rows.stop - c.rows.start for c in corners)
    return tuple(_widened(corner, columns, rows, n_in, n_out) for corner in corners)


def _widened(corner: Corner, columns: int, rows: int, n_in: int, n_out: int) -> Corner:
    reach, left = _grown(corner.columns, columns, n_in)
    span, top = _grown(corner.rows, rows, n_out)
    matrix = np.zeros((len(corner.matrix), columns, rows))
    _, own_columns, own_rows = corner.matrix.shape
    matrix[:, left : left + own_columns, top : top + own_rows] = corner.matrix
    return Corner(rows=span, columns=reach, matrix=matrix)


def _grown(part: slice, size: int, n: int) -> tuple[slice, int]:
    """Return a part of 0..n grown to `size`, and how much of the growth is in front."""
    start = min(part.start, n - size) if part.start else 0
    return slice(start, start + size), part.start - start


def _put_ends(emit: Emitter, y: ir.Value, fix: ir.Value, corners: tuple[Corner, ...], n_out: int) -> ir.Value:
    """Return y with the columns of `fix` added where the corners' rows are."""
    width = corners[0].rows.stop - corners[0].rows.start
    fixes = emit.many("Split", fix, [width] * len(corners), n=len(corners), axis=3) if len(corners) > 1 else [fix]
    left = width if corners[0].rows.start == 0 else 0
    right = width if corners[-1].rows.stop == n_out and corners[-1].rows.start else 0
    sizes = [size for size in (left, n_out - left - right, right) if size]
    parts = emit.many("Split", y, sizes, n=len(sizes), axis=3)
    if left:
        parts[0] = emit("Add", parts[0], fixes[0])
    if right:
        parts[-1] = emit("Add", parts[-1], fixes[-1])
    return emit("Concat", *parts, axis=3)


def _emit_dense(emit: Emitter, u: ir.Value, operator: np.ndarray) -> ir.Value:
    """Emit a dense temporal operator as one matrix product per distinct filter on u (batch, features, 1, n_in)."""
    read = read_by(operator)
    u = emit.take(u, 3, read, operator.shape[2])
    matrices, run = distinct(operator[..., read])
    kernels = matrices.transpose(0, 2, 1).astype(np.float32)
    if len(kernels) == 1:
        return emit("MatMul", u, kernels[0])
    if run == 1:
        return emit("MatMul", u, kernels)
    parts = emit.many("Split", u, [run] * len(kernels), n=len(kernels), axis=1)
    return emit("Concat", *[emit("MatMul", part, kernel) for part, kernel in zip(parts, kernels, strict=True)], axis=1)


def _restore_shape(emit: Emitter, y: ir.Value, dims: tuple[int, ...]) -> ir.Value:
    """Give (batch, features, 1, n_out) the shape the graph expects."""
    if len(dims) == 3 and dims[1] == 1:
        return y
    if len(dims) == 2:
        return emit("Squeeze", y, [2])
    return emit("Reshape", y, [0, *dims])
