r"""What a view is, whatever it is called: which sample, which channel, times what.

.. math:: y[c, t] = a\,x[\kappa(c), \tau(t)],

and 0 where :math:`\kappa` or :math:`\tau` is `ZERO`. One view of another is a view again; how torch and ONNX compute it and
what it shares with others follow from the three fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.ir.conv import ZERO

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from rtserve.graphs.emit import Emitter

__all__ = ["LinearView", "runs_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearView:
    """A view of windows of one size.

    Parameters
    ----------
    times : ndarray of int, (n_times,)
        Which sample each sample is.
    channels : ndarray of int, (n_chans,)
        Which channel each channel is.
    factor : float
        Times what.
    """

    times: np.ndarray
    channels: np.ndarray
    factor: float = 1.0

    @property
    def key(self) -> tuple[bytes, bytes, float]:
        """What is equal for equal views."""
        return self.times.tobytes(), self.channels.tobytes(), self.factor

    @cached_property
    def still(self) -> bool:
        """Whether every sample stays where it is."""
        return np.array_equal(self.times, np.arange(len(self.times)))

    @cached_property
    def in_order(self) -> bool:
        """Whether every channel stays where it is."""
        return np.array_equal(self.channels, np.arange(len(self.channels)))

    @property
    def identity(self) -> bool:
        """Whether it is x itself."""
        return self.still and self.in_order and self.factor == 1.0

    @cached_property
    def move(self) -> tuple[int, bool] | None:
        """How it moves all samples alike: by how many, and whether what leaves at one end comes in at the other."""
        t = np.arange(len(self.times))
        shift = int(t[len(t) // 2] - self.times[len(t) // 2])
        rolled, inside = (t - shift) % len(t), (t >= shift) & (t - shift < len(t))
        if np.array_equal(self.times, rolled):
            return shift, True
        return (shift, False) if np.array_equal(self.times, np.where(inside, rolled, ZERO)) else None

    def then(self, other: LinearView) -> LinearView:
        """Return another view of what this one gives."""
        both = ((other.times, self.times), (other.channels, self.channels))
        times, channels = (np.where(index == ZERO, ZERO, through[index]) for index, through in both)
        return LinearView(times=times, channels=channels, factor=self.factor * other.factor)

    @cached_property
    def runs(self) -> list[tuple[int, int, int]]:
        """The times as `runs_of` has them."""
        return runs_of(self.times)

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        """Return the view of x (batch, n_chans, n_times) in torch."""
        import torch
        from torch.nn import functional

        if not self.in_order:
            dropped = np.flatnonzero(self.channels == ZERO)
            x = x[:, self.channels.tolist()]
            x = x.index_fill(1, torch.as_tensor(dropped, device=x.device), 0.0) if len(dropped) else x
        if self.runs == [(len(self.times) - 1, -1, len(self.times))]:  # backwards as a whole
            x = x.flip(-1)
        elif self.move is None:
            x = x[..., self.times.tolist()]
            x[..., np.flatnonzero(self.times == ZERO).tolist()] = 0.0
        elif not self.still:
            shift, wraps = self.move
            front, behind, n = max(shift, 0), max(-shift, 0), len(self.times)
            x = x.roll(shift, -1) if wraps else functional.pad(x[..., behind : n - front], (front, behind))
        return x if self.factor == 1.0 else x * self.factor

    def onnx(self, emit: Emitter, x: ir.Value) -> ir.Value:
        """Add the view of x to a graph and return it. Zeros are selected or padded: 0 times infinity would be none."""
        dropped, own = self.channels == ZERO, np.arange(len(self.channels))
        if not np.array_equal(source := np.where(dropped, own, self.channels), own):
            x = emit("Gather", x, source, axis=1)
        if dropped.any():
            x = emit("Where", dropped.reshape(1, -1, 1), np.float32(0.0), x)
        x = x if self.still else self._in_time(emit, x)
        if self.factor == -1.0:
            return emit("Neg", x)
        return x if self.factor == 1.0 else emit("Mul", x, np.float32(self.factor))

    def _in_time(self, emit: Emitter, x: ir.Value) -> ir.Value:
        """Return the runs side by side, zeros as padding of their neighbours."""
        parts: list[ir.Value] = []
        front = 0
        for first, step, n in self.runs:
            if step:
                end = first + step * n
                whole = len(self.times) * (step < 0)  # going backwards, places are counted from the end
                part = emit.slice(x, 2, first - whole, end if 0 <= end < len(self.times) else None, step)
                parts.append(emit("Pad", part, [0, 0, front, 0, 0, 0]) if front else part)
            elif parts:
                parts[-1] = emit("Pad", parts[-1], [0, 0, 0, 0, 0, n])
            front = 0 if step or parts else n
        if not parts:
            return emit("Where", np.ones((1, 1, 1), bool), np.float32(0.0), x)
        return emit("Concat", *parts, axis=2) if len(parts) > 1 else parts[0]


def runs_of(numbers: np.ndarray) -> list[tuple[int, int, int]]:
    """Return numbers as runs (first, step, length) of neighbours, step 1 or -1; step 0 for zeros."""
    found: list[tuple[int, int, int]] = []
    for t in numbers.tolist():
        first, step, length = found[-1] if found else (ZERO, 1, 0)
        step = t - first if length == 1 and step and t != ZERO and abs(t - first) == 1 else step
        if length and t == first + step * length and (t == ZERO) == (step == 0):
            found[-1] = (first, step, length + 1)
        else:
            found.append((t, int(t != ZERO), 1))
    return found
