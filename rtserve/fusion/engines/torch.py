"""The torch executor that travels in a zip: it has no blocked layout, so that what serves one is left out."""

from rtserve.fusion.engines.engine import Engine

__all__ = ["TORCH"]

TORCH = Engine(name="torch")
