"""A graph in the forms that OpenVINO computes as ONNX means them.

Found by running every form in both (OpenVINO 2026.4 against onnxruntime and onnx's evaluator): pooling in ceil mode
reads past the padded signal (MaxPool gives -inf or a window too many, AveragePool another divisor), Pad has no wrap
mode, ConvTranspose takes neither ``output_shape`` with SAME_LOWER nor ``auto_pad``, DFT ignores its axis, STFT needs
both window and frame length; two recurrences on one signal spoil it for each other (`openvino_recurrences`); Softplus
and Erf are coarse (`openvino_functions`). Each has an exact equivalent that OpenVINO runs. Antialiased Resize, Resize
with half_pixel_symmetric, LSTM with peepholes and the places that TopK gives (of equal entries, not the first) give
other numbers and have none: they are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import ExportError
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, supersede
from rtserve.graphs.functions import written_out
from rtserve.graphs.macs import infer_shapes
from rtserve.graphs.openvino_functions import erf, softplus
from rtserve.graphs.openvino_recurrences import RECURRENT, part_inputs
from rtserve.graphs.transforms import UnknownSizeError, product_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["lower", "rewrite"]


def lower(model: ir.Model) -> tuple[ir.Model, int]:
    """Return the model in forms that OpenVINO runs as ONNX means them, and how many places were rewritten.

    Raises
    ------
    ExportError
        Where a node has a form that OpenVINO gets wrong and that has no equivalent; the node is named.
    """
    functions = len(model.functions)
    model = written_out(model, ours=True)
    if not any(node.op_type in REWRITES or node.op_type in RECURRENT for node in model.graph):
        return model, functions
    model = infer_shapes(model)
    changed = functions + rewrite(model)
    return (infer_shapes(model) if changed else model), changed


def rewrite(model: ir.Model) -> int:
    """Rewrite a model whose shapes are inferred, in place, and return how many places; raises as `lower`."""
    changed = 0
    for node in list(model.graph):
        if node.op_type not in REWRITES:
            continue
        new = REWRITES[node.op_type](Emitter(model.graph, before=node, prefix="openvino"), node)
        if new is not None:
            supersede(model, node.outputs[0], new)
            changed += 1
    return changed + part_inputs(model)


def _refuse(node: ir.Node, form: str) -> ExportError:
    return ExportError(
        f"OpenVINO does not compute {node.op_type} {node.name or node.outputs[0].name} {form} as ONNX means it",
        hint="lay the graph out for onnxruntime (--engine onnxruntime), which does",
    )


def _sizes(node: ir.Node, first: int = 2) -> list[int] | None:
    """Return the input's sizes from axis `first` on, or None where one is not known."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return None
    sizes = [dim for dim in list(shape)[first:] if isinstance(dim, int)]
    return sizes if len(sizes) == len(shape) - first else None


def _ints(node: ir.Node, name: str, default: Sequence[int]) -> list[int]:
    return [int(value) for value in (node.attributes.get_ints(name) or default)]


def _pool(emit: Emitter, node: ir.Node) -> ir.Value | None:
    """Write ceil mode as floor mode: the last window, where it is one more, is reached by padding at the end.

    A window that starts in the padding at the end is none (ONNX, since opset 19). Where padding counts in a mean, it
    is written out, so that only what ceil mode reaches beyond it does not.
    """
    if not node.attributes.get_int("ceil_mode", 0):
        return None
    sizes = _sizes(node)
    automatic = node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if sizes is None or automatic or len(node.outputs) > 1:
        raise _refuse(node, "in ceil mode on sizes that are not known, with auto_pad or indices")
    n = len(sizes)
    kernel, strides = _ints(node, "kernel_shape", ()), _ints(node, "strides", [1] * n)
    dilations, pads = _ints(node, "dilations", [1] * n), _ints(node, "pads", [0] * 2 * n)
    extra = [_reach(sizes[i], (kernel[i] - 1) * dilations[i] + 1, strides[i], pads[i], pads[i + n]) for i in range(n)]
    x = node.inputs[0]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    if node.op_type == "MaxPool":
        return emit(
            "MaxPool", x, pads=[*pads[:n], *(p + e for p, e in zip(pads[n:], extra, strict=True))], **attributes
        )
    counted = node.attributes.get_int("count_include_pad", 0)
    if counted and any(extra):
        if any(pads):
            x = emit("Pad", x, [0, 0, *pads[:n], 0, 0, *pads[n:]], np.float32(0.0), mode="constant")
        pads, counted = [0] * 2 * n, 0
    ends = [p + e for p, e in zip(pads[n:], extra, strict=True)]
    return emit("AveragePool", x, pads=[*pads[:n], *ends], count_include_pad=counted, **attributes)


def _reach(size: int, kernel: int, stride: int, low: int, high: int) -> int:
    """Return how far the last window of ceil mode reaches beyond the padded axis, and 0 where floor mode has as many."""
    span = size + low + high - kernel
    windows = -(-span // stride) + 1
    if (windows - 1) * stride >= size + low:
        windows -= 1
    return (windows - 1) * stride + kernel - (size + low + high) if windows > span // stride + 1 else 0


def _wrap(emit: Emitter, node: ir.Node) -> ir.Value | None:
    """Write wrap padding as the end, the signal, and its start side by side, axis by axis."""
    if node.attributes.get_string("mode", "constant") != "wrap":
        return None
    amounts, x = constant(node.inputs[1]), node.inputs[0]
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    rank = len(x.shape) if x is not None and x.shape is not None else 0
    chosen = list(range(rank)) if axes is None else [int(axis) % rank for axis in axes.reshape(-1)]
    if amounts is None or x is None or not rank or (amounts < 0).any():
        raise _refuse(node, "in wrap mode by amounts that are negative or not known")
    for i, axis in enumerate(chosen):
        low, high = int(amounts[i]), int(amounts[i + len(chosen)])
        parts = [emit.slice(x, axis, -low, None)] if low else []
        parts += [x, *([emit.slice(x, axis, 0, high)] if high else [])]
        x = emit("Concat", *parts, axis=axis) if len(parts) > 1 else x
    return x if x is not node.inputs[0] else emit("Identity", x)


def _transposed(emit: Emitter, node: ir.Node) -> ir.Value | None:
    """Write ``output_shape`` and ``auto_pad`` of a ConvTranspose as the pads that they stand for."""
    automatic = node.attributes.get_string("auto_pad", "NOTSET")
    wanted = node.attributes.get_ints("output_shape")
    if automatic in ("NOTSET", "VALID") and not wanted:
        return None
    sizes, shape = _sizes(node), node.inputs[1].shape if node.inputs[1] is not None else None
    if sizes is None or shape is None or not all(isinstance(dim, int) for dim in shape):
        raise _refuse(node, "with output_shape or auto_pad on sizes that are not known")
    n = len(sizes)
    kernel = _ints(node, "kernel_shape", [dim for dim in list(shape)[2:] if isinstance(dim, int)])
    strides, dilations = _ints(node, "strides", [1] * n), _ints(node, "dilations", [1] * n)
    more, group = _ints(node, "output_padding", [0] * n), node.attributes.get_int("group", 1)
    target = list(wanted)[-n:] if wanted else [size * stride for size, stride in zip(sizes, strides, strict=True)]
    total = [strides[i] * (sizes[i] - 1) + more[i] + (kernel[i] - 1) * dilations[i] + 1 - target[i] for i in range(n)]
    more = [have + max(0, -amount) for have, amount in zip(more, total, strict=True)]
    total = [max(0, amount) for amount in total]
    if any(amount >= max(steps) for amount, *steps in zip(more, strides, dilations, strict=True)):
        raise _refuse(node, "with an output_shape larger than the signal reaches")
    half = [amount // 2 if automatic == "SAME_UPPER" else amount - amount // 2 for amount in total]
    pads = [*half, *(amount - low for amount, low in zip(total, half, strict=True))]
    return emit("ConvTranspose", *node.inputs, kernel_shape=kernel, strides=strides, dilations=dilations,
                output_padding=more, pads=pads, group=group)  # fmt: skip


def _dft(emit: Emitter, node: ir.Node) -> ir.Value | None:
    """Write a DFT as the matrix product that it is, of whatever size."""
    try:
        return product_of(emit, node, largest=None)
    except UnknownSizeError as error:
        raise _refuse(node, str(error)) from None


def _stft(emit: Emitter, node: ir.Node) -> ir.Value | None:
    """Give an STFT the window and frame length that OpenVINO insists on: ones, and the length of the window."""
    signal, hop, window, frame = [*node.inputs, None, None][:4]
    if window is not None and frame is not None:
        return None
    if window is None:
        length = constant(frame)
        if length is None:
            raise _refuse(node, "without a window of known length")
        window = emit.constant(np.ones(int(np.ravel(length)[0]), np.float32))
    elif constant(window) is None:
        raise _refuse(node, "with a window that is computed")
    if frame is None:
        frame = emit.constant(np.array(constant(window).shape[0], np.int64))  # type: ignore[union-attr]
    return emit("STFT", signal, hop, window, frame, onesided=node.attributes.get_int("onesided", 1))


def _resize(emit: Emitter, node: ir.Node) -> ir.Value | None:
    if node.attributes.get_int("antialias", 0):
        raise _refuse(node, "with antialias")
    if node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "half_pixel_symmetric":
        raise _refuse(node, "with half_pixel_symmetric")
    return None


def _lstm(emit: Emitter, node: ir.Node) -> ir.Value | None:
    if len(node.inputs) > 7 and node.inputs[7] is not None:
        raise _refuse(node, "with peepholes")
    return None


def _top(emit: Emitter, node: ir.Node) -> ir.Value | None:
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        raise _refuse(node, "with its indices, where entries are equal,")
    return None


REWRITES: dict[str, Callable[[Emitter, ir.Node], ir.Value | None]] = {
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Pad": _wrap,
    "ConvTranspose": _transposed,
    "DFT": _dft,
    "STFT": _stft,
    "Resize": _resize,
    "LSTM": _lstm,
    "TopK": _top,
    "Softplus": softplus,
    "Erf": erf,
}
