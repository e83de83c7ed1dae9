"""Layers that move, cut, join or cast values, drawn at random; and the heads that end a network."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.fusion.random_layers import Layer, Net, activation


def constant_maths(net: Net) -> None:
    """An affine step or two, by constants of every broadcastable shape."""
    for _ in range(net.number(1, 2)):
        shape = [n if net.chance(0.5) else 1 for n in net.shape][net.number(0, len(net.shape)) :]
        values = net.weigh.uniform(0.5, 1.5, shape) * net.weigh.choice([-1.0, 1.0], shape)
        kind, constant = net.one_of("Add", "Mul", "Sub", "Div"), net.const(values)
        pair = (net.value, constant) if kind == "Div" or net.chance(0.7) else (constant, net.value)
        net.op(kind, *pair)


def double_island(net: Net) -> None:
    """A step in float64 by a double constant, and back."""
    wide = net.op("Cast", net.value, to=TensorProto.DOUBLE)
    net.op(net.one_of("Mul", "Add"), wide, net.const(net.weigh.uniform(0.5, 1.5, [1] * net.number(0, 1)), "f8"))
    if net.chance(0.3):
        net.op("ReduceMean", net.value, net.ints(len(net.shape)), keepdims=1)
        net.op("Sub", wide, net.value)
    net.op("Cast", net.value, to=TensorProto.FLOAT)


def masked(net: Net) -> None:
    x, style = net.value, net.one_of("data", "constant", "compare")
    if style == "data":
        mask = net.op("Greater", x, net.const(0.2))
        net.op("Where", mask, x, net.op("Mul", x, net.const(0.1)) if net.chance(0.5) else net.const(0.0))
    elif style == "constant":
        net.op("Where", net.const(net.weigh.random(net.shape[-1]) < 0.7, "?"), x, net.const(0.0))
    else:
        mask = net.op("Cast", net.op("LessOrEqual", x, net.const(0.5)), to=TensorProto.FLOAT)
        net.op("Mul", x, mask)


def pad(net: Net) -> None:
    size = net.shape[-1]
    net.need(size <= 64)
    mode = net.one_of("constant", "reflect", "edge", "wrap")
    limit = min(6, size - 1)
    net.need(limit >= 1)
    begin, end = net.number(0, limit), net.number(0, limit)
    axis = len(net.shape)
    if net.chance(0.4):
        net.op("Pad", net.value, net.ints(begin, end), "", net.ints(net.one_of(axis, -1)), mode=mode)
    else:
        zeros = [0] * axis
        value = [net.const(net.one_of(0.0, 0.0, 1.0))] if mode == "constant" and net.chance(0.5) else []
        net.op("Pad", net.value, net.ints(*zeros, begin, *zeros, end), *value, mode=mode)
    net.shape = (*net.shape[:-1], size + begin + end)


def cut(net: Net) -> None:
    """A slice along one axis, forwards or backwards, with a step or without."""
    axis = net.number(1, len(net.shape))
    size = net.shape[axis - 1]
    net.need(size >= 4)
    start, stop = net.number(0, size // 3), net.number(size // 2 + 1, size)
    step = net.one_of(1, 1, 2, -1)
    if step < 0:
        start, stop = stop - 1, start - 1 if start else -(size + 1)
        count = len(range(start, stop if stop >= 0 else -1, step))
    else:
        count = len(range(start, stop, step))
        stop = 2**62 if stop == size and net.chance(0.5) else stop
    net.op("Slice", net.value, net.ints(start), net.ints(stop), net.ints(axis), net.ints(step))
    net.shape = tuple(count if i == axis - 1 else n for i, n in enumerate(net.shape))


def gather(net: Net) -> None:
    axis = net.number(1, len(net.shape))
    size = net.shape[axis - 1]
    count = net.number(1, size)
    picks = net.pick.choice(size, count, replace=net.chance(0.3))
    if net.chance(0.3):
        picks = picks - size * (picks % 2)
    net.op("Gather", net.value, net.ints(*picks), axis=axis)
    net.shape = tuple(count if i == axis - 1 else n for i, n in enumerate(net.shape))


def split_concat(net: Net) -> None:
    axis = net.number(1, len(net.shape))
    size = net.shape[axis - 1]
    net.need(size >= 2)
    first = net.number(1, size - 1)
    parts = [net.name("part"), net.name("part")]
    net.op("Split", net.value, net.ints(first, size - first), axis=axis, outputs=2)
    node = net.nodes[-1]
    del node.output[:]
    node.output.extend(parts)
    changed = net.op(net.one_of("Tanh", "Relu", "Neg"), parts[net.number(0, 1)])
    other = parts[0] if net.nodes[-1].input[0] == parts[1] else parts[1]
    net.op(
        "Concat",
        *((changed, other) if net.chance(0.5) else (other, changed)),
        axis=net.one_of(axis, axis - len(net.shape) - 1),
    )


def residual(net: Net) -> None:
    """x + f(x), f of the same shape."""
    x = net.value
    for _ in range(net.number(1, 2)):
        activation(net)
    net.op(net.one_of("Add", "Add", "Mul", "Sub", "Max"), *((x, net.value) if net.chance(0.5) else (net.value, x)))


def two_paths(net: Net) -> None:
    """Two convolutions of one signal, side by side along the channels."""
    net.need(len(net.shape) == 2)
    x, (c, t) = net.value, net.shape
    outs, names = [net.number(1, 4), net.number(1, 4)], []
    for out in outs:
        k = 2 * net.number(0, min(3, (t - 1) // 2)) + 1
        w = net.weight(out, c, k, fan_in=c * k)
        names.append(net.op("Conv", x, w, *([net.weight(out)] if net.chance(0.5) else []), pads=[k // 2, k // 2]))
    net.op("Concat", *names, axis=1)
    net.shape = (sum(outs), t)


def resize(net: Net) -> None:
    size = net.shape[-1]
    net.need(2 <= size <= 40)
    rank = len(net.shape)
    mode = net.one_of("nearest", "linear")
    place = net.one_of("half_pixel", "asymmetric", "align_corners" if mode == "linear" else "asymmetric")
    attrs = {"mode": mode, "coordinate_transformation_mode": place}
    if mode == "nearest":
        attrs["nearest_mode"] = net.one_of("floor", "round_prefer_floor")
    factor = net.one_of(2.0, 3.0, 0.5) if size % 2 == 0 else 2.0
    after = int(size * factor)
    if net.chance(0.5):
        net.op("Resize", net.value, "", net.const([1.0] * rank + [factor]), **attrs)
    else:
        net.op("Resize", net.value, "", "", net.ints(after), axes=[rank], **attrs)
    net.shape = (*net.shape[:-1], after)


def computed_shape(net: Net) -> None:
    """Flatten and restore by a shape that is computed from the input's own, as exporters with a dynamic batch do."""
    x, shape = net.value, net.shape
    batch = net.op("Gather", net.op("Shape", x), net.const(0, "i8"), axis=0)
    batch = net.op("Unsqueeze", batch, net.ints(0))
    net.op("Reshape", x, net.op("Concat", batch, net.ints(-1), axis=0))
    activation(Vector(net))
    net.op(
        "Reshape",
        net.value,
        net.op("Concat", batch, net.ints(*shape), axis=0) if net.chance(0.5) else net.ints(-1, *shape),
    )


class Vector:
    """A net seen as one long vector: what `activation` needs to know of it."""

    def __init__(self, net: Net) -> None:
        object.__setattr__(self, "net", net)

    def __getattr__(self, name):
        return (int(np.prod(self.net.shape)),) if name == "shape" else getattr(self.net, name)

    def __setattr__(self, name, value):
        setattr(self.net, name, value)


def positions(net: Net) -> None:
    """Add a table of positions, looked up by integers that the graph computes."""
    size = net.shape[-1]
    steps = net.op("Range", *(x := net.value, net.const(0, "i8"), net.const(size, "i8"), net.const(1, "i8"))[1:])
    row = net.op("Gather", net.weight(size), steps, axis=0)
    net.op("Add", x, row)


def nothing(net: Net) -> None:
    """What exporters leave standing: Identity, Dropout, a cast to the same type, a transpose and back."""
    kind = net.one_of("Identity", "Dropout", "Cast", "turn", "expand")
    if kind == "Cast":
        net.op("Cast", net.value, to=TensorProto.FLOAT)
    elif kind == "turn":
        n = len(net.shape)
        order = [0, n, *range(1, n)]
        net.op("Transpose", net.value, perm=order)
        net.op("Transpose", net.value, perm=[0, *range(2, n + 1), 1])
    elif kind == "expand":
        net.op("Expand", net.value, net.ints(1, *net.shape))
    else:
        net.op(kind, net.value)


def tile(net: Net) -> None:
    net.need(net.shape[-1] <= 20)
    times = net.number(1, 2)
    net.op("Tile", net.value, net.ints(*[1] * len(net.shape), times))
    net.shape = (*net.shape[:-1], net.shape[-1] * times)


def running_sum(net: Net) -> None:
    net.op("CumSum", net.value, net.const(len(net.shape), "i8"))
    net.op("Mul", net.value, net.const(1.0 / net.shape[-1]))


def reduce(net: Net) -> None:
    net.need(len(net.shape) == 3)
    axis = net.number(2, 3)
    net.need(net.shape[axis - 1] <= 16 or axis == 3)
    kind = net.one_of("ReduceMean", "ReduceMax", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")
    net.op(kind, net.value, net.ints(axis), keepdims=0)
    net.shape = tuple(n for i, n in enumerate(net.shape) if i != axis - 1)


MOVES: tuple[Layer, ...] = (
    constant_maths, constant_maths, double_island, masked, pad, pad, cut, cut, gather, split_concat, residual, two_paths,
    resize, computed_shape, positions, nothing, nothing, tile, running_sum, reduce,
)  # fmt: skip


def head(net: Net, n_outputs: int) -> None:
    """End in (batch, n_outputs): pooled or flattened, one dense layer or two, an activation now and then."""
    size = int(np.prod(net.shape))
    if size > 512 or net.chance(0.3):
        if net.chance(0.5):
            net.op("GlobalAveragePool", net.value)
            net.op("Flatten", net.value)
        else:
            net.op("ReduceMean", net.value, net.ints(*range(2, len(net.shape) + 1)), keepdims=0)
        net.shape = (net.shape[0],)
    else:
        style = net.one_of("Flatten", "copy", "infer")
        if style == "Flatten":
            net.op("Flatten", net.value)
        else:
            net.op("Reshape", net.value, net.ints(*((0, -1) if style == "copy" else (-1, size))))
        net.shape = (size,)
    for width in ([net.number(2, 8)] if net.chance(0.3) else []) + [n_outputs]:
        (size,) = net.shape
        if net.chance(0.6):
            turned = net.number(0, 1)
            shape = (width, size) if turned else (size, width)
            net.op("Gemm", net.value, net.weight(*shape, fan_in=size), *([net.weight(width)] if net.chance(0.8) else []),
                   transB=turned)  # fmt: skip
        else:
            net.op("MatMul", net.value, net.weight(size, width, fan_in=size))
            net.op("Add", net.value, net.weight(width))
        net.shape = (width,)
        if width != n_outputs:
            activation(net)
    last = net.one_of("", "", "", "", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Neg")
    if last:
        net.op(last, net.value, **({"axis": net.one_of(-1, 1)} if "oftmax" in last else {}))
