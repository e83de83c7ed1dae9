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
    """Return the angle of a complex number in (-pi, pi], 0 for zero, without dividing by zero."""
    steep = imag.abs() > real.abs()
    below, above = torch.where(steep, imag, real), torch.where(steep, real, imag)
    slope = torch.atan(above / torch.where(below == 0, torch.ones_like(below), below))
    half_turn = torch.where(imag < 0, torch.full_like(imag, -math.pi), torch.full_like(imag, math.pi))
    flat = slope + torch.where(real < 0, half_turn, torch.zeros_like(half_turn))
    return torch.where(steep, half_turn / 2 - slope, flat)
