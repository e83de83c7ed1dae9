"""Products of matrices, as calls of the dense kernel (`rtserve.native.linear`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtserve.native.flow import Operation
from rtserve.native.linear import dense, emit_relu
from rtserve.native.taps import WIDEST, Taps
from rtserve.native.view import View
from rtserve.native.writer import Writer, operator


@operator("Gemm")
def gemm(writer: Writer, operation: Operation) -> None:
    """A dense layer: alpha x W + beta b."""
    weight = writer.constant(operation.inputs[1])
    bias = writer.constant(operation.inputs[2]) if len(operation.inputs) > 2 and operation.inputs[2] else None
    if weight is None or (len(operation.inputs) > 2 and operation.inputs[2] and bias is None):
        raise operation.refuse("with weights computed from the window")
    attrs, x = operation.attrs, writer.view(operation.inputs[0])
    x = x.moved([1, 0]) if attrs.get("transA", 0) else x
    weight = weight if attrs.get("transB", 0) else weight.T
    weight = weight.astype(np.float64) * attrs.get("alpha", 1.0)
    n_out = weight.shape[0]
    if bias is not None:
        bias = bias.astype(np.float64) * attrs.get("beta", 1.0)
        if bias.size not in (1, n_out) or (bias.ndim > 1 and bias.shape[0] != 1):
            raise operation.refuse("with an offset of its own for every row")
        bias = np.broadcast_to(bias.reshape(-1), (n_out,))
    name, relu = emit_relu(writer, operation.outputs[0])
    target = writer.fresh(writer.shape(name))
    taps, _ = Taps.of([(x.shape[1], x.steps[1])])
    writer.macs += x.shape[0] * weight.size
    dense(writer, x.cut(1, 0, 1), target, taps, weight, bias, relu)
    writer.views[name] = target


@operator("MatMul")
def matmul(writer: Writer, operation: Operation) -> None:
    """Products of matrices: by weights on either side, or of two values."""
    left, right = operation.inputs
    shape = writer.shape(operation.outputs[0])
    if min(len(writer.shape(left)), len(writer.shape(right))) < 2:
        raise operation.refuse("of a vector")
    if writer.constant(right) is not None:
        _by_weights(writer, operation, writer.view(left), writer.flow.constants[right])
    elif writer.constant(left) is not None:
        weight = np.swapaxes(writer.flow.constants[left], -1, -2)  # (S x)' = x' S'
        view = writer.view(right)
        axes = [*range(len(view.shape) - 2), len(view.shape) - 1, len(view.shape) - 2]
        _by_weights(writer, operation, view.moved(axes), weight, turned=True)
    else:
        _of_two(writer, operation, writer.view(left), writer.view(right), shape)


def _by_weights(writer: Writer, operation: Operation, x: View, weight: np.ndarray, *, turned: bool = False) -> None:
    """Write x (..., rows, k) times weights (..., k, channels); `turned`: the answer's last axes are the other way round."""
    out = operation.outputs[0]
    name, relu = (out, False) if turned else emit_relu(writer, out)
    shape = list(writer.shape(out))
    rank = len(shape)
    if turned:
        shape[-1], shape[-2] = shape[-2], shape[-1]
    lead = shape[:-2]
    x = x.spread((*lead, *x.shape[-2:]))
    target = writer.fresh(shape)
    taps, _ = Taps.of([(x.shape[-1], x.steps[-1])])
    writer.macs += int(np.prod(lead, dtype=np.int64)) * x.shape[-2] * weight.shape[-1] * weight.shape[-2]
    rows, result = x.cut(rank - 1, 0, 1), target
    axes = [*range(rank - 2), rank - 2]
    kinds = weight.reshape(-1, *weight.shape[-2:])
    if len(kinds) == 1:
        dense(writer, _channels_second(rows, axes), _channels_second(result, axes), taps, kinds[0].T, None, relu)
    else:
        every = np.broadcast_to(weight, (*lead, *weight.shape[-2:]))
        for place in np.ndindex(*lead):
            one, there = rows, result
            for axis, at in enumerate(place):
                one, there = one.cut(axis, at, 1), there.cut(axis, at, 1)
            dense(writer, _channels_second(one, axes), _channels_second(there, axes), taps, every[place].T, None, relu)
    writer.views[name] = target.moved([*range(rank - 2), rank - 1, rank - 2]) if turned else target


def _channels_second(view: View, axes: Sequence[int]) -> View:
    """Return a view (..., rows, channels) with its channels as axis 1."""
    last = len(view.shape) - 1
    return view.moved([axes[0], last, *axes[1:]])


def _of_two(writer: Writer, operation: Operation, left: View, right: View, shape: tuple[int, ...]) -> None:
    """Write the product of two values: the right one is packed as weights are, each time."""
    k, channels = right.shape[-2:]
    lead = shape[:-2]
    left, right = left.spread((*lead, *left.shape[-2:])), right.spread((*lead, k, channels))
    target = writer.fresh(shape)
    room = writer.buffer(k * -(-channels // WIDEST) * WIDEST)
    pack = View(buffer=room, shape=(1,), steps=(0,))
    taps, _ = Taps.of([(k, left.steps[-1])])
    kernel = writer.kernel("RT_LAYER", shape[-2], left.steps[-2])
    writer.macs += int(np.prod(lead, dtype=np.int64)) * shape[-2] * k * channels

    def body(at: list[str]) -> str:
        return (
            f"rt_pack({at[1]}, {right.steps[-2]}, {right.steps[-1]}, {k}, {channels}, {pack}); "
            f"{kernel}({at[0]}, {taps}, {pack}, 0, {at[2]}, {target.steps[-2]}, {channels}, 0);"
        )

    writer.product(lead, body, left, right, target, held=pack)
    writer.views[operation.outputs[0]] = target
