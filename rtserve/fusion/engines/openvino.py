"""OpenVINO: its convolutions take channels innermost, and it computes some operators only in forms of its own.

It turns a signal to channels innermost before the first convolution, and back wherever the rank changes.
"""

from rtserve.fusion.engines.engine import Engine

__all__ = ["OPENVINO", "PLANE_CHANNELS", "PLANE_OUTPUTS"]

OPENVINO = Engine(name="openvino")
PLANE_CHANNELS, PLANE_OUTPUTS = 96, 40
"""Channels from which, and outputs up to which, a convolution of several samples of the window is faster on it as one plane.

`benchmarks/engine_tables.py` measures them again; the values here are of one core with AVX-512, windows of 200 to 500
samples, 3 to 25 taps: .83 to 1.0 of the time with 96 channels or more and up to 40 outputs; 1.0 to 1.3 with 4 to 32
channels, up to 1.2 from 64 outputs on.
"""
