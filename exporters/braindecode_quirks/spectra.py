"""Spectra and angles in operators that every engine has, exact where a transform of real numbers is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["angle", "magnitude", "spectrum", "waves"]


def waves(size: int) -> tuple[Tensor, Tensor]:
    """Return cosine and negated sine of every frequency of `size` samples, both (size, size // 2 + 1) in float64.

    The sine at frequency 0 and at the Nyquist frequency is exactly zero, so that the angle there is 0 or pi, as in a
    transform that knows its input to be real.
    """
    turns = torch.outer(torch.arange(size), torch.arange(size // 2 + 1)) % size
    phase = turns.double() * (2 * math.pi / size)
    sine = torch.where(2 * turns % size == 0, torch.zeros_like(phase), -torch.sin(phase))
    return torch.cos(phase), sine


def spectrum(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return real and imaginary part of the spectrum along the last axis, as two matrix products."""
    cosine, sine = waves(patches.shape[-1])
    return patches @ cosine.to(patches.dtype), patches @ sine.to(patches.dtype)


def magnitude(patches: Tensor) -> Tensor:
    """Return the magnitude of the spectrum along the last axis."""
    real, imag = spectrum(patches)
    return (real * real + imag * imag).sqrt()


def angle(real: Tensor, imag: Tensor) -> Tensor:
    """Return the angle of a complex number in (-pi, pi], 0 for zero, without dividing by zero.

    What a sign decides is added once or not at all, and the angle so far is bounded, so that nothing is chosen number by
    number: onnxruntime's Where of two computed values takes as long as three sums.
    """
    wide, tall = real.abs(), imag.abs()
    steep, left, below = (said.to(real.dtype) for said in (tall > wide, real < 0, imag < 0))
    longer, shorter = torch.maximum(wide, tall), torch.minimum(wide, tall)
    turn = torch.atan(shorter / (longer + (longer == 0).to(real.dtype)))
    for said, far in ((steep, math.pi / 2), (left, math.pi)):
        turn = (1 - 2 * said) * turn + far * said
    return (1 - 2 * below) * turn
