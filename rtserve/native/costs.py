"""The native engine's table: what its choices are estimated by. Measured, and nowhere else in the engine."""

from __future__ import annotations

__all__ = ["BYTES_PER_NS", "CACHE_BYTES", "FAR", "LANES", "MACS_PER_NS", "NEAR", "NUMBERS_PER_NS", "SPILLED"]

LANES = 16
"""Numbers of a vector."""
NUMBERS_PER_NS, MACS_PER_NS = 4.0, 100.0
"""On a core with vectors of sixteen: numbers that are moved, and multiply-adds (89 on an Emerald Rapids, 120 on a Zen 5)."""
SPILLED = 1.6
"""How much longer than in a product a vector operation takes in a transform to waves, whose numbers are more than registers:
0.25 ns on an Emerald Rapids at 48 samples."""
CACHE_BYTES = 1 << 20
"""Weights of a graph that stay in a core's own cache from one window to the next; Zen 4 has 1 MiB, Emerald Rapids 2."""
BYTES_PER_NS = 25.0
"""What one core reads from beyond its own cache: 22 to 26 on an Emerald Rapids, 127 from within."""
FAR, NEAR = 1 << 15, 1 << 13
"""Weights that are fetched ahead, in numbers: a panel of up to the first, of a larger one the second. One row through
8 MB of weights takes 535 us on an Emerald Rapids with a panel of 1 MB ahead, 392 with nothing, 325 to 360 with 8 to 128 kB.
"""
