"""The files of one challenge in a zip: the graph, its plan and tensors, a TorchScript archive or code where asked for."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import BundleError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from rtserve.graphs.graph import Graph

__all__ = ["Artefact", "make_artefact", "plan_bytes", "tensor_bytes"]

SCRIPT_TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """One challenge, ready to travel.

    Parameters
    ----------
    key, name : str
        The challenge's key and the stem of its files.
    graph : Graph
        What was fused.
    runtime : str
        How the recipe wants it run.
    operators : frozenset of str
        Operators of the plan.
    files : dict of str to bytes
        By name in the zip.
    """

    key: str
    name: str
    graph: Graph
    runtime: str
    operators: frozenset[str]
    files: dict[str, bytes]

    @property
    def routes(self) -> tuple[str, ...]:
        """Ways to run it that travel: torch always, another where the recipe asks for it."""
        extra = {"auto": "onnxruntime", "torch": ""}.get(self.runtime, self.runtime)
        return ("torch", extra) if extra else ("torch",)


def make_artefact(
    key: str, graph: Graph, runtime: str, precision: str = "float32", windows: np.ndarray | None = None
) -> Artefact:
    """Turn a graph into its files.

    Parameters
    ----------
    key, graph, runtime
        As in `Artefact`.
    precision : str
        What its plan computes in on a CUDA device.
    windows : ndarray, (windows, n_chans, n_times), optional
        The reference windows, which compiled code is tried on; the graph's own by default.

    Raises
    ------
    ExportError
        Where the executor lacks an operator of the graph; it is named.
    BundleError
        Where TorchScript cannot trace it.
    EnvironmentMissingError
        Where code is asked for and there is no compiler.
    """
    from rtserve.graphs.answers import answer_windows
    from rtserve.graphs.plan import graph_to_plan
    from rtserve.submission.compiled import compiled_files

    name = f"challenge_{key}"
    plan, tensors = graph_to_plan(graph)
    plan = stating(plan, precision)
    files = {
        f"{name}.onnx": graph.to_bytes(),
        f"{name}.json": plan_bytes(plan),
        f"{name}.pt": tensor_bytes(tensors),
    }
    if runtime == "torchscript":
        files[f"{name}.ts"] = script_bytes(files[f"{name}.json"], files[f"{name}.pt"], graph)
    if runtime == "native":
        files |= compiled_files(name, graph, answer_windows(graph.input_spec) if windows is None else windows)
    operators = frozenset(node["op"] for node in plan["nodes"])
    return Artefact(key=key, name=name, graph=graph, runtime=runtime, operators=operators, files=files)


def stating(plan: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """Return a plan that says what it computes in on a CUDA device; one that says nothing computes in float32."""
    return {**plan} if precision == "float32" else {**plan, "precision": precision}


def plan_bytes(plan: Mapping[str, Any]) -> bytes:
    """Return a plan as JSON, one node a line, so that a person can read it and a diff shows what changed."""
    nodes = ",\n  ".join(json.dumps(node, sort_keys=True) for node in plan["nodes"])
    rest = {key: value for key, value in plan.items() if key != "nodes"}
    head = json.dumps(rest, sort_keys=True)[:-1]
    return f'{head}, "nodes": [\n  {nodes}\n]}}\n'.encode()


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as `torch.save` writes them, through memory: a file's own name would be in the bytes."""
    import torch

    buffer = io.BytesIO()
    torch.save({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}, buffer)
    return buffer.getvalue()


def script_bytes(plan: bytes, tensors: bytes, graph: Graph) -> bytes:
    """Return a plan as a frozen TorchScript archive, made in a fresh process: names in it count up within one.

    Raises
    ------
    BundleError
        Where it cannot be traced.
    """
    with tempfile.TemporaryDirectory(prefix="rtserve-script-") as name:
        folder = Path(name)
        (folder / "plan.json").write_bytes(plan)
        (folder / "plan.pt").write_bytes(tensors)
        spec = graph.input_spec
        command = [sys.executable, "-m", "rtserve.submission.torchscript", name, str(spec.n_chans), str(spec.n_times)]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SCRIPT_TIMEOUT_S, check=False
        )
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
            raise BundleError(
                f"TorchScript cannot trace the plan: {last[0][:300]}", hint='choose runtime = "torch" or "onnxruntime"'
            )
        return (folder / "plan.ts").read_bytes()
