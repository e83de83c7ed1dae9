"""What has to be rewritten in networks of braindecode before they can be exported, each exactly, each with its case.

A quirk replaces the forward of one kind of part, wherever in a network it stands; the weights stay where they are. The
network that comes back is a copy: the one that was built is left as it is, to be compared with.

========================== ======================= ===============================================================
part                       found in                why its own forward cannot be exported
========================== ======================= ===============================================================
atcnet._MHA                ATCNet                  stacks heads on the batch and splits by the batch size, which
                                                   fixes the batch at what the export was tried with
signal_jepa._PosEncoder    SignalJEPA and kin      fills an empty tensor in place; onnxruntime rejects the
                                                   ScatterND that becomes of it
luna._FrequencyFeature...  LUNA                    the angle of a zero spectrum becomes 0/0, and that of a negative
                                                   real bin jumps between pi and -pi with rounding
syncnet.SyncNet            SyncNet                 assigns to its own parameter in every call
codebrain._GConv           CodeBrain               asks a buffer whether it was called before; convolves by FFT
codebrain._PatchEmbedding  CodeBrain               casts to float32 for a spectrum that onnxruntime computes slowly
========================== ======================= ===============================================================
"""

from __future__ import annotations

import copy
import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtserve.errors import ExportError
from rtserve.graphs.exporter import Quirk

__all__ = ["apply_quirks", "quirks_of"]


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """The replacement of one kind of part.

    Parameters
    ----------
    quirk : Quirk
        Its name and the case that needed it.
    forward : callable
        What stands in for the part's forward (or another `method`); ``self`` is the part.
    method : str
        What it stands in for.
    prepare : callable, optional
        Called with the part first, to compute what does not depend on the input.
    """

    quirk: Quirk
    forward: Callable[..., Any]
    method: str = "forward"
    prepare: Callable[[Any], None] | None = None


def attend_by_head(self: Any, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
    """Attend with the heads on an axis of their own: (batch, n_heads, length, head_dim)."""

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.embed_dim // self.head_dim, self.head_dim)).transpose(1, 2)

    q, k, v = heads(self.fc_q(Q)), heads(self.fc_k(K)), heads(self.fc_v(V))
    weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(self.head_dim), -1)
    return self.dropout(self.fc_o((weights @ v).transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


def check_positions(self: Any) -> None:
    """Refuse an encoder that leaves a part of its table unfilled: what is in there is not defined."""
    if self.encoding_time.shape[-1] != self.time_dim:
        raise ExportError("the position encoder has not run yet", hint="run the network once before exporting it")


def positions_by_concatenation(self: Any, local_features: Tensor, ch_idxs: Tensor | None = None) -> Tensor:
    """Return the position table (1, n_chans * n_patches, emb_dim), put together instead of filled in."""
    n_chans = self.default_ch_idxs.shape[0]
    n_times = local_features.shape[1] // n_chans
    space = self.pos_encoder_spat(self.default_ch_idxs[None])[:, :, None, :].expand(-1, -1, n_times, -1)
    clock = self.encoding_time[None, None, :n_times, :].to(space.dtype).expand(1, n_chans, -1, -1)
    return torch.cat([space, clock], -1).flatten(1, 2)


def angle(real: Tensor, imag: Tensor) -> Tensor:
    """Return the angle of a complex number in (-pi, pi], 0 for zero, without dividing by zero."""
    steep = imag.abs() > real.abs()
    below, above = torch.where(steep, imag, real), torch.where(steep, real, imag)
    slope = torch.atan(above / torch.where(below == 0, torch.ones_like(below), below))
    half_turn = torch.where(imag < 0, torch.full_like(imag, -math.pi), torch.full_like(imag, math.pi))
    flat = slope + torch.where(real < 0, half_turn, torch.zeros_like(half_turn))
    return torch.where(steep, half_turn / 2 - slope, flat)


def spectrum(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return real and imaginary part of the spectrum along the last axis, as two matrix products.

    The sine at frequency 0 and at the Nyquist frequency is exactly zero, so that the angle there is 0 or pi, as in a
    transform that knows its input to be real.
    """
    size = patches.shape[-1]
    turns = torch.outer(torch.arange(size), torch.arange(size // 2 + 1)) % size
    phase = turns.double() * (2 * math.pi / size)
    sine = torch.where(2 * turns % size == 0, torch.zeros_like(phase), -torch.sin(phase))
    return patches @ torch.cos(phase).to(patches.dtype), patches @ sine.to(patches.dtype)


def embed_spectrum(self: Any, x: Tensor) -> Tensor:
    """Embed magnitude and angle of each patch's spectrum."""
    size = self.patch_size
    real, imag = spectrum(F.pad(x, (0, -x.shape[-1] % size)).unflatten(-1, (-1, size)))
    features = torch.cat(((real * real + imag * imag).sqrt(), angle(real, imag)), dim=-1)
    return self.frequency_to_embed(features).flatten(1, 2)  # type: ignore[no-any-return]


def embed_patches(self: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Embed patches (batch, n_chans, n_patches, size) by convolution and by magnitude spectrum."""
    n_patches, size = x.shape[2:]
    convolved = self.proj_in(x.flatten(1, 2).unsqueeze(1))
    convolved = convolved.transpose(1, 2).unflatten(1, (-1, n_patches)).flatten(3)
    real, imag = spectrum(x / size)
    y = convolved + self.spectral_proj((real * real + imag * imag).sqrt())
    return y + self.positional_encoding(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


def oscillators_without_assignment(self: Any, x: Tensor) -> Tensor:
    """Run SyncNet as every call after the first runs: the decay clamped at zero, nothing written."""
    decay = torch.exp(-self.t.pow(2) * self.beta.clamp(min=0.0))
    kernel = (self.amplitude * torch.cos(self.t * self.omega + self.phi_ini) * decay).permute(3, 2, 0, 1)
    y = F.conv2d(self.pad_input(x.unsqueeze(2)), kernel, bias=self.bias)
    pooled = self.pool(self.pad_res(y)).flatten(1)
    return self.final_layer(self.activation(pooled))  # type: ignore[no-any-return]


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
    "atcnet._MHA": Rewrite(
        quirk=Quirk(
            name="attention-heads",
            reason="its attention stacks the heads on the batch and splits by the batch size, which fixed the batch",
        ),
        forward=attend_by_head,
    ),
    "signal_jepa._PosEncoder": Rewrite(
        quirk=Quirk(
            name="position-table",
            reason="its position table is filled in place, which became a ScatterND that onnxruntime rejects",
        ),
        forward=positions_by_concatenation,
        prepare=check_positions,
    ),
    "luna._FrequencyFeatureEmbedder": Rewrite(
        quirk=Quirk(
            name="spectrum-angle",
            reason="the angle of a zero spectrum became 0/0, and that of a real negative bin jumped with rounding",
        ),
        forward=embed_spectrum,
    ),
    "syncnet.SyncNet": Rewrite(
        quirk=Quirk(
            name="frozen-decay",
            reason="it clamps its own decay parameter in every call; the clamped value is used and nothing is written",
        ),
        forward=oscillators_without_assignment,
    ),
    "codebrain._PatchEmbedding": Rewrite(
        quirk=Quirk(
            name="magnitude-spectrum",
            reason="it casts to float32 for its Fourier transform; the spectrum is written as two matrix products",
        ),
        forward=embed_patches,
    ),
    "codebrain._ResidualBlock": Rewrite(
        quirk=Quirk(name="window-mask", reason="its mask is float32 whatever the weights are; it follows them"),
        forward=window_mask,
        method="generate_local_window_mask",
    ),
    "codebrain._GConv": Rewrite(
        quirk=Quirk(
            name="global-convolution",
            reason="a guard asks whether it was called before; its convolution by FFT is written as a convolution",
        ),
        forward=convolve_directly,
        prepare=fix_kernel_norm,
    ),
}
"""By module and class below braindecode.models."""


def _rewrite_of(part: nn.Module) -> Rewrite | None:
    cls = type(part)
    return REWRITES.get(f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}")


def quirks_of(network: nn.Module) -> tuple[Quirk, ...]:
    """Return the quirks that `network` needs, each once."""
    found = {rewrite.quirk.name: rewrite.quirk for part in network.modules() if (rewrite := _rewrite_of(part))}
    return tuple(found.values())


def apply_quirks(network: nn.Module) -> nn.Module:
    """Return a copy of `network` in eval mode with every part rewritten that needs it; itself where none does.

    Raises
    ------
    ExportError
        Where a part is in a state from which its rewrite cannot be exact.
    """
    if not quirks_of(network):
        return network
    changed = copy.deepcopy(network).eval()
    for part in changed.modules():
        rewrite = _rewrite_of(part)
        if rewrite is not None:
            if rewrite.prepare is not None:
                rewrite.prepare(part)
            setattr(part, rewrite.method, types.MethodType(rewrite.forward, part))
    return changed
