"""Fourier transforms and windows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rtserve.runtime.node import Call, Node, operator


def _complex(x: Tensor) -> Tensor:
    """Return a signal whose last axis is (real) or (real, imaginary) as a complex or real tensor without it."""
    if x.shape[-1] == 1:
        return x.squeeze(-1)
    return torch.view_as_complex(x.contiguous())


def _also_of_nothing(function: Call) -> Call:
    """Give an empty batch its shape: the library behind torch's transforms refuses it."""

    def call(x: Tensor, *rest: Tensor) -> Tensor:
        if x.numel():
            whole: Tensor = function(x, *rest)
            return whole
        whole = function(x.new_zeros([max(1, n) for n in x.shape]), *rest)
        for axis, n in enumerate(x.shape):
            whole = whole if n else whole.narrow(axis, 0, 0)
        return whole

    return call


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

    return _also_of_nothing(call)


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

    return _also_of_nothing(call)


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
