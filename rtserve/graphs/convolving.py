"""Convolutions in float64, as the references need them: the same sums, in a tenth of the time and memory.

torch has no kernel of its own for them: it unfolds the whole batch into a matrix, 0.5 GB where a 1 x 64 kernel meets
129 channels of 200 samples, and does grouped ones group by group. Ways round that for convolutions along one axis, chosen
by counted work:

- **by the spectrum**, where a long kernel joins many channels: one product per frequency. The transforms err by about
  ``eps log2(n) max|x| sum|w|``, everywhere in the row. So that no answer can tell, this way is only taken where every
  window of the row that is not zero holds a sample of at least `RANGE` times the row's largest: the error is then below
  1e-8 of what the window itself adds up, where float32 errs by 6e-8. A window of zeros gives exactly zero, as sums do,
  and what is not finite is never taken this way.
- **in blocks of outputs**, where a long kernel has few filters: L neighbouring outputs read L + K - 1 samples, so that one
  product with all their kernels, :math:`M[l, k] = w[k - l]`, unfolds a row L times less. Its zeros meet samples that an
  output does not read: it is only taken where all numbers are finite.
- **as one product per group** otherwise, of windows unfolded a part of the batch at a time into memory that all
  convolutions of a run share: memory that each asked for anew was scattered, and a run of 256 networks held 1.4 GB for
  60 MB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LeanConvolutions", "one_thread"]

RANGE = 1e-6
"""Smallest share of a row's largest sample that a window must hold for its sum to be taken from the row's spectrum."""
UNFOLDED = 1_000_000
"""Numbers in the unfolded matrix up to which a batch is convolved at once: 8 MB."""
AT_ONCE = 200_000
"""Numbers that a transform gives at once, 1.6 MB: they stay in a core's own cache."""
DIRECT, TRANSFORM, PER_BIN, UNFOLD, PRODUCT = 0.2, 6.0, 0.5, 1.0, 0.05
"""ns on one core (Zen 5): of a multiply-add by torch's way, of a sample's transform there or back, of a product of one
frequency, of a number unfolded, and of a multiply-add in a large product. Only their ratios count, and those within a
factor of two."""

CONVOLUTIONS = (torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default)
"""What torch calls in inference mode, where a convolution is not yet taken apart."""


class LeanConvolutions(TorchDispatchMode):  # type: ignore[misc]
    """While active, convolutions in float64 are computed by the ways above; everything else as ever."""

    def __init__(self) -> None:
        super().__init__()
        self.room = torch.empty(0, dtype=torch.float64)

    def workspace(self, *shape: int) -> Tensor:
        """Return memory for numbers, which whoever asks next is given too."""
        size = math.prod(shape)
        if self.room.numel() < size:
            self.room = torch.empty(size, dtype=torch.float64)
        return self.room[:size].view(shape)

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
            return _convolution(self.workspace, *args)
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
    workspace: Callable[..., Tensor],
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
    high = weight.shape[-1] == 1 and rank > 1 and weight.shape[2:-1] == x.shape[2:-1]
    if high and not any(pads) and steps[-1] == 1 and set(gaps) == {1}:
        return _whole_columns(x, weight, bias, groups)
    if rank == 2 and (weight.shape[-1], pads[-1], steps[-1]) == (1, 0, 1) != (weight.shape[2], pads[0], steps[0]):
        x, weight = x.transpose(-1, -2), weight.transpose(-1, -2)
        return _convolution(workspace, x, weight, bias, steps[::-1], pads[::-1], gaps[::-1], groups).transpose(-1, -2)
    idle = zip(weight.shape[2:-1], pads[:-1], steps[:-1], strict=True)
    if any(axis != (1, 0, 1) for axis in idle):
        return _in_parts(x, weight, bias, steps, pads, gaps, groups)
    if groups == 1 and steps[-1] == 1:
        if _pays(x, weight, pads[-1], gaps[-1]):
            return _along_rows(x, weight, bias, pads[-1], gaps[-1])
        if gaps[-1] == 1 and _blocks_pay(weight) and torch.isfinite(x).all():
            return _in_blocks(x, weight, bias, pads[-1])
    return _as_product(workspace, x, weight, bias, steps[-1], pads[-1], gaps[-1], groups)


def _in_parts(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    """Return the convolution as torch computes it, a part of the batch at a time where it would unfold much."""
    steps, pads, gaps = rest[:3]
    ends = zip(x.shape[2:], weight.shape[2:], steps, pads, gaps, strict=True)
    places = math.prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in ends)
    at_once = max(1, UNFOLDED // max(1, places * x.shape[1] * math.prod(weight.shape[2:])))
    done = [_torchs(part, weight, bias, *rest) for part in (x.split(at_once) if at_once < len(x) else (x,))]
    return done[0] if len(done) == 1 else torch.cat(done)


def _as_product(
    workspace: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    pad: int,
    dilation: int,
    groups: int,
) -> Tensor:
    """Return the convolution along the last axis as one product per group."""
    filters, taps = weight.shape[0], weight.shape[-1]
    kernels = weight.reshape(groups, filters // groups, -1)
    seen = F.pad(x, (pad, pad)).unfold(-1, dilation * (taps - 1) + 1, stride)[
        ..., ::dilation
    ]  # (batch, c, ..., n, taps)
    done = []
    for part in seen.split(max(1, UNFOLDED * len(x) // max(1, seen.numel()))):
        columns = part.movedim(0, 1).movedim(-1, 1)  # (channels, taps, batch, ..., n)
        unfolded = workspace(*columns.shape).copy_(columns)
        y = torch.bmm(kernels, unfolded.view(groups, kernels.shape[2], -1))
        done.append(y.view(filters, *columns.shape[2:]).movedim(0, 1))
    y = done[0] if len(done) == 1 else torch.cat(done)
    return y if bias is None else y.add_(bias.reshape(-1, *(1,) * (y.dim() - 2)))


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
    return _fast_length(x.shape[-1] + 2 * pad)


@cache
def _fast_length(n: int) -> int:
    """Return the next number from n on without a prime factor above 5: a transform of such a length is fast."""
    while math.gcd(n, 30 ** n.bit_length()) < n:
        n += 1
    return n


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
    kernel, padded = weight.reshape(*weight.shape[:2], -1), F.pad(rows, (pad, pad))
    safe, heard = _audible(padded, kernel.shape[-1], dilation)
    length, gains, steps = _length(x, pad), None, heard.shape[-1]
    y = rows.new_empty(len(rows), len(kernel), steps)
    for start in range(0, len(rows), size := max(1, AT_ONCE // (len(kernel) * length))):
        part = slice(start, start + size)
        if not safe[part].any():
            continue
        gains = _gains(kernel, length, dilation) if gains is None else gains
        y[part] = _by_spectrum(padded[part], gains, length)[..., :steps]
        if not heard[part].all():
            y[part] *= heard[part].unsqueeze(1)
    for row in torch.nonzero(~safe).flatten().split(16):
        y[row] = CONVOLUTIONS[0](rows[row], kernel, None, [1], [pad], [dilation], 1)
    if bias is not None:
        y += bias[:, None]
    return y.reshape(*lines.shape[:-2], *y.shape[1:]).movedim(-2, 1)


def _block(taps: int) -> int:
    """Return how many outputs are computed at once: a quarter more products, a fifth of their number unfolded."""
    return max(1, taps // 4)


def _blocks_pay(weight: Tensor) -> bool:
    """Whether blocks cost less than two thirds of what torch's way does."""
    filters, taps = weight.shape[0], weight.shape[-1]
    size = _block(taps)
    blocks = (taps + size - 1) * (UNFOLD / size + PRODUCT * filters)
    return bool(1.5 * blocks < taps * (UNFOLD + PRODUCT * filters))


def _in_blocks(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int) -> Tensor:
    """Return the convolution along the last axis, `_block` outputs of a row at once."""
    filters, channels, taps = weight.shape[0], weight.shape[1], weight.shape[-1]
    size, lines = _block(taps), x.movedim(1, -2)  # (batch, ..., channels, time)
    steps = x.shape[-1] + 2 * pad - taps + 1
    count = -(-steps // size)
    span = size + taps - 1
    kernels = weight.new_zeros(size, filters, channels, span)
    for place in range(size):
        kernels[place, ..., place : place + taps] = weight.reshape(filters, channels, taps)
    columns = kernels.reshape(size * filters, channels * span).T
    done = []
    for rows in lines.reshape(-1, *lines.shape[-2:]).split(max(1, UNFOLDED // (channels * span * count))):
        seen = F.pad(rows, (pad, pad + count * size - steps)).unfold(-1, span, size)  # (n, channels, count, span)
        y = seen.transpose(1, 2).reshape(-1, channels * span) @ columns
        done.append(y.reshape(len(rows), count * size, filters)[:, :steps])
    y = torch.cat(done) if len(done) > 1 else done[0]
    y = y if bias is None else y.add_(bias)
    return y.reshape(*lines.shape[:-2], steps, filters).movedim(-1, 1)


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
