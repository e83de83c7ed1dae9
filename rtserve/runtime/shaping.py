"""Operators that move numbers without changing them: shapes, slices, gathers, pads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rtserve.runtime.linear import torch_pads
from rtserve.runtime.node import Call, Node, as_ints, operator


@operator("Reshape")
def reshape(node: Node) -> Call:
    """Reshape (opset 5, 14): -1 is inferred, 0 copies the input's size unless allowzero=1."""
    shape, keep_zero = node.ints(1, "shape"), node.attrs.get("allowzero", 0)
    if shape is not None and (keep_zero or 0 not in shape):
        return lambda x: x.reshape(shape)

    def call(x: Tensor, sizes: Any = shape) -> Tensor:
        wanted = as_ints(sizes)
        if not keep_zero and 0 in wanted:
            wanted = _copied(wanted, x.shape)
        return x.reshape(wanted)

    return call


def _copied(wanted: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape with the input's sizes in place of zeros; what -1 stands for follows from the other sizes.

    Inferred here where a copied size may be 0, as in an empty batch: torch would have to divide 0 by 0.
    """
    sizes = [shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    if -1 in wanted and 0 in sizes:
        whole = math.prod(n for i, n in enumerate(shape) if i >= len(wanted) or wanted[i] != 0)
        sizes[wanted.index(-1)] = whole // math.prod(size for size in wanted if size > 0)
    return tuple(sizes)


@operator("Flatten")
def flatten(node: Node) -> Call:
    """Flatten (opset 1 to 21): to two axes, split before `axis`."""
    axis = node.attrs.get("axis", 1)

    def call(x: Tensor) -> Tensor:
        if x.numel():
            return x.reshape(math.prod(x.shape[:axis]), -1)
        return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))

    return call


@operator("Transpose")
def transpose(node: Node) -> Call:
    """Transpose (opset 1): by `perm`, or all axes reversed."""
    order = node.attrs.get("perm")
    if order is None:
        return lambda x: x.permute(tuple(reversed(range(x.dim()))))
    order = tuple(order)
    return lambda x: x.permute(order)


@operator("Squeeze")
def squeeze(node: Node) -> Call:
    """Squeeze (axes by attribute before opset 13): the named axes, or every axis of size one."""
    axes = node.fixed_ints(1, "axes")
    if axes is None:
        return lambda x: x.squeeze()
    if len(axes) == 1:
        axis = axes[0]
        return lambda x: x.squeeze(axis)
    return lambda x: x.squeeze(axes)


@operator("Unsqueeze")
def unsqueeze(node: Node) -> Call:
    """Unsqueeze (axes by attribute before opset 13); axes count in the result."""
    axes = node.fixed_ints(1, "axes") or ()
    if len(axes) == 1:
        axis = axes[0]
        return lambda x: x.unsqueeze(axis)

    # All axes are resolved against the final rank before the first is inserted.
    return lambda x: _insert(x, sorted(a % (x.dim() + len(axes)) for a in axes))


def _insert(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in axes:
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def concat(node: Node) -> Call:
    """Concat (opset 4 and later) along `axis`, which has no default."""
    axis = node.attrs["axis"]

    def joined(*values: Tensor) -> Tensor:
        first = values[0]
        if first.dim() != 3 or first.stride(1) != 1 or first.stride(2) == 1:
            return torch.cat(values, axis)
        # channels innermost, as a convolution leaves them: torch keeps that for images alone, and the next would reorder
        return torch.cat([value.transpose(1, 2) for value in values], (0, 2, 1)[axis]).transpose(1, 2)

    return joined


@operator("Split")
def split(node: Node) -> Call:
    """Split (opset 2 to 18): by sizes, or into equal parts of which the last may be smaller."""
    axis, parts = node.attrs.get("axis", 0), len(node.outputs)
    sizes = node.ints(1, "split")
    if sizes is not None:
        wanted = list(sizes)
        return lambda x: torch.split(x, wanted, axis)
    if node.has(1):
        return lambda x, s: torch.split(x, list(as_ints(s)), axis)
    return lambda x: torch.chunk(x, parts, axis)  # by count: a trace would keep the size of its example


@operator("Pad")
def pad(node: Node) -> Call:
    """Pad (by attributes before opset 11; axes since 18): constant, reflect, edge or wrap; negative pads crop."""
    mode, pads = node.attrs.get("mode", "constant"), node.ints(1, "pads")
    value, axes = node.scalar(2, attribute="value"), node.fixed_ints(3)
    if mode not in ("constant", *PICKS):
        raise node.refuse(f"with mode {mode}")
    if pads is not None:
        padded = _pad(mode, pads, value, axes)
        return padded if node.device.type != "cuda" or axes is not None else _joined(node, mode, pads, value, padded)
    if not node.has(1):
        raise node.refuse("without pads")
    return lambda x, computed: _pad(mode, as_ints(computed), value, axes)(x)


def _joined(node: Node, mode: str, pads: Sequence[int], value: Any, padded: Call) -> Call:
    """Return a Pad of one axis as a Concat: one kernel, where torch's own launches two."""
    half = len(pads) // 2
    sides = [(axis, pads[axis], pads[half + axis]) for axis in range(half) if pads[axis] or pads[half + axis]]
    if mode != "constant" or len(sides) != 1 or min(pads) < 0:
        return padded
    ((axis, *ends),) = sides
    filled = torch.full((), value or 0.0, dtype=node.dtype, device=node.device)

    def call(x: Tensor) -> Tensor:
        if x.dtype != filled.dtype:
            y: Tensor = padded(x)
            return y
        front, behind = (filled.expand(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in ends)
        return torch.cat([front, x, behind], axis)

    return call


def _pad(mode: str, pads: Sequence[int], value: Any, axes: Sequence[int] | None) -> Call:
    half = len(pads) // 2
    begins, ends = pads[:half], pads[half:]
    if mode != "constant":
        return _pad_by_index(mode, begins, ends, axes)
    if axes is None:
        order = torch_pads(begins, ends)
        while len(order) > 2 and order[-2:] == [0, 0]:
            del order[-2:]
        return lambda x: F.pad(x, order, "constant", value)

    def call(x: Tensor) -> Tensor:
        before, after = [0] * x.dim(), [0] * x.dim()
        for axis, begin, end in zip(axes, begins, ends, strict=False):
            before[axis], after[axis] = begin, end
        return F.pad(x, torch_pads(before, after), "constant", value)

    return call


def _pad_by_index(mode: str, begins: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None) -> Call:
    """Pad by picking positions of the input: any rank and width, which torch's own modes do not take.

    Negative pads cut off first, so that the others repeat what is left.
    """
    pick = PICKS[mode]
    where = range(len(begins)) if axes is None else axes
    places: dict[tuple[int, int, int, torch.device], Tensor] = {}

    def call(x: Tensor) -> Tensor:
        for axis, begin, end in zip(where, begins, ends, strict=False):
            if begin or end:
                size = int(x.shape[axis])
                key = (size, begin, end, x.device)
                if key not in places:
                    first, left = max(0, -begin), size - max(0, -begin) - max(0, -end)
                    rows = [first + pick(i, left) for i in range(-max(begin, 0), left + max(end, 0))]
                    with torch.inference_mode(False):  # kept for calls that may want gradients
                        places[key] = torch.tensor(rows, dtype=torch.int64, device=x.device)
                x = x.index_select(axis, places[key])
        return x

    return call


def _edge(i: int, size: int) -> int:
    return min(max(i, 0), size - 1)


def _reflect(i: int, size: int) -> int:
    period = max(1, 2 * (size - 1))
    i %= period
    return i if i < size else period - i


def _wrap(i: int, size: int) -> int:
    return i % size


PICKS: dict[str, Callable[[int, int], int]] = {"edge": _edge, "reflect": _reflect, "wrap": _wrap}
"""Mode of Pad to what finds the sample that stands at a place outside."""


@operator("Expand")
def expand(node: Node) -> Call:
    """Expand (opset 8): broadcast both ways against the given sizes."""
    known = node.ints(1)

    def call(x: Tensor, sizes: Any = known) -> Tensor:
        wanted = as_ints(sizes)
        missing = x.dim() - len(wanted)
        if missing > 0:
            wanted = (1,) * missing + wanted
        own = (1,) * (len(wanted) - x.dim()) + tuple(x.shape)
        return x.expand(tuple(a if b == 1 else b for a, b in zip(own, wanted, strict=False)))

    return call


@operator("Tile")
def tile(node: Node) -> Call:
    """Tile (opset 6): the whole input repeated so often along each axis."""
    known = node.ints(1)
    return lambda x, repeats=known: x.repeat(as_ints(repeats))


@operator("Shape")
def shape_of(node: Node) -> Call:
    """Shape (opset 1 to 15), from `start` to `end`."""
    start, end = node.attrs.get("start", 0), node.attrs.get("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64, device=x.device)


@operator("Size")
def size_of(node: Node) -> Call:
    """Size (opset 1): the number of elements."""
    return lambda x: torch.tensor(x.numel(), dtype=torch.int64, device=x.device)


@operator("Constant")
def constant(node: Node) -> Call:
    """Constant (opset 1 to 13) whose value the plan holds as its only input."""
    return lambda value: value


@operator("ConstantOfShape")
def constant_of_shape(node: Node) -> Call:
    """ConstantOfShape (opset 9): zeros, or the value given."""
    known, value = node.ints(0), node.attrs.get("value", 0.0)
    dtype, device = node.torch_dtype(node.attrs.get("value_type", 1)), node.device
    return lambda sizes=known: torch.full(as_ints(sizes), value, dtype=dtype, device=device)


@operator("Range")
def range_(node: Node) -> Call:
    """Range (opset 11) over integers or floats."""

    def call(start: Any, limit: Any, delta: Any) -> Tensor:
        first, stop, step = start.item(), limit.item(), delta.item()
        count = max(0, -int(-(stop - first) // step))
        return first + step * torch.arange(count, dtype=start.dtype, device=node.device)

    return call


@operator("Trilu")
def trilu(node: Node) -> Call:
    """Trilu (opset 14): upper triangle, or the lower with upper=0."""
    k, function = int(node.scalar(1, 0)), torch.triu if node.attrs.get("upper", 1) else torch.tril
    return lambda x: function(x, k)


@operator("EyeLike")
def eye_like(node: Node) -> Call:
    """EyeLike (opset 9): ones on diagonal `k` of a matrix of the input's shape, in `dtype` or its type."""
    k, kind = node.attrs.get("k", 0), node.attrs.get("dtype")

    def call(x: Tensor) -> Tensor:
        dtype = x.dtype if kind is None else node.torch_dtype(kind)
        rows = torch.arange(x.shape[0], device=x.device)[:, None]
        return (torch.arange(x.shape[1], device=x.device)[None, :] - rows == k).to(dtype)

    return call


@operator("DepthToSpace", "SpaceToDepth")
def depth_space(node: Node) -> Call:
    """DepthToSpace and SpaceToDepth (opset 1 to 13; modes DCR and CRD), rank 4."""
    b, crd = node.attrs["blocksize"], node.attrs.get("mode", "DCR") == "CRD"

    def to_space(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if crd:
            x = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
        else:
            x = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, c // b**2, h * b, w * b)

    def to_depth(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        order = (0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4)
        return x.reshape(n, c, h // b, b, w // b, b).permute(order).reshape(n, c * b * b, h // b, w // b)

    return to_space if node.op == "DepthToSpace" else to_depth
