r"""What a view is, whatever it is called: which sample, which channel, times what.

.. math:: y[c, t] = a\,x[\kappa(c), \tau(t)],

and 0 where :math:`\kappa` or :math:`\tau` is `ZERO`. Views of this form are closed under composition, and their torch face,
their ONNX face and what they share with each other follow from the three fields.
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

__all__ = ["LinearView"]


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

    @property
    def still(self) -> bool:
        """Whether every sample stays where it is."""
        return np.array_equal(self.times, np.arange(len(self.times)))

    @property
    def in_order(self) -> bool:
        """Whether every channel stays where it is."""
        return np.array_equal(self.channels, np.arange(len(self.channels)))

    @property
    def backwards(self) -> bool:
        """Whether the window runs backwards as a whole."""
        return len(self.times) > 1 and np.array_equal(self.times, np.arange(len(self.times))[::-1])

    @property
    def amplitude(self) -> bool:
        """Whether it is a factor and nothing else."""
        return self.still and self.in_order

    def then(self, other: LinearView) -> LinearView:
        """Return another view of what this one gives."""
        times, channels = (
            np.where(index == ZERO, ZERO, through[index])
            for index, through in ((other.times, self.times), (other.channels, self.channels))
        )
        return LinearView(times=times, channels=channels, factor=self.factor * other.factor)

    @cached_property
    def runs(self) -> list[tuple[int, int, int]]:
        """The times as runs (first, step, length), step 1 or -1; step 0 for zeros."""
        found: list[tuple[int, int, int]] = []
        for t in self.times.tolist():
            first, step, length = found[-1] if found else (ZERO, 1, 0)
            if length == 1 and step and t != ZERO and abs(t - first) == 1:
                found[-1] = (first, t - first, 2)
            elif length and (t == first == ZERO if not step else t == first + step * length):
                found[-1] = (first, step, length + 1)
            else:
                found.append((t, int(t != ZERO), 1))
        return found

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        """Return the view of x (batch, n_chans, n_times) in torch."""
        import torch

        if not self.in_order:
            dropped = np.flatnonzero(self.channels == ZERO)
            x = x[:, self.channels.tolist()].index_fill(1, torch.as_tensor(dropped, device=x.device), 0.0)
        if not self.still:
            parts = [
                (x[..., first : first + n] if step == 1 else x[..., first - n + 1 : first + 1].flip(-1))
                if step
                else torch.zeros_like(x[..., :n])
                for first, step, n in self.runs
            ]
            x = torch.cat(parts, -1)
        return x if self.factor == 1.0 else x * self.factor

    def onnx(self, emit: Emitter, x: ir.Value) -> ir.Value:
        """Add the view of x to a graph and return it."""
        if not self.in_order:
            x = self._channelled(emit, x)
        if not self.still:
            x = self._timed(emit, x)
        if self.factor == -1.0:
            return emit("Neg", x)
        return x if self.factor == 1.0 else emit("Mul", x, np.float32(self.factor))

    def _channelled(self, emit: Emitter, x: ir.Value) -> ir.Value:
        """Select zeros, not multiply: 0 times a non-finite sample would not be 0."""
        dropped = self.channels == ZERO
        source = np.where(dropped, np.arange(len(dropped)), self.channels)
        if not np.array_equal(source, np.arange(len(dropped))):
            x = emit("Gather", x, source, axis=1)
        return emit("Where", dropped.reshape(1, -1, 1), np.float32(0.0), x) if dropped.any() else x

    def _timed(self, emit: Emitter, x: ir.Value) -> ir.Value:
        """Return the runs side by side, zeros as padding of their neighbours."""
        parts: list[ir.Value] = []
        front = 0
        for first, step, n in self.runs:
            if not step and not parts:
                front = n
            elif not step:
                parts[-1] = emit("Pad", parts[-1], [0, 0, 0, 0, 0, n])
            else:
                end = first + step * n
                part = emit.slice(x, 2, first, end if end >= 0 else None, step)
                parts.append(emit("Pad", part, [0, 0, front, 0, 0, 0]) if front else part)
                front = 0
        if not parts:
            return emit("Where", np.ones((1, 1, 1), bool), np.float32(0.0), x)
        return emit("Concat", *parts, axis=2) if len(parts) > 1 else parts[0]
