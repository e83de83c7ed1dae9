"""Writing into a graph what it does not say: unit, rate, target, classes, and the sizes that its maker left open.

A graph made elsewhere may have the batch of its example frozen into it, or no size at all. With the sizes that the
user gives, the batch is opened; the result must answer as the original does, at its own batch and at others, row by
row, or nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import check_writable, readable_file
from rtserve.graphs.graph import Graph, read_proto
from rtserve.graphs.meaning import stated_specs
from rtserve.graphs.parity import TOLERANCE, relative_error
from rtserve.graphs.sessions import quiet_session

if TYPE_CHECKING:
    import onnx

__all__ = ["annotate_graph"]


def annotate_graph(
    path: str | Path,
    stated: Mapping[str, Any],
    *,
    n_chans: int = 0,
    n_times: int = 0,
    output: str | Path | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write into a graph what the user states; in place where no output is named.

    Parameters
    ----------
    path : path
        The .onnx file.
    stated : mapping
        ``unit``, ``sfreq``, ``target``, ``classes``, ``form``, as `rtserve.graphs.meaning.stated_specs` takes them.
    n_chans, n_times : int
        Sizes of a window where the graph leaves them open; 0 for not given.
    output : path, optional
        Where to write.
    force : bool
        Also change what the graph says already; replace an existing output.

    Raises
    ------
    SpecMismatchError
        Where the graph says something else.
    InputError
        Where it is no graph, or its batch cannot be opened without changing its answers.
    """
    path = readable_file(path, "graph")
    target = Path(output) if output is not None else path
    check_writable(target, force=force or output is None)
    try:
        proto = read_proto(path.read_bytes(), path.parent)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path} is not an ONNX model ({reason})", hint="name an .onnx file") from None
    opened, changes = _opened(proto, n_chans, n_times, path.name)
    graph = Graph.from_bytes(opened.SerializeToString(), name=str(path))
    inputs, outputs = stated_specs(graph.input_spec, graph.output_spec, stated, name=path.name, force=force)
    made = replace(graph, input_spec=inputs, output_spec=outputs)
    made.save(target, force=True)
    return {
        "path": str(target), "sha256": made.digest, "input": str(inputs), "output": str(outputs), "changes": changes,
    }  # fmt: skip


def _sizes(value: onnx.ValueInfoProto) -> list[int]:
    """Return the sizes of a value; 0 where one is not fixed."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _opened(proto: onnx.ModelProto, n_chans: int, n_times: int, name: str) -> tuple[onnx.ModelProto, list[str]]:
    """Return the model with a free batch and the given sizes, proven to answer as the original, and what changed."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(_sizes(inputs[0])) != 3:
        raise InputError(f"{name} has no single input (batch, n_chans, n_times)", hint="rtserve takes such graphs")
    batch, chans, times = _sizes(inputs[0])
    for said, given, option in ((chans, n_chans, "n-chans"), (times, n_times, "n-times")):
        if not (said or given):
            raise InputError(f"{name} leaves the sizes of its windows open", hint=f"give --{option} N")
        if said and given and said != given:
            raise InputError(f"{name} takes {said}, not --{option} {given}", hint=f"leave --{option} out")
    chans, times = chans or n_chans, times or n_times
    if batch == 0 and _sizes(inputs[0])[1:] == [chans, times] and _sizes(proto.graph.output[0])[1:2] not in ([], [0]):
        return proto, []
    made = _rewritten(proto, batch, (chans, times))
    _require_same(proto, made, batch, (chans, times), name)
    was = "x".join(str(size or "?") for size in _sizes(inputs[0]))
    return made, [f"input {was} is now batch x {chans} x {times}"]


def _rewritten(proto: onnx.ModelProto, batch: int, window: tuple[int, int]) -> onnx.ModelProto:
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    constants = {tensor.name: tensor for tensor in made.graph.initializer}
    value = next(v for v in made.graph.input if v.name not in constants)
    dims = value.type.tensor_type.shape.dim
    for dim, size in zip(dims, ("batch", *window), strict=True):
        dim.Clear()
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size
    del made.graph.value_info[:]
    _open_reshapes(made, batch)
    n_outputs = _run(made, np.zeros((2, *window), np.float32)).reshape(2, -1).shape[1]
    shape = made.graph.output[0].type.tensor_type.shape
    del shape.dim[:]
    shape.dim.add().dim_param = "batch"
    shape.dim.add().dim_value = n_outputs
    return made


def _open_reshapes(made: onnx.ModelProto, batch: int) -> None:
    """Let Reshape take the batch from its input where the frozen one was written down."""
    import onnx

    if not batch:
        return
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    for node in made.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    for node in [node for node in made.graph.node if node.op_type == "Reshape" and node.input[1] in tensors]:
        shape = onnx.numpy_helper.to_array(tensors[node.input[1]]).copy()
        if shape.size and shape[0] == batch and not any(a.name == "allowzero" and a.i for a in node.attribute):
            shape[0] = 0 if (shape == -1).any() else -1
            fresh = f"{node.input[1]}.{node.output[0]}.open"
            made.graph.initializer.append(onnx.numpy_helper.from_array(shape, fresh))
            node.input[1] = fresh


def _run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = quiet_session(proto.SerializeToString())
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def _require_same(
    proto: onnx.ModelProto, made: onnx.ModelProto, batch: int, window: tuple[int, int], name: str
) -> None:
    """Raise `InputError` where the opened graph answers otherwise than the original, at any batch."""
    size = batch or 3
    x = np.random.default_rng(0).standard_normal((2 * size + 1, *window)).astype(np.float32)
    try:
        truth = np.concatenate([_run(proto, x[:size]), _run(proto, x[size : 2 * size])]).reshape(2 * size, -1)
        for count in (1, size, 2 * size):
            got = _run(made, x[:count]).reshape(count, -1)
            if relative_error(got, truth[:count].astype(np.float64)) > TOLERANCE:
                raise InputError(
                    f"{name} answers otherwise for {count} windows at once than for {size}: its batch is part of what"
                    " it computes",
                    hint="export it again with a symbolic batch",
                )
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[-160:]
        raise InputError(
            f"{name} does not run at another batch than {size}: {reason}", hint="export it again with a symbolic batch"
        ) from None
