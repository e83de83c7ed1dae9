"""onnxruntime: its blocked layout, and what work costs in it.

Convolutions and pools work on sixteen channels at a time, filled up where some lack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtserve.fusion.engines.engine import Engine

__all__ = ["BLOCK", "COSTS", "FUSED", "ONNXRUNTIME", "Costs", "filled", "whole"]

BLOCK = 16
"""Channels of a block."""
FUSED = ("Relu", "LeakyRelu")
"""Activations that the engine does within a convolution."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What work takes in onnxruntime on one core, in microseconds where a name ends in ``_us``.

    `benchmarks/engine_tables.py` measures it again; the values here are of one with AVX-512, found when their passes were
    written.
    """

    # multiply-adds of a dense convolution, of a depthwise one along time, of a dense one of one block of outputs, those of
    # zero that fill it counted, and of the products of a transposed one
    macs_per_us: int = 50_000
    depthwise_macs_per_us: int = 22_000
    narrow_macs_per_us: int = 30_000
    turned_macs_per_us: int = 30_000
    unfolded_us: float = 0.0002  # one number that a convolution outside the blocked layout copies
    added_us: float = 0.0004  # one that a transposed convolution adds up
    unpacked_us: float = 0.0003  # one weight of a stack of matrices, which is laid out at every call
    node_us: float = 1.3  # a small node
    window_us: float = 9.0  # splitting a window of 129 x 200 by channels and putting it in blocks
    depthwise_us: float = 0.0002  # one sample through a short depthwise step
    placed_us: float = 0.00007  # one sample written by a convolution that puts views in their place
    gathered_row_us: float = 0.006  # one row of a Gather
    apart_us: float = 0.0006  # one element taken apart into phases by a Reshape and a Transpose
    in_turn_us: float = 0.0003  # one put in turn again
    output_in_turn_us: float = 0.002  # one output, all its channels, put in turn from phases that were computed apart
    pooled_us: float = 0.0004  # one element pooled
    block_pooled_us: float = 0.0001  # one pooled in whole blocks of channels
    corrected_us: float = 30.0  # correcting the edges of a filter that views share, in any case
    view_corrected_us: float = 12.0  # the same for every view
    # what a node may read and write for the next to find it in the cache: at once was faster up to 705,000 (Deep4Net),
    # slower from 1,160,000 on (LMDA-Net)
    cached_numbers: int = 900_000
    spilled_us: float = 0.0005  # one number that is not found there
    piece_samples: int = 8  # what taking a piece of a signal costs, in samples turned
    # elements from which Elu is faster by Exp, a pool on channels filled up to whole blocks, and a pool on planes
    exp_from: int = 900
    filled_pool_from: int = 20_000
    plane_pool_from: int = 4_000

    @property
    def blocked_us(self) -> float:
        """One number of the window that is put in blocks: `window_us` is of 129 x 200."""
        return self.window_us / (129 * 200)


COSTS = Costs()
ONNXRUNTIME = Engine(name="onnxruntime", costs=COSTS)


def whole(channels: int) -> int:
    """Return how many channels the engine computes for so many."""
    return -(-channels // BLOCK) * BLOCK


def filled(weight: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a convolution's kernel (outputs, channels, ...) and bias with outputs of zero up to whole blocks."""
    fill = whole(len(weight)) - len(weight)
    more = ((0, fill), *((0, 0),) * (weight.ndim - 1))
    return np.pad(weight, more), None if bias is None else np.pad(bias, (0, fill))
