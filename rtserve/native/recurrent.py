"""GRU, LSTM and RNN: what the input gives to all gates at once as one dense layer, then step by step.

Gates are in ONNX's order: z r h; i o f c.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtserve.native.flow import Operation
from rtserve.native.linear import dense
from rtserve.native.taps import Taps
from rtserve.native.view import View
from rtserve.native.writer import Writer, operator

__all__: list[str] = []

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
USUAL = {"GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh"), "RNN": ("tanh",)}
ROWS = "  for (int b = 0; b < rows; b++) {\n"
HEAD = "(const float *p, const float *q, int rows, int n, {more}float *h, float *y) {{\n" + ROWS.replace("{", "{{")
EACH = "    for (int j = 0; j < n; j++) {\n"
NEXT = "    }}\n    p += {gates} * n, q += {given} * n, h += n, y += n{more};\n  }}\n}}"
LSTM = (
    HEAD.format(more="float *c, ") + EACH
    + "      const float i = rt_sigmoid(p[j] + q[j]), o = rt_sigmoid(p[n + j] + q[n + j]);\n"
    "      const float f = rt_sigmoid(p[2 * n + j] + q[2 * n + j]), g = rt_tanh(p[3 * n + j] + q[3 * n + j]);\n"
    "      c[j] = f * c[j] + i * g;\n      h[j] = y[j] = o * rt_tanh(c[j]);\n"
    + NEXT.format(gates=4, given=4, more=", c += n")
)  # fmt: skip
RNN = HEAD.format(more="") + EACH + "      h[j] = y[j] = ACT(p[j] + q[j]);\n" + NEXT.format(gates=1, given=1, more="")
GRU = (
    HEAD.format(more="") + EACH
    + "      const float z = rt_sigmoid(p[j] + q[j]), r = rt_sigmoid(p[n + j] + q[n + j]);\n"
    "      const float g = rt_tanh(p[2 * n + j] + r * q[2 * n + j]);\n"
    "      h[j] = y[j] = (1.f - z) * g + z * h[j];\n" + NEXT.format(gates=3, given=3, more="")
)  # fmt: skip
RESET = (
    "(const float *p, float *q, int rows, int n, const float *h, float *o) {\n" + ROWS + EACH
    + "      q[j] = rt_sigmoid(p[j] + q[j]);\n      o[j] = rt_sigmoid(p[n + j] + q[n + j]) * h[j];\n"
    "    }\n    p += 3 * n, q += 2 * n, h += n, o += n;\n  }\n}"
)  # fmt: skip
"""The reset of a GRU that resets its state before the product: z stays in q, the state that is left is o."""
UPDATE = (
    HEAD.format(more="const float *r, ") + EACH
    + "      const float g = rt_tanh(p[2 * n + j] + r[j]);\n      h[j] = y[j] = (1.f - q[j]) * g + q[j] * h[j];\n"
    + NEXT.format(gates=3, given=2, more=", r += n")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """Of one direction: (gates, inputs), (gates, hidden), and the offsets of both."""

    inputs: np.ndarray
    states: np.ndarray
    input_bias: np.ndarray
    state_bias: np.ndarray


def _weights(writer: Writer, operation: Operation) -> list[_Weights]:
    """Return the weights of every direction."""
    W, R = (writer.constant(operation.inputs[k]) for k in (1, 2))
    B = writer.constant(operation.inputs[3]) if operation.has(3) else None
    if W is None or R is None or (operation.has(3) and B is None):
        raise operation.refuse("with weights computed from the window")
    n = W.shape[1]
    B = np.zeros((len(W), 2 * n), np.float32) if B is None else B
    return [_Weights(inputs=w, states=r, input_bias=b[:n], state_bias=b[n:]) for w, r, b in zip(W, R, B, strict=True)]


def _check(operation: Operation) -> bool:
    """Refuse what is not written; return whether a RNN's activation is Relu."""
    names = tuple((a.decode() if isinstance(a, bytes) else a).lower() for a in operation.attrs.get("activations") or ())
    directions = 2 if operation.text("direction", "forward") == "bidirectional" else 1
    relu = operation.op == "RNN" and names == ("relu",) * directions
    if names and not relu and names != USUAL[operation.op] * directions:
        raise operation.refuse(f"with activations {', '.join(names)}")
    if operation.attrs.get("clip") or operation.attrs.get("input_forget", 0):
        raise operation.refuse("with clip or coupled gates")
    if operation.has(4) or operation.has(7):
        raise operation.refuse("with sequence lengths" if operation.has(4) else "with peepholes")
    return relu


@operator("GRU", "LSTM", "RNN")
def recurrent(writer: Writer, operation: Operation) -> None:
    """X (time, lines, inputs) to Y (time, directions, lines, hidden) and the last states; layout=1 has lines in front."""
    relu, weights = _check(operation), _weights(writer, operation)
    x, first = writer.view(operation.inputs[0]), operation.attrs.get("layout", 0)
    x = x.moved([1, 0, 2]) if first else x
    hidden, (n_times, lines, _) = int(operation.attrs["hidden_size"]), x.shape
    y = writer.fresh((n_times, len(weights), lines, hidden))
    states = [_state(writer, operation, index, (len(weights), lines, hidden)) for index in (5, 6)]
    for d, one in enumerate(weights):
        backwards = d == 1 or operation.text("direction", "forward") == "reverse"
        _direction(writer, operation, _Run(x=x, y=y.cut(1, d, 1), h=states[0].cut(0, d, 1), c=states[1].cut(0, d, 1),
                                           weights=one, backwards=backwards, relu=relu))  # fmt: skip
    orders = ([2, 0, 1, 3], [1, 0, 2], [1, 0, 2])
    for name, view, order in zip(operation.outputs, (y, *states), orders, strict=False):
        if name:
            writer.views[name] = view.moved(order) if first else view


def _state(writer: Writer, operation: Operation, index: int, shape: tuple[int, int, int]) -> View:
    """Return memory of a state with what it begins with."""
    state = writer.fresh(shape)
    if operation.has(index):
        given = writer.view(operation.inputs[index])
        writer.copy(given.moved([1, 0, 2]) if operation.attrs.get("layout", 0) else given, state)
    else:
        writer.fill(state)
    return state


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one direction reads and writes."""

    x: View
    y: View
    h: View
    c: View
    weights: _Weights
    backwards: bool
    relu: bool


def _direction(writer: Writer, operation: Operation, run: _Run) -> None:
    """Write one direction."""
    n_times, lines, n_in = run.x.shape
    hidden, gates, one = run.h.shape[2], GATES[operation.op], run.weights
    p = writer.fresh((n_times, lines, gates * hidden))
    taps, _ = Taps.of([(n_in, run.x.steps[2])])
    writer.macs += n_times * lines * (one.inputs.size + one.states.size)
    dense(writer, run.x.cut(2, 0, 1).moved([0, 2, 1]), p.moved([0, 2, 1]), taps, one.inputs, one.input_bias, False)
    q, more = writer.scratch(lines * gates * hidden), writer.scratch(2 * lines * hidden)
    at = f"{n_times - 1} - t" if run.backwards else "t"
    px, py = f"{p} + ({at}) * {p.steps[0]}", f"{run.y} + ({at}) * {run.y.steps[0]}"
    step = _gru(writer, operation, run, q, more, px, py) or _step(writer, operation, run, q, px, py)
    writer.line(f"for (int t = 0; t < {n_times}; t++) {{ {step} }}", p, q, more, run.h, run.c, run.y)


def _product(writer: Writer, run: _Run, source: View, target: View, first: int, last: int) -> str:
    """Return the call that gives states times the weights of some gates, with their offsets."""
    lines, hidden = run.h.shape[1:]
    weight, bias = (a[first * hidden : last * hidden] for a in (run.weights.states, run.weights.state_bias))
    channels = weight.shape[0]
    packed = writer.packed(weight, f"RT_PACKED({hidden}, {channels})",
                           f"rt_pack({{plain}}, 1, {hidden}, {hidden}, {channels}, {{packed}});")  # fmt: skip
    taps, _ = Taps.of([(hidden, 1)])
    kernel = writer.kernel("RT_LAYER", lines, hidden)
    return f"{kernel}({source}, {taps}, {packed.name}, {writer.filled(bias)}, {target}, {channels}, {channels}, 0);"


def _step(writer: Writer, operation: Operation, run: _Run, q: View, px: str, py: str) -> str:
    """Return a step whose gates all follow from one product."""
    text = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN.replace("ACT", "rt_relu" if run.relu else "rt_tanh")}[operation.op]
    name = writer.function(f"{operation.op} {run.relu}", text)
    lines, hidden = run.h.shape[1:]
    cell = f"{run.c}, " if operation.op == "LSTM" else ""
    product = _product(writer, run, run.h, q, 0, GATES[operation.op])
    return f"{product} {name}({px}, {q}, {lines}, {hidden}, {cell}{run.h}, {py});"


def _gru(writer: Writer, operation: Operation, run: _Run, q: View, more: View, px: str, py: str) -> str:
    """Return a step of a GRU that resets its state before the product; nothing where it is none."""
    if operation.op != "GRU" or operation.attrs.get("linear_before_reset", 0):
        return ""
    lines, hidden = run.h.shape[1:]
    left = View(buffer=more.buffer, shape=(lines * hidden,), steps=(1,), offset=lines * hidden)
    reset, update = writer.function("GRU reset", RESET), writer.function("GRU update", UPDATE)
    return " ".join(
        [
            _product(writer, run, run.h, q, 0, 2),
            f"{reset}({px}, {q}, {lines}, {hidden}, {run.h}, {left});",
            _product(writer, run, left, more, 2, 3),
            f"{update}({px}, {q}, {lines}, {hidden}, {more}, {run.h}, {py});",
        ]
    )
