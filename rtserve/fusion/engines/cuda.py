"""The torch executor on a CUDA device: the graph as it was put together, but for the views.

A kernel takes microseconds to start there however little it does, so that views are not put together out of pieces: one
Gather takes all windows that they read (`rtserve.fusion.lower.cuda`). Members as groups of one convolution are products
of one batch, which the executor makes of them.
"""

from rtserve.fusion.engines.engine import Engine

__all__ = ["CONVOLVED", "CUDA", "JOINED", "PACKED", "SCALED", "SEAMS"]

CUDA = Engine(name="cuda")
CONVOLVED, PACKED, SEAMS, SCALED, JOINED = 3, 2, 6, 2, 1
"""Kernels that a convolution of the window launches (zeros around it, its windows unfolded, the product), samples that are
gathered for it, seam windows that are gathered and multiplied by themselves, a factor and what it is short of, and putting
pieces together. They are counted; `benchmarks/engine_tables.py` times none of them."""
