"""CodeBrain: it asks a buffer whether it was called before, convolves by FFT, and casts to float32 in between."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rtserve.errors import ExportError

from .rewrite import Quirk, Rewrite
from .spectra import magnitude

__all__ = ["REWRITES"]


def embed_patches(self: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Embed patches (batch, n_chans, n_patches, size) by convolution and by magnitude spectrum."""
    n_patches, size = x.shape[2:]
    convolved = self.proj_in(x.flatten(1, 2).unsqueeze(1))
    convolved = convolved.transpose(1, 2).unflatten(1, (-1, n_patches)).flatten(3)
    y = convolved + self.spectral_proj(magnitude(x / size))
    return y + self.positional_encoding(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def window_mask(self: Any, seq_len: int, window_size: int) -> Tensor:
    """Return the additive mask of a sliding window in the precision of the weights."""
    distance = (torch.arange(seq_len)[None] - torch.arange(seq_len)[:, None]).abs()
    outside = distance > window_size // 2
    return torch.zeros(seq_len, seq_len, dtype=self.attention.in_proj_weight.dtype).masked_fill(outside, -math.inf)


def fix_kernel_norm(self: Any) -> None:
    """Keep the scale that the first call would set: a checkpoint saved before any call has none."""
    if not bool(self.kernel_norm_initialized):
        raise ExportError(
            "a global convolution of the checkpoint has no kernel norm yet",
            hint="run the network once before saving it",
        )


def global_kernel(self: Any, length: int) -> Tensor:
    """Return the kernel (channels, d_model, 2 length) whose circular convolution is the layer's."""
    parts = [
        F.interpolate(part, scale_factor=2 ** (max(0, i - 1) + self.init_scale), mode="linear")
        * self.multiplier ** (self.num_scales - i - 1)
        for i, part in enumerate(self.kernel_list)
    ]
    kernel = torch.cat(parts, -1)[..., :length]
    kernel = F.pad(kernel, (0, length - kernel.shape[-1])) / self.kernel_norm
    if not self.bidirectional:
        return F.pad(kernel, (0, length))
    ahead, behind = kernel.chunk(2)
    return F.pad(ahead, (0, length)) + F.pad(behind.flip(-1), (length, 0))


def convolve_directly(self: Any, x: Tensor, return_kernel: bool = False) -> tuple[Tensor, None]:
    """Run the global convolution as a depthwise convolution instead of through the Fourier transform.

    With K circular over 2 L, ``y[t] = sum_s x[s] K[(t - s) mod 2 L]``: a correlation with K read backwards, from lag
    L - 1 to lag 1 - L.
    """
    if not self.transposed:
        x = x.transpose(-1, -2)
    length = x.shape[-1]
    lags = torch.arange(length - 1, -length, -1) % (2 * length)
    weight = global_kernel(self, length)[..., lags].transpose(0, 1).reshape(-1, 1, 2 * length - 1)
    y = F.conv1d(x, weight, padding=length - 1, groups=self.d_model).unflatten(1, (self.d_model, self.channels))
    y = (y + x[:, :, None] * self.skip_weight.T[:, :, None]).transpose(1, 2).flatten(1, 2)
    if not self.linear:
        y = self.norm(self.dropout(self.activation(y)).transpose(1, 2))
        y = self.output_linear(y).transpose(1, 2)
    return (y if self.transposed else y.transpose(-1, -2)), None


REWRITES = {
    "_PatchEmbedding": Rewrite(
        quirk=Quirk(
            name="magnitude-spectrum",
            reason="it casts to float32 for its Fourier transform; the spectrum is written as two matrix products",
        ),
        stand_in=embed_patches,
    ),
    "_ResidualBlock": Rewrite(
        quirk=Quirk(name="window-mask", reason="its mask is float32 whatever the weights are; it follows them"),
        stand_in=window_mask,
        method="generate_local_window_mask",
    ),
    "_GConv": Rewrite(
        quirk=Quirk(
            name="global-convolution",
            reason="a guard asks whether it was called before; its convolution by FFT is written as a convolution",
        ),
        stand_in=convolve_directly,
        prepare=fix_kernel_norm,
    ),
}
