"""Running a graph in OpenVINO, which `rtserve.graphs.runners` does where it is asked for that engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import ExportError, RtserveError

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph

__all__ = ["OpenvinoRunner"]


class OpenvinoRunner:
    """OpenVINO on the CPU in float32 (the optional extra ``rtserve[openvino]``)."""

    name = "openvino"

    def __init__(self, graph: Graph, *, threads: int = 1) -> None:
        from rtserve.graphs.openvino_core import openvino_core
        from rtserve.graphs.openvino_forms import lower

        self._graph, core = graph, openvino_core()
        options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # pinned, it waits where others may move
        }
        try:
            model = core.read_model(_lowered(graph, lower))
            self._request: Any = core.compile_model(model, "CPU", options).create_infer_request()
        except RtserveError:
            raise
        except Exception as error:
            raise ExportError(
                f"OpenVINO cannot load the graph: {_first_reason(error)}",
                hint="lay the graph out for onnxruntime (--engine onnxruntime)",
            ) from None

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Return (batch, n_outputs) float32."""
        try:
            result: np.ndarray = self._request.infer({0: x}, share_inputs=True)[0].copy()
        except Exception as error:
            raise RtserveError(
                f"OpenVINO cannot run the graph on {x.shape}: {_first_reason(error)}",
                hint=self._graph.hint_for(x.shape),
            ) from None
        return result


def _lowered(graph: Graph, lower: Callable[[ir.Model], tuple[ir.Model, int]]) -> bytes:
    """Return the bytes of a graph in the forms that an engine computes as ONNX means them."""
    import onnx_ir as ir

    model, changed = lower(graph.clone_model())
    return bytes(ir.serde.serialize_model(model).SerializeToString()) if changed else graph.to_bytes()


def _first_reason(error: Exception) -> str:
    """Return the line of an OpenVINO error that says what is wrong: its summary, or the first that is no place."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check 'false' failed"))]
    failed = [line.removeprefix("-- ") for line in lines if line.startswith("-- Conversion is failed for")]
    why = [line for line in said if failed and line.startswith(("Requested", "Shape inference input"))][-1:]
    return " ".join((f"{failed[0]} ({why[0]})" if why else (failed or said or lines or [""])[0]).split())[:300]
