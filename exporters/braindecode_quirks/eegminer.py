"""EEGMiner: its filters write to their own parameters in every call, and its phases are complex numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .rewrite import Quirk, Rewrite
from .spectra import spectrum, waves

__all__ = ["REWRITES"]

EPSILON = 1e-6
"""What it adds under each of its square roots."""


def gains(part: Any) -> tuple[Tensor, Tensor]:
    """Return by what each filter multiplies the real and the imaginary part of a bin, both (n_filters, n_bins).

    A generalised Gaussian ``exp(-(|f - centre| / scale) ** power)`` of peak 1, half of it `width` wide, whose delay
    shows as a cosine on one part and a sine on the other. Centre, width and power are held in their ranges.
    """
    nyquist = part.sample_rate / 2
    low, high = (edge / nyquist for edge in part.clamp_f_mean)
    centre = part.f_mean.clamp(low, high).unsqueeze(1)
    width = part.bandwidth.clamp(1.0 / nyquist, 1.0).unsqueeze(1)
    power = 8 * part.shape.clamp(2.0, 3.0).unsqueeze(1) - 14
    scale = width / (2 * math.log(2) ** (1 / power))
    bell = torch.exp(-(((part.n_range - centre).abs() + 1e-8) / scale).pow(power))
    bell = bell / bell.amax(-1, keepdim=True)
    seconds = part.group_delay.unsqueeze(1)
    delay = math.pi * seconds * torch.linspace(0.0, part.sample_rate, part.n_range.shape[0], dtype=bell.dtype)
    return bell * torch.cos(delay), -bell * torch.sin(delay)


def analytic_matrix(part: Any) -> Tensor:
    """Return (n_filters, n_times, 2 n): filtering and the analytic signal, real then imaginary part, as one product.

    With bins ``X[k]``, filtered part by part, the signal is ``z[t] = (2 sum_k X[k] e^(2 pi i k t / n) - X[0]) / n``
    over ``n = 2 (n_bins - 1)`` samples; the highest bin is doubled too.
    """
    real_gain, imag_gain = (gain.unsqueeze(1) for gain in gains(part))
    onto_real, onto_imag = (wave.to(real_gain.dtype) for wave in waves(part.sequence_length))
    length = 2 * (real_gain.shape[-1] - 1)
    weight = torch.full((real_gain.shape[-1], 1), 2.0 / length, dtype=torch.float64)
    weight[0] = 1.0 / length
    cosine, sine = ((weight * wave.T).to(real_gain.dtype) for wave in waves(length))
    real, imag = onto_real * real_gain, onto_imag * imag_gain
    return torch.cat((real @ cosine + imag @ sine, imag @ cosine - real @ sine), -1)


def filtered(part: Any, x: Tensor) -> Tensor:
    """Return x (batch, n_chans, n_times) through each channel's filters: (batch, n_chans, n_filters, n_times)."""
    real_gain, imag_gain = (gain.unflatten(0, (part.in_channels, -1)) for gain in gains(part))
    real, imag = (values.unsqueeze(2) for values in spectrum(x))
    length = part.sequence_length
    weight = torch.full((real_gain.shape[-1], 1), 2.0 / length, dtype=torch.float64)
    weight[0] = 1.0 / length
    if length % 2 == 0:
        weight[-1] = 1.0 / length
    cosine, sine = ((weight * wave.T).to(x.dtype) for wave in waves(length))
    return (real * real_gain) @ cosine + (imag * imag_gain) @ sine


def phase_locking(part: Any, x: Tensor) -> Tensor:
    """Return the phase locking of all channels by filter: (batch, n_filters, n_chans, n_chans)."""
    real, imag = (x.unsqueeze(1) @ analytic_matrix(part)).chunk(2, -1)
    amplitude = torch.sqrt(real * real + imag * imag + EPSILON)
    real, imag = real / amplitude, imag / amplitude
    phasor, turned = torch.cat((real, imag), -1), torch.cat((imag, -real), -1)
    together, apart = phasor @ phasor.transpose(-2, -1), phasor @ turned.transpose(-2, -1)
    return torch.sqrt(together * together + apart * apart + EPSILON) / real.shape[-1]


def correlation(part: Any, x: Tensor) -> Tensor:
    """Return the size of the correlation of all channels by filter: (batch, n_filters, n_chans, n_chans)."""
    y = filtered(part, x).transpose(1, 2)
    y = (y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, keepdim=True) + EPSILON)
    return (y @ y.transpose(-2, -1) / y.shape[-1]).abs()


def features(self: Any, x: Tensor) -> Tensor:
    """Return the features (batch, n_features): power by channel and filter, or a measure by pair and filter."""
    if self.method == "mag":
        return filtered(self.filter, x).square().mean(-1).sqrt().flatten(1)
    measure = correlation if self.method == "corr" else phase_locking
    pairs = self.feature_layer.triu_row * self.n_chans + self.feature_layer.triu_col
    return measure(self.filter, x).flatten(2).index_select(2, pairs).transpose(1, 2).flatten(1)


def mine_without_assignment(self: Any, x: Tensor) -> Tensor:
    """Run EEGMiner in real numbers, its parameters held in their ranges and nothing written."""
    return self.final_layer(self.batch_layer(features(self, x)))


REWRITES = {
    "EEGMiner": Rewrite(
        quirk=Quirk(
            name="frozen-filters",
            reason="its filters clamp their own parameters in every call and their phases are complex; the clamped"
            " values are used, nothing is written, and the transforms are matrix products",
        ),
        stand_in=mine_without_assignment,
    ),
}
