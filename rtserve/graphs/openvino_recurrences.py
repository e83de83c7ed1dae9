"""A copy of its input for every recurrence, because OpenVINO lets two of them spoil one.

Found with OpenVINO 2026.4: where two GRU, LSTM or RNN nodes read one signal (or two that are computed alike, which it
merges) of a batch of unknown size, all but the last are wrong from batch 2 on, by as much as their answers: it turns
the signal in place for one while another still reads it. Members of a fusion, and the two directions of a network,
are such nodes. The signal is repeated and each node reads its own part, which no step of OpenVINO's merges again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rtserve.graphs.emit import Emitter

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["RECURRENT", "part_inputs"]

RECURRENT = ("GRU", "LSTM", "RNN")


def part_inputs(model: ir.Model) -> int:
    """Give recurrences that read one signal a part of a repeated one each, in place; return how many were given one."""
    readers: dict[bytes, list[ir.Node]] = {}
    known: dict[ir.Value, bytes] = {}
    for node in model.graph:
        for value in node.outputs:
            known[value] = _content(value, known)
        if node.op_type in RECURRENT and node.inputs[0] is not None:
            readers.setdefault(_content(node.inputs[0], known), []).append(node)
    groups = [nodes for nodes in readers.values() if len(nodes) > 1]
    for nodes in groups:
        signal = nodes[0].inputs[0]
        emit = Emitter(model.graph, before=nodes[0], prefix="openvino")
        parts = emit.many("Split", emit("Concat", *[signal] * len(nodes), axis=0), n=len(nodes), axis=0,
                          num_outputs=len(nodes))  # fmt: skip
        for node, part in zip(nodes, parts, strict=True):
            assert signal is not None
            part.shape, part.type = signal.shape, signal.type
            node.replace_input_with(0, part)
    return sum(map(len, groups))


def _content(value: ir.Value, known: dict[ir.Value, bytes]) -> bytes:
    """Return a digest that two values share where they are computed alike from the same: by content, not by name."""
    if value in known:
        return known[value]
    node, digest = value.producer(), hashlib.sha256()
    if value.const_value is not None:
        array = value.const_value.numpy()
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    elif node is None:
        digest.update(f"input {value.name}".encode())
    else:
        attributes = sorted((key, str(attribute.value)) for key, attribute in node.attributes.items())
        digest.update(f"{node.domain} {node.op_type} {list(node.outputs).index(value)} {attributes}".encode())
        for source in node.inputs:
            digest.update(b"none" if source is None else _content(source, known))
    known[value] = digest.digest()
    return known[value]
