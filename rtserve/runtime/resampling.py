"""Resampling: every axis by a product with one small matrix, found once for each size.

Where an output sample lies on the input is computed in float32, as onnxruntime does: at a tie between two samples, or at
the edge between two sizes, the last bit decides, and it must be the same bit in every engine and every precision.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rtserve.runtime.node import Call, Node, as_ints, operator

Sizes = list[tuple[int, int, float]]
"""Each axis that is resized, its size afterwards, and its scale as float32 holds it."""

PLACES = (
    *("align_corners", "asymmetric", "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn"),
    "half_pixel_symmetric",  # not to the nearest: the last bit of its shift differs between engines
)
ROUNDINGS: dict[str, Callable[[float], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda p: math.ceil(p - 0.5),
    "round_prefer_ceil": lambda p: math.floor(p + 0.5),
}


@operator("Resize", "Upsample")
def resize(node: Node) -> Call:
    """Resize (opset 10 to 19), Upsample (7, 9): nearest, linear, cubic; by scales or sizes, known or computed."""
    rule = _Interpolation(node)
    resize_to = _by_sizes(node) if node.has(3) else _by_scales(node)
    if node.op == "Resize" and node.opset > 10:
        node.absorbed.add(1)  # the region of interest is for tf_crop_and_resize, which is refused
    if node.has(3):
        node.absorbed.add(2)  # empty scales, as opset 11 wants them beside sizes
    matrices: dict[tuple[int, int, float, torch.dtype, torch.device], Tensor] = {}

    def call(x: Tensor, *wanted: Any) -> Tensor:
        changes = resize_to(x, *wanted)
        if all(target == x.shape[axis] for axis, target, _ in changes) and any(s != 1.0 for _, _, s in changes):
            raise node.refuse(f"by scales that change no size of {tuple(x.shape)}: engines differ on what moves then")
        for axis, target, scale in changes:
            size = int(x.shape[axis])
            if target == size and scale == 1.0:
                continue
            key = (size, target, scale, x.dtype, x.device)
            if key not in matrices:
                with torch.inference_mode(False):  # kept for calls that may want gradients
                    matrices[key] = rule.matrix(size, target, scale).to(x.dtype).to(x.device)
            x = torch.matmul(x.movedim(axis, -1), matrices[key].t()).movedim(-1, axis)
        return x

    return call


def taps_of(node: Node, x: Tensor) -> list[tuple[int, list[list[tuple[int, float]]]]]:
    """Return each axis that changes, and the samples of `x` with their weights that each of its new samples is made of.

    Only the shape of `x` is read, and everything else must be known; refused is what `resize` refuses.
    """
    rule = _Interpolation(node)
    changes = (_by_sizes(node) if node.has(3) else _by_scales(node))(x)
    sizes = [(axis, int(x.shape[axis]), target, scale) for axis, target, scale in changes]
    if all(target == size for _, size, target, _ in sizes) and any(scale != 1.0 for *_, scale in sizes):
        raise node.refuse(f"by scales that change no size of {tuple(x.shape)}: engines differ on what moves then")
    return [
        (axis, rule.weights(size, target, scale))
        for axis, size, target, scale in sizes
        if target != size or scale != 1.0
    ]


def _axes(node: Node, x: Tensor) -> list[int]:
    """Return the axes that are resized, as counted from the front."""
    return [axis % x.dim() for axis in node.attrs.get("axes") or range(x.dim())]


def _single(value: float) -> float:
    """Return a number as float32 holds it."""
    number: float = struct.unpack("f", struct.pack("f", value))[0]
    return number


def _by_scales(node: Node) -> Callable[..., Sizes]:
    at = 2 if node.op == "Resize" and node.opset > 10 else 1
    known = [float(s) for s in node.attrs["scales"]] if "scales" in node.attrs else None
    if node.is_constant(at):
        known = [_single(s) for s in node.tensor(at).reshape(-1).tolist()]
    elif known is None and not node.has(at):
        raise node.refuse("without scales or sizes")
    whole = node.attrs.get("coordinate_transformation_mode") == "align_corners"

    def sizes(x: Tensor, computed: Any = None) -> Sizes:
        scales = known if known is not None else [_single(s) for s in computed.reshape(-1).tolist()]
        found = []
        for axis, scale in zip(_axes(node, x), scales, strict=True):
            size = int(x.shape[axis])
            target = math.floor(_single(_single(size) * scale))
            if whole and target != size * scale:
                raise node.refuse(
                    f"with align_corners and {size} samples times {scale}, which engines round differently"
                )
            found.append((axis, target, scale))
        return found

    return sizes


def _by_sizes(node: Node) -> Callable[..., Sizes]:
    known, policy = node.ints(3), node.attrs.get("keep_aspect_ratio_policy", "stretch")

    def sizes(x: Tensor, computed: Any = None) -> Sizes:
        axes, after = _axes(node, x), as_ints(known if known is not None else computed)
        before = [int(x.shape[axis]) for axis in axes]
        ratios = [_single(target / size) if size else 1.0 for size, target in zip(before, after, strict=True)]
        if policy == "stretch":
            return list(zip(axes, after, ratios, strict=True))
        scale = min(ratios) if policy == "not_larger" else max(ratios)
        return [(axis, math.floor(scale * size + 0.5), scale) for axis, size in zip(axes, before, strict=True)]

    return sizes


class _Interpolation:
    """How Resize finds and weighs the samples of one axis."""

    def __init__(self, node: Node) -> None:
        self.refuse = node.refuse
        attrs, old = node.attrs, node.op == "Upsample" or node.opset < 11
        self.mode = attrs.get("mode", "nearest")
        self.place = attrs.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
        self.nearest = attrs.get("nearest_mode", "floor" if old else "round_prefer_floor")
        self.cubic = float(attrs.get("cubic_coeff_a", -0.75))
        self.exclude = attrs.get("exclude_outside", 0)
        if attrs.get("antialias", 0):
            raise node.refuse("with antialias")
        if self.place not in PLACES:
            raise node.refuse(f"with coordinates {self.place}")
        if self.mode not in ("nearest", "linear", "cubic") or (self.mode, self.place) == ("nearest", PLACES[-1]):
            raise node.refuse(f"with mode {self.mode} and coordinates {self.place}")

    def positions(self, size: int, target: int, scale: float) -> list[float]:
        """Return where each output sample lies on the input axis."""
        return [self.position(i, size, target, scale) for i in range(target)]

    def position(self, i: int, size: int, target: int, scale: float) -> float:
        """Return where output sample `i` lies: each step rounded to float32, in Python, whatever torch computes in."""
        if self.place == "align_corners":
            return _single(_single(i * (size - 1)) / max(target - 1, 1))
        if self.place == "asymmetric":
            return _single(i / scale)
        if self.place == "pytorch_half_pixel" and target == 1:
            return 0.0
        centre = _single((i + 0.5) / scale)
        if self.place == "tf_half_pixel_for_nn":
            return centre
        shift = 0.5 * size * (1 - target / (scale * size)) if self.place == "half_pixel_symmetric" else 0.0
        return _single(_single(shift + centre) - 0.5)

    def require_no_tie(self, positions: Sequence[float]) -> None:
        """Refuse the one way of rounding in which onnxruntime takes a near tie for a tie, from some version on."""
        if (self.mode, self.place, self.nearest) != ("nearest", "asymmetric", "round_prefer_ceil"):
            return
        if any(abs(p - math.floor(p) - 0.5) < 1e-6 * max(p, 1.0) and p % 1 != 0.5 for p in positions):
            raise self.refuse("by round_prefer_ceil where a sample lies between two but for rounding: engines differ")

    def taps(self, position: float) -> list[tuple[int, float]]:
        """Return input samples and weights for one output position."""
        low = math.floor(position)
        part = position - low
        if self.mode == "nearest":
            return [(ROUNDINGS[self.nearest](position), 1.0)]
        if self.mode == "linear":
            return [(low, 1.0 - part), (low + 1, part)]
        return [(low + j, self._cubic(abs(part - j))) for j in (-1, 0, 1, 2)]

    def _cubic(self, t: float) -> float:
        a: float = self.cubic
        if t <= 1:
            return ((a + 2) * t - (a + 3)) * t * t + 1
        return (((t - 5) * t + 8) * t - 4) * a if t < 2 else 0.0

    def weights(self, size: int, target: int, scale: float) -> list[list[tuple[int, float]]]:
        """Return the input samples and their weights of every output sample of an axis."""
        positions = self.positions(size, target, scale)
        self.require_no_tie(positions)
        found = []
        for position in positions:
            taps = self.taps(position)
            if self.exclude:
                taps = [(j, w) for j, w in taps if 0 <= j < size]
                total = sum(w for _, w in taps)
                taps = [(j, w / total) for j, w in taps]
            found.append([(min(max(j, 0), size - 1), w) for j, w in taps])
        return found

    def matrix(self, size: int, target: int, scale: float) -> Tensor:
        """Return the (target, size) matrix of this axis."""
        matrix = [[0.0] * size for _ in range(target)]
        for row, taps in zip(matrix, self.weights(size, target, scale), strict=True):
            for j, w in taps:
                row[j] += w
        return torch.tensor(matrix, dtype=torch.float64).reshape(target, size)
