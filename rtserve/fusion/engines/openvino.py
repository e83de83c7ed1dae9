"""OpenVINO: it plans the order of its own convolutions, and computes some operators only in forms of its own."""

from rtserve.fusion.engines.engine import Engine

__all__ = ["OPENVINO"]

OPENVINO = Engine(name="openvino", reorders=False)
