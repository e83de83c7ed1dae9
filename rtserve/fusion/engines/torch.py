"""The torch executor that travels in a zip: the graph as it was put together.

It has no blocked layout, fused activations are one call, and a node costs more than what any layout saved: every pass on
the whole made it slower (0.75 to 0.98 of the time without them, at batch 1).
"""

from rtserve.fusion.engines.engine import Engine

__all__ = ["TORCH"]

TORCH = Engine(name="torch")
