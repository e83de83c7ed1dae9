"""What an engine is to the compiler: a name, whether it wants the linear prefix in another order, and what work costs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Costs", "Engine"]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What work takes on one core, as measured; microseconds where a name ends in ``_us``.

    Parameters
    ----------
    macs_per_us, depthwise_macs_per_us : int
        Multiply-adds of a dense convolution, and of a depthwise one along time.
    narrow_macs_per_us : int
        The same of a dense convolution of one block of outputs, those of zero that fill it counted.
    turned_macs_per_us : int
        The same of the products of a transposed convolution.
    unfolded_us, added_us : float
        One number that a convolution outside the blocked layout copies, and one that a transposed one adds up.
    unpacked_us : float
        One weight of a stack of matrices, which is laid out at every call.
    node_us : float
        A small node.
    window_us : float
        Splitting a window of 129 x 200 by channels and putting it in blocks.
    depthwise_us : float
        One sample through a short depthwise step.
    placed_us : float
        One sample written by a convolution that puts views in their place.
    gathered_row_us : float
        One row of a Gather.
    apart_us, in_turn_us : float
        One element taken apart into phases by a Reshape and a Transpose, and one put in turn again.
    output_in_turn_us : float
        One output, all its channels, put in turn from phases that were computed apart.
    pooled_us, block_pooled_us : float
        One element pooled, and one in whole blocks of channels.
    corrected_us, view_corrected_us : float
        Correcting the edges of a filter that views share: in any case, and for every view.
    cached_numbers : int
        What a node may read and write for the next to find it in the cache.
    spilled_us : float
        One number that is not found there.
    piece_samples : int
        What taking a piece of a signal costs, in samples turned.
    exp_from, filled_pool_from, plane_pool_from : int
        Elements from which Elu is faster by Exp, a pool faster on channels filled up to whole blocks, and one faster on
        planes.
    """

    macs_per_us: int
    depthwise_macs_per_us: int
    narrow_macs_per_us: int
    turned_macs_per_us: int
    unfolded_us: float
    added_us: float
    unpacked_us: float
    node_us: float
    window_us: float
    depthwise_us: float
    placed_us: float
    gathered_row_us: float
    apart_us: float
    in_turn_us: float
    output_in_turn_us: float
    pooled_us: float
    block_pooled_us: float
    corrected_us: float
    view_corrected_us: float
    cached_numbers: int
    spilled_us: float
    piece_samples: int
    exp_from: int
    filled_pool_from: int
    plane_pool_from: int


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that a fused graph is laid out for.

    Parameters
    ----------
    name : str
        One of `rtserve.graphs.engines.ENGINES`.
    reorders : bool
        Whether the linear prefix of a network is put in another order where no view shares it.
    costs : Costs or None
        As measured; None where they were not, and onnxruntime's are taken.
    """

    name: str
    reorders: bool = True
    costs: Costs | None = None
