"""Layers as exporters emit them, drawn at random: each is a function that adds nodes to a `Net`, or says it does not fit.

Two sources of chance: `pick` chooses the architecture, `weigh` the weights, so that alike networks with other weights
can be made. Numbers stay of order one: what is looked for are wrong numbers, not bad conditions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper, numpy_helper


class NoFitError(Exception):
    """The layer drawn does not fit the shape at hand."""


class Net:
    """A network under construction: nodes, constants, and the value that the next layer reads.

    `shape` leaves out the batch: (C, T) for signals, (F, H, W) for images, (D,) for vectors.
    """

    def __init__(self, n_chans: int, n_times: int, architecture: int, weights: int) -> None:
        self.pick, self.weigh = np.random.default_rng(architecture), np.random.default_rng(weights)
        self.nodes: list = []
        self.constants: list = []
        self.value, self.shape = "x", (n_chans, n_times)
        self.layers: list[str] = []
        self.count = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def const(self, array, dtype="f4") -> str:
        """Add a constant: an initializer, or now and then a Constant node."""
        array, name = np.asarray(array).astype(dtype), self.name("c")
        if self.pick.random() < 0.1:
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        else:
            self.constants.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values) -> str:
        return self.const(values, "i8")

    def weight(self, *shape, fan_in=1) -> str:
        return self.const(self.weigh.standard_normal(shape) / np.sqrt(fan_in))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attrs) -> str:
        """Add a node that reads `inputs`; its first output is returned and becomes the value."""
        names = [self.name(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attrs))
        self.value = names[0]
        return names[0]

    def one_of(self, *choices):
        return choices[self.pick.integers(len(choices))]

    def number(self, low: int, high: int) -> int:
        return int(self.pick.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.pick.random() < share)

    def need(self, fits: bool) -> None:
        if not fits:
            raise NoFitError


def window(net: Net, size: int, *, dilated: bool = False) -> tuple[int, int, int, int, int]:
    """Draw kernel, stride, dilation, begin and end pad along an axis of `size` samples."""
    k = net.number(1, min(9, size))
    s = net.number(1, min(3, k))
    d = net.number(1, 3) if dilated and net.chance(0.25) else 1
    net.need(d * (k - 1) + 1 <= size)
    style = net.one_of("none", "same", "any")
    begin, end = {"none": (0, 0), "same": ((d * (k - 1)) // 2, d * (k - 1) - (d * (k - 1)) // 2)}.get(style, (-1, -1))
    if style == "any":
        begin, end = net.number(0, k - 1), net.number(0, k - 1)
    return k, s, d, begin, end


def span(size: int, k: int, s: int, d: int, begin: int, end: int, ceil: bool = False) -> int:
    """Return how many windows there are; onnxruntime's rule for ceil_mode."""
    room = size + begin + end - d * (k - 1) - 1
    count = (-(-room // s) if ceil else room // s) + 1
    return count - 1 if ceil and (count - 1) * s >= size + begin else count


def bias(net: Net, size: int) -> list[str]:
    return [net.weight(size)] if net.chance(0.6) else []


# ---------------------------------------------------------------- signals (C, T)


def conv1d(net: Net) -> None:
    c, t = net.shape
    k, s, d, b, e = window(net, t, dilated=True)
    groups = net.one_of(1, 1, c, *(g for g in (2,) if c % 2 == 0))
    out = groups * net.number(1, max(1, 8 // groups))
    w = net.weight(out, c // groups, k, fan_in=k * c // groups)
    net.op("Conv", net.value, w, *bias(net, out), strides=[s], dilations=[d], pads=[b, e], group=groups)
    net.shape = (out, span(t, k, s, d, b, e))


def conv_transpose1d(net: Net) -> None:
    c, t = net.shape
    net.need(t <= 24)
    k, s, out = net.number(1, 4), net.number(1, 2), net.number(1, 4)
    w = net.weight(c, out, k, fan_in=c * k)
    net.op("ConvTranspose", net.value, w, *bias(net, out), strides=[s])
    net.shape = (out, (t - 1) * s + k)


def to_image(net: Net) -> None:
    c, t = net.shape
    style = net.one_of("unsqueeze", "reshape", "infer", "turned")
    if style == "unsqueeze":
        net.op("Unsqueeze", net.value, net.ints(1))
    elif style == "turned":
        net.op("Unsqueeze", net.value, net.ints(3))
        net.op("Transpose", net.value, perm=[0, 3, 1, 2])
    else:
        net.op("Reshape", net.value, net.ints(-1 if style == "infer" else 0, 1, c, t))
    net.shape = (1, c, t)


def attention(net: Net) -> None:
    """Softmax(q k' / sqrt d) v over time, with a mask now and then."""
    c, t = net.shape
    net.need(t <= 32)
    x = net.op("Transpose", net.value, perm=[0, 2, 1])
    d = net.number(2, 6)
    q, k, v = (net.op("MatMul", x, net.weight(c, d, fan_in=c)) for _ in range(3))
    score = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1]))
    score = net.op("Div", score, net.const(np.sqrt(d))) if net.chance(0.5) else net.op("Mul", net.const(d**-0.5), score)
    if net.chance(0.4):
        mask = net.const(np.tril(np.ones((t, t))), "?")
        score = net.op("Where", mask, score, net.const(-1e9 if net.chance(0.5) else -np.inf))
    net.op("MatMul", net.op("Softmax", score, axis=-1), v)
    net.op("Transpose", net.value, perm=[0, 2, 1])
    net.shape = (d, t)


def recurrent(net: Net) -> None:
    c, t = net.shape
    net.need(t <= 40)
    kind, hidden = net.one_of("GRU", "LSTM", "RNN"), net.number(1, 4)
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[kind] * hidden
    both = net.chance(0.3)
    n = 2 if both else 1
    attrs = {"hidden_size": hidden, "direction": "bidirectional" if both else net.one_of("forward", "reverse")}
    if kind == "GRU":
        attrs["linear_before_reset"] = net.number(0, 1)
    x = net.op("Transpose", net.value, perm=[2, 0, 1])
    inputs = [x, net.weight(n, gates, c, fan_in=c), net.weight(n, gates, hidden, fan_in=hidden)]
    net.op(kind, *inputs, *([net.weight(n, 2 * gates)] if net.chance(0.7) else []), outputs=1, **attrs)
    if both:
        net.op("Transpose", net.value, perm=[0, 2, 1, 3])
        net.op("Reshape", net.value, net.ints(0, 0, -1))
    else:
        net.op("Squeeze", net.value, net.ints(1))
    net.op("Transpose", net.value, perm=[1, 2, 0])
    net.shape = (n * hidden, t)


def spectrum(net: Net) -> None:
    c, t = net.shape
    net.need(t >= 8)
    net.op("Unsqueeze", net.value, net.ints(3))
    net.op("DFT", net.value, "", net.const(2, "i8"), onesided=1)
    net.op("ReduceSumSquare", net.value, net.ints(3), keepdims=0)
    net.op("Mul", net.value, net.const(1.0 / t))
    net.shape = (c, t // 2 + 1)


def standardise(net: Net) -> None:
    """Subtract each channel's mean over time, and divide by its deviation."""
    axes = net.ints(-1)
    x = net.value
    centred = net.op("Sub", x, net.op("ReduceMean", x, axes))
    var = net.op("ReduceMean", net.op("Mul", centred, centred), axes)
    net.op("Div", centred, net.op("Sqrt", net.op("Add", var, net.const(0.1))))


def channel_mix(net: Net) -> None:
    c, t = net.shape
    out = net.number(1, 8)
    if net.chance(0.5):
        net.op("MatMul", net.weight(out, c, fan_in=c), net.value)
    else:
        net.op("Einsum", net.value, net.weight(out, c, fan_in=c), equation="bct,oc->bot")
    net.shape = (out, t)


def average_reference(net: Net) -> None:
    x = net.value
    net.op("Sub", x, net.op("ReduceMean", x, net.ints(1), keepdims=1))


# ---------------------------------------------------------------- images (F, H, W)


def conv2d(net: Net) -> None:
    f, h, w = net.shape
    style = net.one_of("time", "time", "height", "plane", "depthwise")
    kh, sh, dh, bh, eh = (1, 1, 1, 0, 0) if style in ("time", "depthwise") else window(net, h)
    kw, sw, dw, bw, ew = (1, 1, 1, 0, 0) if style == "height" else window(net, w, dilated=True)
    if style == "height":
        kh, sh, dh, bh, eh = h, 1, 1, 0, 0
    groups = f if style == "depthwise" or (style == "height" and net.chance(0.5)) else 1
    out = groups * net.number(1, max(1, 8 // groups))
    weight = net.weight(out, f // groups, kh, kw, fan_in=kh * kw * f // groups)
    attrs = {"strides": [sh, sw], "dilations": [dh, dw], "pads": [bh, bw, eh, ew], "group": groups}
    net.op("Conv", net.value, weight, *bias(net, out), **attrs)
    net.shape = (out, span(h, kh, sh, dh, bh, eh), span(w, kw, sw, dw, bw, ew))


def same_conv2d(net: Net) -> None:
    f, h, w = net.shape
    k, out = net.number(1, min(8, w)), net.number(1, 6)
    weight = net.weight(out, f, 1, k, fan_in=f * k)
    net.op("Conv", net.value, weight, *bias(net, out), auto_pad=net.one_of("SAME_UPPER", "SAME_LOWER"))
    net.shape = (out, h, w)


def drop_height(net: Net) -> None:
    f, h, w = net.shape
    net.need(h == 1 or f == 1)
    axis = 2 if h == 1 else 1
    keep = (f, w) if h == 1 else (h, w)
    if net.chance(0.5):
        net.op("Squeeze", net.value, net.ints(axis))
    else:
        net.op("Reshape", net.value, net.ints(0, *keep))
    net.shape = keep


def turn(net: Net) -> None:
    order = list(net.pick.permutation(len(net.shape)))
    net.op("Transpose", net.value, perm=[0, *(int(i) + 1 for i in order)])
    net.shape = tuple(net.shape[i] for i in order)


# ---------------------------------------------------------------- signals and images


def pool(net: Net) -> None:
    rank = len(net.shape) - 1
    parts = [window(net, n) if axis == rank - 1 or net.chance(0.3) else (1, 1, 1, 0, 0)
             for axis, n in enumerate(net.shape[1:])]  # fmt: skip
    kind, ceil = net.one_of("AveragePool", "MaxPool"), net.chance(0.4)
    # onnx's shape inference has one window more than engines where the last would begin in the end padding
    net.need(
        not ceil
        or all((-(-(n + b + e - k) // s)) * s < n + b for n, (k, s, _, b, e) in zip(net.shape[1:], parts, strict=True))
    )
    if kind == "MaxPool":  # a window wholly in padding would be -inf
        parts = [(k, s, d, min(b, k - 1), min(e, k - 1)) for k, s, d, b, e in parts]
    k, s, _, b, e = zip(*parts, strict=True)
    attrs = {"kernel_shape": k, "strides": s, "pads": [*b, *e], "ceil_mode": int(ceil)}
    if kind == "AveragePool":
        attrs["count_include_pad"] = net.number(0, 1)
    net.op(kind, net.value, **attrs)
    net.shape = (net.shape[0], *(span(n, *part, ceil) for n, part in zip(net.shape[1:], parts, strict=True)))


def batchnorm(net: Net) -> None:
    c = net.shape[0]
    stats = net.weight(c), net.weight(c), net.weight(c), net.const(net.weigh.uniform(0.5, 2.0, c))
    net.op("BatchNormalization", net.value, *stats)


def norm(net: Net) -> None:
    c, size = net.shape[0], net.shape[-1]
    net.need(size > 1)
    kind = net.one_of("LayerNormalization", "InstanceNormalization")  # the group's is deprecated in opset 20
    if kind == "LayerNormalization":
        net.op(kind, net.value, net.weight(size), net.weight(size), axis=-1, epsilon=0.1)
    else:
        net.op(kind, net.value, net.weight(c), net.weight(c), epsilon=0.1)


def activation(net: Net) -> None:
    x = net.value
    kind = net.one_of("Elu", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Selu", "HardSigmoid", "Clip", "square",
                      "gelu", "logpower", "PRelu", "Abs", "swish", "Neg", "Gelu", "Erf", "mish", "Sqrt",
                      "Softsign")  # fmt: skip
    if kind == "Clip":
        net.op("Clip", x, net.const(-1.0), net.const(1.5) if net.chance(0.6) else "")
    elif kind == "square":
        net.op("Mul", x, x) if net.chance(0.5) else net.op("Pow", x, net.const(2.0))
    elif kind == "gelu":
        inner = net.op("Add", net.op("Erf", net.op("Div", x, net.const(np.sqrt(2.0)))), net.const(1.0))
        net.op("Mul", net.op("Mul", x, inner), net.const(0.5))
    elif kind == "logpower":
        net.op("Log", net.op("Clip", net.op("Mul", x, x), net.const(1e-2)))
    elif kind == "PRelu":
        net.op("PRelu", x, net.const(np.abs(net.weigh.standard_normal((net.shape[0], *([1] * (len(net.shape) - 1)))))))
    elif kind == "swish":
        net.op("Mul", x, net.op("Sigmoid", x))
    elif kind == "mish":
        net.op("Mul", x, net.op("Tanh", net.op("Softplus", x)))
    elif kind == "Sqrt":
        net.op("Sqrt", net.op("Add", net.op("Abs", x), net.const(0.1)))
    else:
        net.op(kind, x)


Layer = Callable[[Net], None]
SIGNAL: tuple[Layer, ...] = (
    conv1d, conv1d, conv_transpose1d, to_image, to_image, attention, recurrent, spectrum, standardise, channel_mix,
    average_reference,
)  # fmt: skip
IMAGE: tuple[Layer, ...] = (conv2d, conv2d, conv2d, conv2d, same_conv2d, drop_height, drop_height, turn)
BOTH: tuple[Layer, ...] = (pool, pool, batchnorm, batchnorm, activation, activation, activation, norm)
