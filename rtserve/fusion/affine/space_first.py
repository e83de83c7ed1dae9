"""Writing a mixed affine value with space first: a 1x1 convolution, the temporal operator, the bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from rtserve.fusion.affine.toeplitz import Corner, Filter, distinct, read_by
from rtserve.fusion.affine.value import Affine
from rtserve.graphs.emit import Emitter

__all__ = ["macs_after", "restored", "space_first"]


def macs_after(affine: Affine) -> int:
    """Return the multiply-adds of what `space_first` writes."""
    shape, n_in, n_out, features = affine.operator.filter, affine.operator.n_in, affine.operator.n_out, affine.dims[0]
    mixing = affine.mix.size * n_in
    if shape is None:
        return mixing + features * n_in * n_out
    corners = sum(corner.matrix.size for corner in shape.corners)
    return mixing + (0 if shape.trivial else features * shape.conv.taps * n_out + corners)


def space_first(emit: Emitter, x: ir.Value, affine: Affine) -> ir.Value:
    """Emit S x, the temporal operator and the bias; return (batch, features, 1, n_out)."""
    shape, spatial = affine.operator.filter, affine.mix
    bias = affine.bias.reshape(affine.dims[0], -1)
    steady = bias[:, bias.shape[1] // 2]  # in the middle of the window
    rest = bias - steady[:, None]
    if affine.dropped:
        read = [c for c in range(spatial.shape[1]) if c not in affine.dropped]
        x, spatial = emit("Gather", x, read, axis=1), spatial[:, read]
    if shape is not None and shape.trivial:
        weight = (spatial * shape.conv.weight[:, 0])[:, :, None].astype(np.float32)
        y = emit("Unsqueeze", emit("Conv", x, weight, steady.astype(np.float32)), [2])
    else:
        u = emit("Unsqueeze", emit("Conv", x, spatial[:, :, None].astype(np.float32)), [2])
        if shape is not None:
            u = u if shape.read is None else emit.take(u, 3, shape.read, affine.n_times)
            return _filtered(emit, u, shape, steady, rest)
        y = _multiplied(emit, u, affine.operator.array)
        rest = rest + steady[:, None]
    return _plus(emit, y, rest if np.ptp(rest, axis=1).max() > 0 else rest[:, :1])


def restored(emit: Emitter, y: ir.Value, dims: tuple[int, ...]) -> ir.Value:
    """Give (batch, features, 1, n_out) the shape that the graph expects."""
    if len(dims) == 3 and dims[1] == 1:
        return y
    return emit("Squeeze", y, [2]) if len(dims) == 2 else emit("Reshape", y, [0, *dims])


def _plus(emit: Emitter, y: ir.Value, offset: np.ndarray) -> ir.Value:
    """Add (features, time) to y (batch, features, 1, time), where there is anything to add."""
    return emit("Add", y, offset[None, :, None, :].astype(np.float32)) if offset.any() else y


def _multiplied(emit: Emitter, u: ir.Value, operator: np.ndarray) -> ir.Value:
    """Emit a dense temporal operator as one matrix product per distinct filter on u (batch, features, 1, n_in)."""
    read = read_by(operator)
    u = emit.take(u, 3, read, operator.shape[2])
    matrices, run = distinct(operator[..., read])
    kernels = matrices.transpose(0, 2, 1).astype(np.float32)
    if len(kernels) == 1 or run == 1:
        return emit("MatMul", u, kernels[0] if len(kernels) == 1 else kernels)
    parts = emit.many("Split", u, [run] * len(kernels), n=len(kernels), axis=1)
    return emit("Concat", *[emit("MatMul", part, kernel) for part, kernel in zip(parts, kernels, strict=True)], axis=1)


def _filtered(emit: Emitter, u: ir.Value, shape: Filter, steady: np.ndarray, rest: np.ndarray) -> ir.Value:
    """Emit the depthwise filter on u (batch, features, 1, n_in), its ends corrected by themselves.

    The samples that the corners read are put side by side and multiplied with one matrix per distinct filter and end,
    filters in front, so that the rows of one product are all windows and all outputs of a filter. A bias that is another
    at the ends alone is added there.
    """
    y = replace(shape.conv, bias=steady).emit(emit, u)
    covered = np.zeros(rest.shape[1], dtype=bool)
    for corner in shape.corners:
        covered[corner.rows] = True
    if rest[:, ~covered].any():
        y, rest = _plus(emit, y, rest), np.zeros_like(rest)
    if not shape.corners:
        return y
    features, n_out = rest.shape
    corners = _of_one_size(shape.corners, shape.conv.n_in, n_out)
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
    fix = _plus(emit, fix, np.concatenate([rest[:, c.rows] for c in corners], axis=1))
    fixes = emit.many("Split", fix, [width] * ends, n=ends, axis=3) if ends > 1 else [fix]
    borders = sorted({0, n_out, *(end for c in corners for end in (c.rows.start, c.rows.stop))})
    parts = emit.many("Split", y, np.diff(borders).tolist(), n=len(borders) - 1, axis=3)
    for corner, own in zip(corners, fixes, strict=True):
        place = borders.index(corner.rows.start)
        parts[place] = emit("Add", parts[place], own)
    return emit("Concat", *parts, axis=3)


def _of_one_size(corners: Sequence[Corner], n_in: int, n_out: int) -> list[Corner]:
    """Return corners of one size: the smaller one reaches further in, with zeros."""
    columns, rows = np.max([corner.matrix.shape[1:] for corner in corners], axis=0).tolist()
    found = []
    for corner in corners:
        left, top = corner.columns.indices(n_in)[0], corner.rows.indices(n_out)[0]
        first, row = min(left, n_in - columns), min(top, n_out - rows)
        matrix, own = np.zeros((len(corner.matrix), columns, rows)), corner.matrix.shape
        matrix[:, left - first : left - first + own[1], top - row : top - row + own[2]] = corner.matrix
        found.append(Corner(rows=slice(row, row + rows), columns=slice(first, first + columns), matrix=matrix))
    return found
