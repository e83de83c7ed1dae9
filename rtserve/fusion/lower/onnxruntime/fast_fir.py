r"""Fast FIR: two outputs of a long convolution at once, with fewer products.

A filter of r taps gives two neighbouring outputs from r + 1 samples with r + 1 products instead of 2 r (Toom and Cook;
Winograd's F(2, r)): samples and taps are read as polynomials, evaluated at r points and at infinity, multiplied there, and
interpolated,

.. math:: y = A^T\,[(G g) \odot (B^T d)].

Here each "product" is a dense step over channels, so its saving is real: :math:`B^T d` is a depthwise filter per point,
:math:`G g` are changed weights, and :math:`A^T` is a few sums. A convolution of stride s is s filters, one on each phase
of its input. More than four taps are groups of four; the groups read the same :math:`B^T d`, two places further on.

The outputs come as two phases, even and odd. They stay apart up to the next convolution of even stride, which reads
phases as they are (`rtserve.fusion.lower.onnxruntime.phases`); where nothing like that follows, they are put in turn
again. Where the sums would cost more than the products saved, the convolution stays.

A sample that is not finite spoils both outputs of its tile, also where only one of them read it; the outputs of a window
that the network reads whole are as finite as before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial, reduce
from math import inf
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import BLOCK, COSTS, filled
from rtserve.fusion.ir.conv import Conv1d, conv_of
from rtserve.fusion.ir.passes import PassResult, Refused
from rtserve.fusion.lower.onnxruntime.channels import on_blocks, parts, summed
from rtserve.fusion.lower.onnxruntime.phases import Phases, absorb, reaches, strided
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede
from rtserve.graphs.macs import renew_shapes, shapes_at

__all__ = ["run", "toom_cook", "wants"]

PREFIX = "fir"
TILE = 2
"""Outputs computed together."""
POINTS = (0.0, 1.0, -1.0, 2.0)
"""Where polynomials are evaluated, besides infinity; small numbers keep the rounding small."""
LONGEST = len(POINTS)
SHORTEST = 3
_Term = tuple[Any, np.ndarray]
"""Samples evaluated at a point, and the weights changed for it, their groups last."""


@cache
def toom_cook(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A^T (2, n), G (n, taps) and B^T (n, n), n = taps + 1, infinity last, in float64."""
    points, n = np.array(POINTS[:taps]), taps + TILE - 1
    a, g, b = np.zeros((TILE, n)), np.zeros((n, taps)), np.zeros((n, n))
    apart = points[:, None] - points + np.eye(taps)
    a[:, :taps] = np.vander(points, TILE, increasing=True).T
    g[:taps] = np.vander(points, taps, increasing=True) / apart.prod(axis=1, keepdims=True)
    b[:taps, :taps] = [np.atleast_1d(np.poly(np.delete(points, k)))[::-1] for k in range(taps)]
    a[-1, -1] = g[-1, -1] = 1.0
    b[-1] = np.poly(points)[::-1]
    return a, g, b


def filters_of(conv: Conv1d) -> list[tuple[int, np.ndarray]]:
    """Return the stride-1 filters that a strided convolution is, one for each phase of its input that it reads.

    Each with the sample that its first tap reads, and its taps, (outputs, channels, groups, taps of a group).
    """
    filters = []
    for phase, first, taps in conv.phases(conv.stride):
        size = min(taps.shape[2], LONGEST)
        padded = np.pad(taps.astype(np.float64), ((0, 0), (0, 0), (0, -taps.shape[2] % size)))
        filters.append((first * conv.stride + phase, padded.reshape(*taps.shape[:2], -1, size)))
    return filters


def pays(conv: Conv1d, windows: int = 1, *, in_turn: bool = False) -> bool:
    """Whether the products saved cost clearly more time than the sums and nodes added.

    Parameters
    ----------
    conv : Conv1d
        The convolution.
    windows : int
        How many windows it works on where the graph gets one: views stand on its batch axis.
    in_turn : bool
        Whether its outputs must be put in turn again.
    """
    outputs, channels = conv.weight.shape[:2]
    if conv.dilation not in (1, conv.stride) or conv.taps < SHORTEST:
        return False
    if channels % BLOCK or outputs // conv.group % BLOCK:
        return False
    shapes = [taps.shape[2:] for _, taps in filters_of(conv)]
    products = conv.taps * TILE - sum(groups * (taps + 1) for groups, taps in shapes)
    columns = windows * conv.rows * conv.n_out / TILE
    points = sum(taps + 1 for _, taps in shapes)
    column_us = points * channels * conv.group * COSTS.depthwise_us + in_turn * TILE * outputs * COSTS.output_in_turn_us
    added_us = (2 * points + 4 + 6 * in_turn) * COSTS.node_us + columns * column_us
    return bool(outputs * channels * columns * products / COSTS.macs_per_us > 1.5 * added_us)


def run(model: ir.Model) -> PassResult:
    """Rewrite every convolution that pays, in place: first those whose outputs can stay in two phases."""
    result = PassResult()
    phased, whole, theirs = 0, 0, list(model.graph)  # what is written here is not looked at again
    while found := _in_phases(model, result):  # convolutions read phases, and their outputs may stay in phases again
        phased += found
        renew_shapes(model)
    paying = _paying(model)
    for conv in map(conv_of, [node for node in theirs if node.graph is not None]):
        if conv is not None and paying(conv, in_turn=True):
            emit, whole = Emitter(model.graph, before=conv.node, prefix=PREFIX), whole + 1
            supersede(model, conv.node.outputs[0], summed(emit, conv, partial(_in_turn, emit)))
        elif conv is not None and conv.taps >= SHORTEST and conv.group == 1:
            result.refused.append(Refused("too small, or its channels fill no blocks").at(conv.node))
    result.changed, result.did = phased + whole, f"{phased} convolutions in phases, {whole} put in turn again"
    return result


def _in_phases(model: ir.Model, result: PassResult) -> int:
    """Let every convolution of even stride that can read phases do so; return how many give their outputs in phases."""
    phased, paying = 0, _paying(model)
    for conv in map(conv_of, list(model.graph)):
        if conv is None or conv.stride % TILE or not reaches(conv.node, paying):
            continue
        with result.at(conv.node):
            emit = Emitter(model.graph, before=conv.node, prefix=PREFIX)
            phases = Phases(emit, TILE, partial(_in_two, emit, paying))
            supersede(model, conv.node.outputs[0], absorb(emit, conv, phases))
            phased += phases.fast
    return phased


def wants(model: ir.Model, node: ir.Node) -> bool:
    """Whether this pass would rewrite a convolution or what it reads, were its input left as it is."""
    paying, conv = _paying(model), conv_of(node)
    return conv is not None and not conv.stride % TILE and (paying(conv) or reaches(node, paying))


def _paying(model: ir.Model) -> Callable[..., bool]:
    """Return what says of a convolution of a model whether it `pays`."""
    shapes = shapes_at(model, 1)

    def paying(conv: Conv1d, *, in_turn: bool = False) -> bool:
        blocks = _filled(on_blocks(conv)) if in_turn else on_blocks(conv)
        return pays(blocks, max((shapes.get(conv.node.outputs[0].name) or [1])[0], 1), in_turn=in_turn)

    return paying


def _filled(conv: Conv1d) -> Conv1d:
    """Return a convolution with outputs of zero up to whole blocks, as the engine fills them up in any case."""
    weight, bias = filled(conv.weight, conv.bias)
    return replace(conv, weight=weight, bias=bias)


def _in_turn(emit: Emitter, conv: Conv1d) -> ir.Value:
    """Return one convolution by itself: even and odd outputs side by side, then in turn."""
    outputs, n = len(conv.weight), -(-conv.n_out // TILE)
    both = emit("Concat", *fast(emit, _filled(conv)), axis=3)
    both = both if outputs % BLOCK == 0 else emit.slice(both, 1, 0, outputs)
    pairs = emit("Transpose", emit("Reshape", both, [-1, outputs * conv.rows, TILE, n]), perm=[0, 1, 3, 2])
    y = emit("Reshape", pairs, [-1, outputs, conv.rows, TILE * n])
    return y if TILE * n == conv.n_out else emit.slice(y, 3, 0, conv.n_out)


def _in_two(emit: Emitter, paying: Callable[..., bool], conv: Conv1d) -> list[ir.Value] | None:
    """Return what `fast` does of any channels, those that fill no blocks by strides; None where it does not pay."""
    if not paying(conv):
        return None
    conv, *rest = parts(emit, conv)
    both = fast(emit, conv)
    for part in rest:
        more = strided(emit, part, [-(-conv.n_out // TILE)] * TILE)
        both = [emit("Add", *pair) for pair in zip(both, more, strict=True)]
    return both


def fast(emit: Emitter, conv: Conv1d) -> list[ir.Value]:
    """Return the even and the odd outputs of a convolution, both of ceil(n_out / 2) samples."""
    n, bare = -(-conv.n_out // TILE), replace(conv, bias=None)
    terms: dict[float, list[_Term]] = {}
    for first, taps in filters_of(conv):
        groups, size = taps.shape[2:]
        _, weights, samples = toom_cook(size)
        for point, row, weight in zip((*POINTS[:size], inf), samples, weights, strict=True):
            d = _depthwise(emit, conv, row, first, n + TILE * (groups - 1))
            terms.setdefault(point, []).append((d, np.einsum("ocgj,j->ocg", taps, weight)))
    inner = {point: _chain(emit, bare, terms[point], None) for point in POINTS[1:] if point in terms}
    even = reduce(partial(emit, "Add"), inner.values()) if inner else None
    odd = inner.get(1.0)
    for point in [point for point in inner if point != 1.0]:  # times the point, which a depthwise step leaves in blocks
        factor = np.full((len(conv.weight), 1, 1, 1), point, np.float32)
        odd = emit("Add", emit("Conv", inner[point], factor, group=len(conv.weight)), odd)
    return [_chain(emit, conv, terms[point], total) for point, total in ((0.0, even), (inf, odd))]


def _depthwise(emit: Emitter, conv: Conv1d, row: np.ndarray, first: int, n: int) -> ir.Value:
    """Return sum_u row[u] x[2 s i + first + s u] for i below n: the same short filter on every channel."""
    used = np.flatnonzero(row)
    kernel = np.tile(row[used[0] : used[-1] + 1], (conv.channels, 1, 1))
    short = replace(
        conv, weight=kernel, bias=None, group=conv.channels, stride=TILE * conv.stride, dilation=conv.stride
    )
    return short.from_sample(first + conv.stride * int(used[0]), n).emit(emit)


def _chain(emit: Emitter, conv: Conv1d, pairs: list[_Term], total: ir.Value | None) -> ir.Value:
    """Return the sum of dense steps and of `total`; one convolution each, which the engine adds up as it goes."""
    for number, (d, weight) in enumerate(pairs):
        bias = None if number else conv.bias
        y = replace(conv, weight=weight, bias=bias, stride=1, dilation=TILE, left=0, right=0).emit(emit, d)
        total = y if total is None else emit("Add", y, total)
    return total  # type: ignore[return-value]
