"""The engines that a fused graph is laid out for: one file each, with what work costs there."""

from rtserve.fusion.engines.cuda import CUDA
from rtserve.fusion.engines.engine import Engine
from rtserve.fusion.engines.native import NATIVE
from rtserve.fusion.engines.onnxruntime import ONNXRUNTIME, Costs
from rtserve.fusion.engines.openvino import OPENVINO
from rtserve.fusion.engines.torch import TORCH

__all__ = ["ENGINES", "Costs", "Engine"]

ENGINES = {engine.name: engine for engine in (ONNXRUNTIME, OPENVINO, TORCH, NATIVE, CUDA)}
