"""What a checkpoint or a graph holds, as JSON values, without running anything in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rtserve.files import sha256_file

__all__ = ["describe_checkpoint", "describe_graph"]

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "input_scale")
"""What BatchNorm, and a network of ours for volts, stores besides its parameters."""


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's tensors, counts and riders.

    Raises
    ------
    CheckpointError
        As `rtserve.graphs.checkpoint.load_checkpoint`.
    """
    from rtserve.graphs.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path, first=True)
    state = checkpoint.state_dict
    return {
        "kind": "checkpoint",
        "sha256": checkpoint.sha256,
        "state_dict_at": checkpoint.found_at or "the file itself",
        "weights": list(checkpoint.sets) if len(checkpoint.sets) > 1 else [],
        "parameters": sum(t.numel() for key, t in state.items() if key.rpartition(".")[2] not in _BUFFERS),
        "values": checkpoint.n_values,
        "tensors": [
            {"key": key, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
            for key, tensor in state.items()
        ],
        "riders": checkpoint.riders,
    }


def describe_graph(path: Path) -> dict[str, Any]:
    """Return a graph's specs, size, operators and ancestry.

    Raises
    ------
    InputError
        As `rtserve.graphs.graph.Graph.load`.
    """
    from rtserve.graphs.graph import Graph
    from rtserve.graphs.macs import work_of

    graph = Graph.load(path)
    model, work = graph.model, work_of(graph.model)
    operators = Counter(node.op_type for node in model.graph.all_nodes())
    batch = model.graph.inputs[0].shape
    return {
        "kind": "graph",
        "sha256": sha256_file(path),
        "digest": graph.digest,
        "input": str(graph.input_spec),
        "output": str(graph.output_spec),
        "batch": str(batch[0]) if batch is not None else "not known",
        "channels": list(graph.input_spec.ch_names),
        "opset": model.opset_imports.get("", 0),
        "ir_version": model.ir_version,
        "parameters": graph.n_parameters,
        "multiply_adds": None if work.unknown else work.macs,
        "nodes": model.graph.num_nodes(),
        "operators": dict(sorted(operators.items())),
        "provenance": {"kind": graph.provenance.kind, **graph.provenance.details},
    }
