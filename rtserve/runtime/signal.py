"""Fourier transforms, windows and resampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rtserve.runtime.node import Call, Node, as_ints, operator


def _complex(x: Tensor) -> Tensor:
    """Return a signal whose last axis is (real) or (real, imaginary) as a complex or real tensor without it."""
    if x.shape[-1] == 1:
        return x.squeeze(-1)
    return torch.view_as_complex(x.contiguous())


@operator("DFT")
def dft(node: Node) -> Call:
    """DFT (axis by attribute in opset 17, by input since 20); the last axis holds real and imaginary parts."""
    inverse, onesided = node.attrs.get("inverse", 0), node.attrs.get("onesided", 0)
    length, axis = node.scalar(1), int(node.scalar(2, 1 if node.opset < 20 else -2, "axis"))

    def call(x: Tensor) -> Tensor:
        along = axis % x.dim()
        z = _complex(x)
        if inverse and onesided:
            count = length or 2 * (z.shape[along] - 1)
            return torch.fft.irfft(z, count, along).unsqueeze(-1)
        if onesided:
            return torch.view_as_real(torch.fft.rfft(z, length, along))
        return torch.view_as_real(torch.fft.ifft(z, length, along) if inverse else torch.fft.fft(z, length, along))

    return call


@operator("STFT")
def stft(node: Node) -> Call:
    """STFT (opset 17): frames (B, frames, bins, 2) of a signal (B, samples, 1 or 2), no padding."""
    onesided, step = node.attrs.get("onesided", 1), int(node.scalar(1))
    length = node.scalar(3)
    windowed = node.has(2)

    def call(x: Tensor, window: Tensor | None = None) -> Tensor:
        size = int(length) if length is not None else int(window.shape[0])  # type: ignore[union-attr]
        z = _complex(x)
        frames = z.unfold(-1, size, step)
        if windowed:
            frames = frames * window
        transformed = torch.fft.rfft(frames) if onesided and not z.is_complex() else torch.fft.fft(frames)
        if onesided and z.is_complex():
            transformed = transformed[..., : size // 2 + 1]
        return torch.view_as_real(transformed)

    return call


@operator("HannWindow", "HammingWindow", "BlackmanWindow")
def window(node: Node) -> Call:
    """HannWindow, HammingWindow, BlackmanWindow (opset 17), periodic or symmetric."""
    weights = {
        "HannWindow": (0.5, 0.5, 0.0),
        "HammingWindow": (25 / 46, 21 / 46, 0.0),
        "BlackmanWindow": (0.42, 0.5, 0.08),
    }[node.op]
    size, dtype = int(node.scalar(0)), node.torch_dtype(node.attrs.get("output_datatype", 1))
    period = size if node.attrs.get("periodic", 1) else size - 1

    def call() -> Tensor:
        phase = torch.arange(size, dtype=torch.float64, device=node.device) * (2 * math.pi / max(period, 1))
        curve = weights[0] - weights[1] * torch.cos(phase) + weights[2] * torch.cos(2 * phase)
        return curve.to(dtype)

    return call


@operator("Resize", "Upsample")
def resize(node: Node) -> Call:
    """Resize (opset 11 to 19), Upsample (9): nearest, linear, cubic, as a product with one small matrix per axis."""
    scales_at = 1 if node.op == "Upsample" else 2
    scales = None if not node.has(scales_at) else [float(s) for s in node.tensor(scales_at).reshape(-1).tolist()]
    sizes = node.ints(3)
    if node.has(1):
        node.absorbed.add(1)
    rule = _Interpolation(node)
    axes, policy = node.attrs.get("axes"), node.attrs.get("keep_aspect_ratio_policy", "stretch")
    matrices: dict[tuple[int, int, float, torch.dtype, torch.device], Tensor] = {}

    def call(x: Tensor, wanted: Any = sizes) -> Tensor:
        where = range(x.dim()) if axes is None else axes
        before = [int(x.shape[axis]) for axis in where]
        for axis, size, (target, scale) in zip(where, before, _targets(before, wanted, scales, policy), strict=True):
            if target == size and scale == 1.0:
                continue
            key = (size, target, scale, x.dtype, x.device)
            if key not in matrices:
                with torch.inference_mode(False):  # kept for calls that may want gradients
                    matrices[key] = rule.matrix(size, target, scale).to(x.dtype).to(x.device)
            x = torch.matmul(x.movedim(axis, -1), matrices[key].t()).movedim(-1, axis)
        return x

    return call


def _targets(before: Sequence[int], wanted: Any, scales: Any, policy: str) -> list[tuple[int, float]]:
    """Return size and scale of every axis after resizing."""
    if wanted is None:
        return [(math.floor(size * scale), scale) for size, scale in zip(before, scales, strict=True)]
    after = as_ints(wanted)
    if policy == "stretch":
        return [(target, target / size) for size, target in zip(before, after, strict=True)]
    ratios = [target / size for size, target in zip(before, after, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [(math.floor(scale * size + 0.5), scale) for size in before]


class _Interpolation:
    """How Resize finds and weighs the samples of one axis."""

    def __init__(self, node: Node) -> None:
        attrs = node.attrs
        self.mode = attrs.get("mode", "nearest")
        self.place = attrs.get("coordinate_transformation_mode", "half_pixel" if node.op == "Resize" else "asymmetric")
        self.nearest = attrs.get("nearest_mode", "round_prefer_floor" if node.op == "Resize" else "floor")
        self.cubic = float(attrs.get("cubic_coeff_a", -0.75))
        self.exclude = attrs.get("exclude_outside", 0)
        if attrs.get("antialias", 0) or self.place in ("tf_crop_and_resize", "half_pixel_symmetric"):
            raise node.refuse(f"with antialias or coordinates {self.place}")

    def coordinate(self, i: int, size: int, target: int, scale: float) -> float:
        """Return where output sample `i` lies on the input axis."""
        if self.place == "align_corners":
            return 0.0 if target == 1 else i * (size - 1) / (scale * size - 1)
        if self.place == "asymmetric":
            return i / scale
        if self.place == "pytorch_half_pixel" and target == 1:
            return 0.0
        return (i + 0.5) / scale - 0.5

    def taps(self, position: float) -> list[tuple[int, float]]:
        """Return input samples and weights for one output position."""
        low = math.floor(position)
        part = position - low
        if self.mode == "nearest":
            return [(self._round(position), 1.0)]
        if self.mode == "linear":
            return [(low, 1.0 - part), (low + 1, part)]
        return [(low + j, self._cubic(abs(part - j))) for j in (-1, 0, 1, 2)]

    def _round(self, position: float) -> int:
        rules: dict[str, Callable[[float], int]] = {
            "floor": math.floor,
            "ceil": math.ceil,
            "round_prefer_floor": lambda p: math.ceil(p - 0.5),
            "round_prefer_ceil": lambda p: math.floor(p + 0.5),
        }
        return rules[self.nearest](position)

    def _cubic(self, t: float) -> float:
        a: float = self.cubic
        if t <= 1:
            return ((a + 2) * t - (a + 3)) * t * t + 1
        return (((t - 5) * t + 8) * t - 4) * a if t < 2 else 0.0

    def matrix(self, size: int, target: int, scale: float) -> Tensor:
        """Return the (target, size) matrix of this axis."""
        matrix = torch.zeros(target, size, dtype=torch.float64)
        for i in range(target):
            taps = self.taps(self.coordinate(i, size, target, scale))
            if self.exclude:
                taps = [(j, w) for j, w in taps if 0 <= j < size]
                total = sum(w for _, w in taps)
                taps = [(j, w / total) for j, w in taps]
            for j, w in taps:
                matrix[i, min(max(j, 0), size - 1)] += w
        return matrix
