"""The torch executor that travels in a zip, on a CPU: the graph as it was put together, but for the views.

It has no blocked layout, fused activations are one call, and a node costs more than what most layouts saved: onnxruntime's
passes on the whole made it slower (0.75 to 0.98 of the time without them, at batch 1). Its convolutions leave channels
innermost: a sample is a row there, and rows are gathered as fast as memory is copied, where pieces along time put together
leave time innermost, which the next layer turns.
"""

from rtserve.fusion.engines.engine import Engine

__all__ = ["COPIED_US", "MACS_PER_US", "NODE_US", "SEAMS_US", "TORCH"]

TORCH = Engine(name="torch")
MACS_PER_US, NODE_US, COPIED_US, SEAMS_US = 60_000, 2.0, 0.00018, 65.0
"""Multiply-adds of a convolution of the window in a microsecond; microseconds of a small node, of a number copied, and of
what gathers seam windows by themselves. `benchmarks/engine_tables.py` measures them again; the values here are of one core
with AVX-512, found when the pass was written."""
