# Authors: the rtserve authors
#
# License: BSD (3-clause)
"""What stands in for parts of models that the exporter of torch cannot take.

Each changes how something is computed, never what comes out, and is applied to a
copy of a model that has run once. An entry can go as soon as the model itself is
written that way.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["REWRITES", "rewrite_parts"]


def _attend_by_head(self: Any, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
    """Attend with the heads on an axis of their own instead of on the batch."""

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    q, k, v = heads(self.fc_q(Q)), heads(self.fc_k(K)), heads(self.fc_v(V))
    weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(self.head_dim), -1)
    return self.dropout(self.fc_o((weights @ v).transpose(1, 2).flatten(2)))


def _positions(self: Any, local_features: Tensor, ch_idxs: Any = None) -> Tensor:
    """Put the position table together instead of filling it in place."""
    if ch_idxs is None:
        ch_idxs = self.default_ch_idxs[None].expand(local_features.shape[0], -1)
    n_times = local_features.shape[1] // ch_idxs.shape[1]
    space = self.pos_encoder_spat(ch_idxs)[:, :, None].expand(-1, -1, n_times, -1)
    time = self.encoding_time[:n_times].expand(*space.shape[:2], -1, -1)
    return torch.cat([space, time], -1).flatten(1, 2)


def _spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return real and imaginary part of ``rfft(x)``, as two matrix products.

    The sine is exactly zero at frequency 0 and at the Nyquist frequency, so that
    the angle of a negative bin there is pi, and not minus pi by a rounding.
    """
    size = x.shape[-1]
    turns = torch.outer(torch.arange(size), torch.arange(size // 2 + 1)) % size
    phase = turns.double() * (2 * math.pi / size)
    sine = -torch.sin(phase).masked_fill(2 * turns % size == 0, 0.0)
    return x @ torch.cos(phase).to(x.dtype), x @ sine.to(x.dtype)


def _angle(real: Tensor, imag: Tensor) -> Tensor:
    """Return the angle in (-pi, pi], 0 for zero, with no division by zero."""
    wide, tall = real.abs(), imag.abs()
    longer, shorter = torch.maximum(wide, tall), torch.minimum(wide, tall)
    turn = torch.atan(shorter / torch.where(longer == 0, 1.0, longer))
    turn = torch.where(tall > wide, math.pi / 2 - turn, turn)
    turn = torch.where(real < 0, math.pi - turn, turn)
    return torch.where(imag < 0, -turn, turn)


def _embed_spectrum(self: Any, x: Tensor) -> Tensor:
    """Embed magnitude and angle of each patch, the angle of zero being zero."""
    patches = F.pad(x, (0, -x.shape[-1] % self.patch_size))
    real, imag = _spectrum(patches.unflatten(-1, (-1, self.patch_size)))
    magnitude = (real * real + imag * imag).sqrt()
    features = torch.cat((magnitude, _angle(real, imag)), -1)
    return self.frequency_to_embed(features).flatten(1, 2)


def _oscillators(self: Any, x: Tensor) -> Tensor:
    """Run SyncNet without clamping its decay, which the first call clamped."""
    kernel = self.amplitude * torch.cos(self.t * self.omega + self.phi_ini)
    kernel = (kernel * torch.exp(-self.t.pow(2) * self.beta)).permute(3, 2, 0, 1)
    x = F.conv2d(self.pad_input(self.ensuredim(x)), kernel, bias=self.bias)
    x = self.pool(self.pad_res(x)).view(-1, self.classifier_input_size)
    return self.final_layer(self.activation(x))


def _prototypes(self: Any, x: Tensor) -> Any:
    """Run SSTDPN without bounding its prototypes, which the first call bounded."""
    features = self.encoder(x)
    logits = self.final_layer(features @ self.proto_sep.T)
    return (features, logits) if self.return_features else logits


def _global_kernel(self: Any, length: int) -> Tensor:
    """Return the kernel (channels, d_model, 2 length) of a circular convolution."""
    mode = "nearest" if "nearest" in self.mode else "linear"
    parts = [
        F.interpolate(
            part, scale_factor=2 ** (max(0, i - 1) + self.init_scale), mode=mode
        )
        * self.multiplier ** (self.num_scales - i - 1)
        for i, part in enumerate(self.kernel_list)
    ]
    kernel = torch.cat(parts, -1)[..., :length]
    kernel = F.pad(kernel, (0, length - kernel.shape[-1])) / self.kernel_norm
    if not self.bidirectional:
        return F.pad(kernel, (0, length))
    ahead, behind = kernel.chunk(2)
    return F.pad(ahead, (0, length)) + F.pad(behind.flip(-1), (length, 0))


def _convolve(self: Any, x: Tensor, return_kernel: bool = False) -> tuple[Tensor, Any]:
    """Convolve along time instead of by complex spectra; the norm is the first call's.

    With K circular over 2 L, ``y[t] = sum_s x[s] K[(t - s) mod 2 L]``: a correlation
    with K read backwards, from lag L - 1 to lag 1 - L.
    """
    x = x if self.transposed else x.transpose(-1, -2)
    length = x.shape[-1]
    kernel = _global_kernel(self, length)
    lags = torch.arange(length - 1, -length, -1) % (2 * length)
    weight = kernel[..., lags].transpose(0, 1).reshape(-1, 1, 2 * length - 1)
    y = F.conv1d(x, weight, padding=length - 1, groups=self.d_model)
    y = y.unflatten(1, (self.d_model, self.channels))
    y = (
        (y + x[:, :, None] * self.skip_weight.T[:, :, None])
        .transpose(1, 2)
        .flatten(1, 2)
    )
    if not self.linear:
        y = self.norm(self.dropout(self.activation(y)).transpose(1, 2))
        y = self.output_linear(y).transpose(1, 2)
    y = y if self.transposed else y.transpose(-1, -2)
    return y, kernel if return_kernel else None


def _forward(stand_in: Callable[..., Any]) -> Callable[[Any], None]:
    """Return what gives a part another ``forward``."""

    def apply(part: Any) -> None:
        part.forward = types.MethodType(stand_in, part)

    return apply


REWRITES: dict[tuple[str, str], tuple[str, Callable[[Any], None]]] = {
    ("atcnet", "_MHA"): (
        "heads stacked on the batch and split by its size, which fixed the batch",
        _forward(_attend_by_head),
    ),
    ("codebrain", "_GConv"): (
        "a guard that asks a buffer whether this is the first call, and products of"
        " complex spectra",
        _forward(_convolve),
    ),
    ("luna", "_FrequencyFeatureEmbedder"): (
        "the angle of an empty spectrum became 0 / 0",
        _forward(_embed_spectrum),
    ),
    ("signal_jepa", "_PosEncoder"): (
        "a table filled in place, for which onnxruntime has no kernel",
        _forward(_positions),
    ),
    ("sstdpn", "SSTDPN"): (
        "a parameter that is written in every call",
        _forward(_prototypes),
    ),
    ("syncnet", "SyncNet"): (
        "a parameter that is written in every call",
        _forward(_oscillators),
    ),
}
"""By module of ``braindecode.models`` and class: why, and what changes a part."""


def rewrite_parts(model: nn.Module) -> tuple[str, ...]:
    """Rewrite every part of `model` that needs it, in place.

    Parameters
    ----------
    model : torch.nn.Module
        A copy of a model, in evaluation mode, that has run at least once.

    Returns
    -------
    tuple of str
        The classes of what was rewritten, each once.
    """
    done: dict[str, None] = {}
    for part in list(model.modules()):
        package, _, module = type(part).__module__.rpartition(".")
        for name in (base.__name__ for base in type(part).__mro__):
            if package == "braindecode.models" and (module, name) in REWRITES:
                REWRITES[module, name][1](part)
                done[name] = None
    return tuple(done)
