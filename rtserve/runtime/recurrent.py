"""GRU, LSTM and RNN through torch's own kernels, with ONNX's order of gates and axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rtserve.runtime.node import Call, Node, operator

GATES = {"GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1), "RNN": (0,)}
"""torch's order of gates in terms of ONNX's (z r h; i o f c)."""
DEFAULTS = {"GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh"), "RNN": ("tanh",)}


def _reorder(gates: Tensor, order: Sequence[int], hidden: int) -> Tensor:
    return torch.cat([gates[g * hidden : (g + 1) * hidden] for g in order])


def _flat_weights(node: Node, hidden: int) -> list[Tensor]:
    """Return (w_ih, w_hh, b_ih, b_hh) per direction, in torch's gate order."""
    order = GATES[node.op]
    inputs, states = node.tensor(1), node.tensor(2)
    biases = node.tensor(3) if node.has(3) else torch.zeros_like(inputs[:, :, :1]).squeeze(-1).repeat(1, 2)
    flat = []
    for w, r, b in zip(inputs, states, biases, strict=False):
        half = len(order) * hidden
        flat += [_reorder(w, order, hidden), _reorder(r, order, hidden)]
        flat += [_reorder(b[:half], order, hidden), _reorder(b[half:], order, hidden)]
    return [weight.contiguous() for weight in flat]


def _activations(node: Node) -> tuple[str, ...]:
    """Return the names of the activations in small letters: ONNX leaves their case free."""
    names = (a.decode() if isinstance(a, bytes) else a for a in node.attrs.get("activations", ()))
    return tuple(name.lower() for name in names)


def _check(node: Node, directions: int) -> None:
    activations = _activations(node)
    known = [DEFAULTS[node.op] * directions, ("relu",) * directions if node.op == "RNN" else ()]
    if activations and activations not in known:
        raise node.refuse(f"with activations {', '.join(activations)}")
    if "clip" in node.attrs or node.attrs.get("input_forget", 0):
        raise node.refuse("with clip or coupled gates")
    if node.has(4) or node.has(7):
        raise node.refuse("with sequence lengths" if node.has(4) else "with peepholes")
    if not (node.is_constant(1) and node.is_constant(2)):
        raise node.refuse("with weights computed at run time")


@operator("GRU", "LSTM", "RNN")
def recurrent(node: Node) -> Call:
    """GRU, LSTM, RNN (opset 7 to 22): X (time, batch, in) to Y (time, directions, batch, hidden) and last states.

    With layout=1 (opset 14) the batch comes first everywhere: X (batch, time, in), Y (batch, time, directions, hidden).
    """
    call = _time_first(node)
    if not node.attrs.get("layout", 0):
        return call

    def batch_first(x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        y, *last = call(x.transpose(0, 1), *[state.transpose(0, 1) for state in states])
        return (y.permute(2, 0, 1, 3), *[state.transpose(0, 1) for state in last])

    return batch_first


def _time_first(node: Node) -> Call:
    direction, hidden = node.attrs.get("direction", "forward"), int(node.attrs["hidden_size"])
    both, backwards = direction == "bidirectional", direction == "reverse"
    directions = 2 if both else 1
    _check(node, directions)
    if node.op == "GRU" and not node.attrs.get("linear_before_reset", 0):
        return _gru_reset_first(node, hidden, directions, backwards)
    flat = _flat_weights(node, hidden)
    plain = torch.rnn_relu if "relu" in _activations(node) else torch.rnn_tanh
    function: Any = {"GRU": torch.gru, "LSTM": torch.lstm, "RNN": plain}[node.op]
    given = [i for i in (5, 6) if node.has(i)]

    def call(x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        zeros = x.new_zeros((directions, x.shape[1], hidden))
        named = dict(zip(given, states, strict=False))
        first: Any = named.get(5, zeros)
        if node.op == "LSTM":
            first = [first, named.get(6, zeros)]
        x = torch.flip(x, (0,)) if backwards else x
        y, *last = function(x, first, flat, True, 1, 0.0, False, both, False)
        y = y.reshape(y.shape[0], y.shape[1], directions, hidden).transpose(1, 2)
        return (torch.flip(y, (0,)) if backwards else y, *last)

    return call


def _gru_reset_first(node: Node, hidden: int, directions: int, backwards: bool) -> Call:
    """GRU that resets the state before its matrix product, which torch has no kernel for: step by step."""
    W, R = node.tensor(1), node.tensor(2)
    B = node.tensor(3) if node.has(3) else W.new_zeros(directions, 6 * hidden)

    def run(x: Tensor, h: Tensor, d: int) -> tuple[Tensor, Tensor]:
        projected = torch.matmul(x, W[d].t()) + B[d][: 3 * hidden]
        zr, n = 2 * hidden, 3 * hidden
        steps = []
        for row in projected.unbind(0):
            gates = torch.sigmoid(row[:, :zr] + torch.matmul(h, R[d][:zr].t()) + B[d][n : n + zr])
            z, r = gates[:, :hidden], gates[:, hidden:]
            new = torch.tanh(row[:, zr:] + torch.matmul(r * h, R[d][zr:].t()) + B[d][n + zr :])
            h = (1 - z) * new + z * h
            steps.append(h)
        return torch.stack(steps), h

    def call(x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        ys, lasts = [], []
        for d in range(directions):
            turn = backwards or d == 1
            start = x.new_zeros((x.shape[1], hidden)) if state is None else state[d]
            y, last = run(torch.flip(x, (0,)) if turn else x, start, d)
            ys.append(torch.flip(y, (0,)) if turn else y)
            lasts.append(last)
        return torch.stack(ys, 1), torch.stack(lasts)

    return call
