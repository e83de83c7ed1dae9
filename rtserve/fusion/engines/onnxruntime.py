"""onnxruntime: its blocked layout, and what work costs in it.

Convolutions and pools work on sixteen channels at a time, filled up where some lack.
"""

from __future__ import annotations

import numpy as np

from rtserve.fusion.engines.engine import Costs, Engine

__all__ = ["BLOCK", "COSTS", "FUSED", "ONNXRUNTIME", "filled", "whole"]

BLOCK = 16
"""Channels of a block."""
FUSED = ("Relu", "LeakyRelu")
"""Activations that the engine does within a convolution."""
COSTS = Costs(
    macs_per_us=50_000,
    depthwise_macs_per_us=22_000,
    narrow_macs_per_us=30_000,
    turned_macs_per_us=30_000,
    unfolded_us=0.0002,
    added_us=0.0004,
    unpacked_us=0.0003,
    node_us=1.3,
    window_us=9.0,
    depthwise_us=0.0002,
    placed_us=0.00007,
    gathered_row_us=0.006,
    apart_us=0.0006,
    in_turn_us=0.0003,
    output_in_turn_us=0.002,
    pooled_us=0.0004,
    block_pooled_us=0.0001,
    corrected_us=30.0,
    view_corrected_us=12.0,
    cached_numbers=900_000,  # views at once were faster up to 705,000 (Deep4Net), and slower from 1,160,000 on (LMDA-Net)
    spilled_us=0.0005,
    piece_samples=8,
    exp_from=900,
    filled_pool_from=20_000,
    plane_pool_from=4_000,
)
"""On one core with AVX-512."""
ONNXRUNTIME = Engine(name="onnxruntime", costs=COSTS)


def whole(channels: int) -> int:
    """Return how many channels the engine computes for so many."""
    return -(-channels // BLOCK) * BLOCK


def filled(weight: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a convolution's kernel (outputs, channels, ...) and bias with outputs of zero up to whole blocks."""
    fill = whole(len(weight)) - len(weight)
    more = ((0, fill), *((0, 0),) * (weight.ndim - 1))
    return np.pad(weight, more), None if bias is None else np.pad(bias, (0, fill))
