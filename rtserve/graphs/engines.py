"""The engines' names: what every command takes, what a person reads, and what they were called before."""

from __future__ import annotations

__all__ = ["ENGINES", "ENGINE_NAMES", "LAYOUTS", "engine_called", "layout_hint", "only_measured"]

ENGINE_NAMES = {
    "onnxruntime": "onnxruntime",
    "torch": "the torch executor",
    "openvino": "OpenVINO",
    "native": "native code",
    "cuda": "the torch executor on a CUDA device",
    "reference": "onnx's own evaluator",
}
"""Engines by the name that a command takes, and what a person reads."""
ENGINES = tuple(ENGINE_NAMES)
LAYOUTS = ("onnxruntime", "openvino", "torch", "native", "cuda")
"""Those that a fused graph is laid out for."""
FORMER = {"torch_plan": "torch"}
"""Names that version 0.1 wrote into its results and took on the command line."""


def engine_called(name: str) -> str:
    """Return today's name of an engine."""
    return FORMER.get(name, name)


def only_measured(name: str) -> bool:
    """Whether `rtserve bench` takes a name, and graphs are not laid out for it."""
    return name in (*ENGINES, "auto", "all") and name not in LAYOUTS


def layout_hint(name: str) -> str:
    """Return what graphs are laid out for, and what to do with a name that is no layout."""
    said = f"graphs are laid out for {' or '.join(LAYOUTS)}"
    if only_measured(name):
        said += f"; {name} is for measuring, which any graph can be: rtserve bench GRAPH --engine {name}"
    return said
