"""Convolutions in float64, as the references need them: the same sums, in a tenth of the time and memory.

torch has no kernel of its own for them: it unfolds the whole batch into a matrix, 0.5 GB where a 1 x 64 kernel meets
129 channels of 200 samples. Two ways round that, chosen by counted work:

- **by the spectrum**, where a long kernel along the last axis joins many channels: one product per frequency. The
  transforms err by about ``eps log2(n) max|x| sum|w|``, everywhere in the row. So that no answer can tell, this way is
  only taken where every window of the row that is not zero holds a sample of at least `RANGE` times the row's largest:
  the error is then below 1e-8 of what the window itself adds up, where float32 errs by 6e-8. A window of zeros gives
  exactly zero, as sums do, and what is not finite is never taken this way.
- **in parts of the batch** otherwise, where the unfolded matrix would be large.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LeanConvolutions", "one_thread"]

RANGE = 1e-6
"""Smallest share of a row's largest sample that a window must hold for its sum to be taken from the row's spectrum."""
UNFOLDED = 8_000_000
"""Numbers in the unfolded matrix up to which a batch is convolved at once: 64 MB."""
AT_ONCE = 200_000
"""Numbers that a transform gives at once, 1.6 MB: they stay in a core's own cache."""
DIRECT, TRANSFORM, PER_BIN = 0.2, 6.0, 0.5
"""ns on one core (Zen 5): of a multiply-add by torch's way, of a sample's transform there or back, and of a product of
one frequency. Only their ratios count, and those within a factor of two."""

CONVOLUTIONS = (torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default)
"""What torch calls in inference mode, where a convolution is not yet taken apart."""


class LeanConvolutions(TorchDispatchMode):  # type: ignore[misc]
    """While active, convolutions in float64 are computed by the ways above; everything else as ever."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether to hide from torch's compiler: it compiles nothing here, and hiding loads it (1 s, 70 MB)."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation."""
        return self.compute(func, args, kwargs or {})

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the operation gives."""
        if func in CONVOLUTIONS and not kwargs and args[0].dtype == torch.float64 and args[0].device.type == "cpu":
            return _convolution(*args)
        return func(*args, **kwargs)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: its pool spins, and costs a busy machine seven times the time it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Tensor:
    """Return the convolution of (batch, channels, ...), the arguments as ``aten.conv1d`` and ``aten.conv2d`` have them."""
    rank = weight.dim() - 2
    if x.dim() != rank + 2:  # without a batch
        return _torchs(x.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    steps, pads, gaps = (tuple(of) * (rank // len(of)) for of in (stride, padding, dilation))
    along = all(k == 1 and p == 0 for k, p in zip(weight.shape[2:-1], pads[:-1], strict=True))
    if along and groups == 1 and all(s == 1 for s in steps) and _pays(x, weight, pads[-1], gaps[-1]):
        return _along_rows(x, weight, bias, pads[-1], gaps[-1])
    high = weight.shape[-1] == 1 and rank > 1 and weight.shape[2:-1] == x.shape[2:-1]
    if high and not any(pads) and steps[-1] == 1 and set(gaps) == {1}:
        return _whole_columns(x, weight, bias, groups)
    ends = zip(x.shape[2:], weight.shape[2:], steps, pads, gaps, strict=True)
    places = math.prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in ends)
    at_once = max(1, UNFOLDED // max(1, places * x.shape[1] * math.prod(weight.shape[2:])))
    parts = x.split(at_once) if at_once < len(x) else (x,)
    done = [_torchs(part, weight, bias, steps, pads, gaps, groups) for part in parts]
    return done[0] if len(done) == 1 else torch.cat(done)


def _torchs(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    """Return the convolution as torch computes it."""
    return CONVOLUTIONS[1 if weight.dim() == 4 else 0](x, weight, bias, *rest)


def _whole_columns(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """Return the convolution whose kernel is as high as the plane and one sample wide: one product per group."""
    columns = x.reshape(len(x), groups, -1, x.shape[-1])
    y = (weight.reshape(groups, len(weight) // groups, -1) @ columns).reshape(len(x), len(weight), 1, -1)
    return y if bias is None else y.add_(bias.reshape(-1, 1, 1))


def _length(x: Tensor, pad: int) -> int:
    """Return the length of the transforms of rows of that padded width."""
    from scipy.fft import next_fast_len

    return int(next_fast_len(x.shape[-1] + 2 * pad, real=True))


def _pays(x: Tensor, weight: Tensor, pad: int, dilation: int) -> bool:
    """Whether the spectrum costs less than half of the sums."""
    filters, channels, taps = weight.shape[0], weight.shape[1], weight.shape[-1]
    steps = x.shape[-1] + 2 * pad - dilation * (taps - 1)
    spectral = _length(x, pad) * (TRANSFORM * (filters + channels) + PER_BIN * filters * channels)
    return bool(steps > 0 and 2 * spectral < DIRECT * steps * filters * channels * taps)


def _along_rows(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int, dilation: int) -> Tensor:
    """Return the convolution along the last axis, row by row: by the spectrum, or as sums where that is not safe."""
    lines = x.movedim(1, -2)  # (batch, ..., channels, time)
    rows = lines.reshape(-1, *lines.shape[-2:])
    kernel = weight.reshape(*weight.shape[:2], -1)
    safe, heard = _audible(F.pad(rows, (pad, pad)), kernel.shape[-1], dilation)
    y = rows.new_empty(len(rows), len(kernel), heard.shape[-1])
    length, gains = _length(x, pad), None
    for row in torch.nonzero(safe).flatten().split(max(1, AT_ONCE // (len(kernel) * length))):
        gains = _gains(kernel, length, dilation) if gains is None else gains
        y[row] = _by_spectrum(F.pad(rows[row], (pad, pad)), gains, length)[..., : y.shape[-1]]
        y[row] *= heard[row].unsqueeze(1)
    for row in torch.nonzero(~safe).flatten().split(16):
        y[row] = CONVOLUTIONS[0](rows[row], kernel, None, [1], [pad], [dilation], 1)
    if bias is not None:
        y += bias[:, None]
    return y.reshape(*lines.shape[:-2], *y.shape[1:]).movedim(-2, 1)


def _audible(padded: Tensor, taps: int, dilation: int) -> tuple[Tensor, Tensor]:
    """Return which rows (n,) the spectrum is safe for, and which windows (n, steps) hold a number other than 0."""
    size = padded.abs().amax(dim=1)
    peak = size.amax(dim=-1, keepdim=True)
    local = F.max_pool1d(size.unsqueeze(1), taps, stride=1, dilation=dilation).squeeze(1)
    heard = local > 0
    quiet = (heard & ~(local >= RANGE * peak)).any(dim=-1)
    return torch.isfinite(peak[:, 0]) & ~quiet, heard


def _gains(kernel: Tensor, length: int, dilation: int) -> Tensor:
    """Return what a kernel (filters, channels, taps) does at each frequency: (frequencies, channels, filters)."""
    spread = kernel.new_zeros(*kernel.shape[:2], dilation * (kernel.shape[-1] - 1) + 1)
    spread[..., ::dilation] = kernel
    return torch.fft.rfft(spread, length).permute(2, 1, 0).conj().resolve_conj().contiguous()


def _by_spectrum(padded: Tensor, gains: Tensor, length: int) -> Tensor:
    """Return (n, filters, length), of which the first steps are the convolution: one product per frequency."""
    seen = torch.fft.rfft(padded, length).permute(2, 0, 1).contiguous()
    return torch.fft.irfft(torch.bmm(seen, gains).permute(1, 2, 0), length)
