"""Native code: the graph as it was put together, which `rtserve.native` writes in C.

Channels lie side by side and views are steps over one buffer there, so no layout is worth a node.
"""

from rtserve.fusion.engines.engine import Engine

__all__ = ["NATIVE"]

NATIVE = Engine(name="native")
