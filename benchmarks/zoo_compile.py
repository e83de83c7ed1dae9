"""A stage of the native zoo: fuse the plain graph for native code, compile it, and compare it with the graph in float64.

Runs in a process of its own: ``python benchmarks/zoo_compile.py JOB.json RESULT.json``. Leaves ours-native.onnx in the
folder.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from zoo_prepare import run_stage

from rtserve.errors import ExportError, RtserveError
from rtserve.files import write_bytes
from rtserve.fusion.fuse import fuse
from rtserve.graphs.graph import Graph
from rtserve.graphs.native import compile_graph, generate_graph
from rtserve.native.compiler import best_level

OURS_NATIVE = "ours-native.onnx"


def compiled(job: dict[str, Any]) -> dict[str, Any]:
    """Return whether a network compiles, why not, and how far its numbers are from the graph's."""
    folder = Path(job["folder"])
    graph = fuse([Graph.load(folder / "plain.onnx")], engine="native", parity=False)
    write_bytes(folder / OURS_NATIVE, graph.to_bytes(), force=True)
    part: dict[str, Any] = {"graph": graph.digest, "compiles": False}
    try:
        generated = generate_graph(graph)
        part |= {"macs": generated.macs, "source_bytes": len(generated.source)}
        if not job["compare"]:
            return part | {"compiles": True}
        start = time.perf_counter()
        found = compile_graph(graph, levels=[best_level()])
        part |= {"max_err": found.parity.max_error, "compile_s": round(time.perf_counter() - start, 1)}
        return part | {"compiles": True}
    except ExportError as error:
        return part | {"why": error.message.removeprefix("native code has no ")}
    except RtserveError as error:
        return part | {"why": " ".join(error.message.split())[:300]}


if __name__ == "__main__":
    run_stage(compiled)
