"""onnxruntime's blocked layout: convolutions and pools work on sixteen channels at a time, filled up where some lack."""

from __future__ import annotations

import numpy as np

__all__ = ["BLOCK", "FUSED", "filled", "whole"]

BLOCK = 16
"""Channels of a block."""
FUSED = ("Relu", "LeakyRelu")
"""Activations that the engine does within a convolution."""


def whole(channels: int) -> int:
    """Return how many channels the engine computes for so many."""
    return -(-channels // BLOCK) * BLOCK


def filled(weight: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a convolution's kernel (outputs, channels, ...) and bias with outputs of zero up to whole blocks."""
    fill = whole(len(weight)) - len(weight)
    more = ((0, fill), *((0, 0),) * (weight.ndim - 1))
    return np.pad(weight, more), None if bias is None else np.pad(bias, (0, fill))
