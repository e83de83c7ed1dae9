r"""Fourier transforms of known length as matrix products and strided convolutions.

A DFT of N samples is a product with the (N, M) matrix :math:`e^{-2\pi i n m / N}`, cosine and sine as two real columns. A
short-time transform with a constant window is a convolution whose kernels are the windowed cosines and sines and whose
stride is the hop. onnxruntime evaluates both operators sample by sample (9 to 14 times slower than the network in torch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.ir.nodes import inner_dims
from rtserve.fusion.ir.passes import PassResult, Refused, each
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede
from rtserve.graphs.openvino_forms import dft_matrix

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "run"]

NAME = "fourier"
LARGEST = 4_000_000
"""Entries a transform's matrix may have."""


def run(model: ir.Model) -> PassResult:
    """Rewrite every DFT and STFT of known size, in place."""
    return each(model, _rewrite, "{} transforms as products")


def _rewrite(model: ir.Model, node: ir.Node) -> int:
    if node.op_type not in ("DFT", "STFT"):
        return 0
    emit = Emitter(model.graph, before=node, prefix="fourier")
    supersede(model, node.outputs[0], _dft(emit, node) if node.op_type == "DFT" else _stft(emit, node))
    return 1


def _dft(emit: Emitter, node: ir.Node) -> ir.Value:
    dims, out = inner_dims(node.inputs[0]), inner_dims(node.outputs[0])
    if dims is None or out is None:
        raise Refused("its shape is not known")
    axis_value = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    rank = len(dims) + 1
    axis = int(np.asarray(axis_value).reshape(())) % rank if axis_value is not None else rank - 2
    if axis != rank - 2:
        raise Refused(f"it transforms axis {axis} of {rank}")
    length_value = constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    n, parts = dims[-2], dims[-1]
    length = int(np.asarray(length_value).reshape(())) if length_value is not None else n
    inverse = bool(node.attributes.get_int("inverse", 0))
    onesided = bool(node.attributes.get_int("onesided", 0))
    bins = out[-2]
    if n * parts * bins * 2 > LARGEST:
        raise Refused(f"{n} x {bins} is too large for a matrix")
    flat = emit("Reshape", node.inputs[0], [-1, *dims[:-2], n * parts])
    y = emit("MatMul", flat, dft_matrix(n, length, bins, parts, inverse=inverse, onesided=onesided).astype(np.float32))
    return emit("Reshape", y, [-1, *out])


def _stft(emit: Emitter, node: ir.Node) -> ir.Value:
    dims, out = inner_dims(node.inputs[0]), inner_dims(node.outputs[0])
    hop = constant(node.inputs[1])
    window = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    frame = constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    if dims is None or out is None or hop is None:
        raise Refused("its shape or hop is not known")
    if len(dims) == 2 and dims[1] != 1:
        raise Refused("a complex signal")
    length = int(np.asarray(frame).reshape(())) if frame is not None else (len(window) if window is not None else 0)
    if not length:
        raise Refused("neither window nor frame length is constant")
    bins = out[1]
    basis = dft_matrix(length, length, bins, 1, inverse=False).reshape(length, bins, 2)
    if window is not None:
        basis = basis * window.astype(np.float64)[:, None, None]
    kernels = basis.transpose(2, 1, 0).reshape(2 * bins, 1, length).astype(np.float32)
    signal = emit("Reshape", node.inputs[0], [-1, 1, dims[0]])
    y = emit("Conv", signal, kernels, strides=[int(np.asarray(hop).reshape(()))])
    return emit("Transpose", emit("Reshape", y, [-1, 2, bins, out[0]]), perm=[0, 3, 2, 1])
