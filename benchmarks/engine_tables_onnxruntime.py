"""What measures onnxruntime's table: each constant as the pass that reads it means it.

A constant that stands for a piece of work is the slope of the time over how much of it there is, others the difference of
two ways of one computation; a threshold is the size from which the rewrite's form beats the plain one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import onnx_ir as ir
from engine_tables_micro import Form, Measure, Times, Unmeasured, bend, conv, crossing, moved, small_nodes, wide

from rtserve.fusion.ir.conv import Conv1d
from rtserve.fusion.program.affine_end import _corrections  # the pass's own nodes
from rtserve.graphs.emit import Emitter

__all__ = ["MEASURES"]

T = 200
"""Samples of a window where nothing else is said."""


def _measure(name: str, how: str, forms: Any, constant: Any, ladder: Any = ()) -> Measure:
    return Measure(name=f"onnxruntime.{name}", how=how, forms=forms, constant=constant, ladder=ladder)


def _grid(body: Any, n_chans: int, n_times: int, *sizes: Any) -> dict[Any, Form]:
    """Return a form for every combination of sizes, which its body gets behind the window."""
    return {
        key: Form(body=lambda emit, x, key=key: body(emit, x, *key), n_chans=n_chans, n_times=n_times)
        for key in product(*sizes)
    }


def _along(body: Any, n_chans: int, rows: Any, times: Any) -> dict[Any, Form]:
    """Return a form for every pair of a first size and a number of samples."""
    return {
        (row, n): Form(body=lambda emit, x, row=row: body(emit, x, row), n_chans=n_chans, n_times=n)
        for row, n in product(rows, times)
    }


# products


def _blocked(emit: Emitter, x: ir.Value, taps: int, *, outputs: int, group: int = 1) -> ir.Value:
    front = conv(emit, wide(emit, x), (64, 16, 1, 1))
    return conv(emit, front, (outputs, 64 // group, 1, taps), group=group)


def _rate(name: str, what: str, few: int, many: int, *, outputs: int, group: int = 1, counted: int = 0) -> Measure:
    """Return how many multiply-adds more taps on 64 channels are a microsecond, of filters as many as are counted."""
    macs = (counted or outputs) * 64 // group * T * (many - few)
    return _measure(
        name, f"{what}, 64 channels, {T} samples: {few} and {many} taps",
        _grid(partial(_blocked, outputs=outputs, group=group), 16, T, (few, many)),
        lambda us: macs / (us[(many,)] - us[(few,)]),
    )  # fmt: skip


TURNED = 4 * T
"""Sums that a tap of a transposed convolution of four filters adds up."""


def _turned(emit: Emitter, x: ir.Value, taps: int) -> ir.Value:
    channels, kernel = int(x.shape[1]), np.random.default_rng(0).standard_normal  # type: ignore[index,arg-type]
    pads = [0, taps // 2, 0, taps // 2]
    return emit("ConvTranspose", wide(emit, x), kernel((channels, 4, 1, taps)).astype(np.float32), pads=pads)


TURNED_FORMS = {
    (channels, taps): Form(body=lambda emit, x, taps=taps: _turned(emit, x, taps), n_chans=channels, n_times=T)
    for channels, taps in product((32, 128), (5, 25))
}


def _per_sum(us: Times, channels: int) -> float:
    return (us[channels, 25] - us[channels, 5]) / (20 * TURNED)


def _turned_rate(us: Times) -> float:
    return (128 - 32) / (_per_sum(us, 128) - _per_sum(us, 32))


def _unfolded(emit: Emitter, x: ir.Value, filters: int, taps: int) -> ir.Value:
    return conv(emit, wide(emit, x), (filters, 129, 1, taps))


def _unfolded_us(us: Times) -> float:
    few, many = ((us[n, 25] - us[n, 5]) / (20 * 129 * T) for n in (4, 12))
    return few - 4 * (many - few) / (12 - 4)


def _stacked(emit: Emitter, x: ir.Value, way: str, outputs: int) -> ir.Value:
    weight = np.random.default_rng(0).standard_normal((5, 128, outputs)).astype(np.float32)
    x = emit("Reshape", x, [-1, 5, 8, 128])
    if way == "stack":
        return emit("MatMul", x, weight)
    parts = emit.many("Split", x, [1] * 5, n=5, axis=1)
    return emit("Concat", *(emit("MatMul", part, one) for part, one in zip(parts, weight, strict=True)), axis=1)


# copies


def _of_window(emit: Emitter, x: ir.Value, way: str, taps: int) -> ir.Value:
    if way == "plane":
        return conv(emit, emit("Unsqueeze", x, [1]), (16, 1, 129, taps))
    blocks, rest = (wide(emit, part) for part in emit.many("Split", x, [128, 1], n=2, axis=1))
    return emit("Add", conv(emit, blocks, (16, 128, 1, taps)), conv(emit, rest, (16, 1, 1, taps)))


def _window_us(us: Times) -> float:
    """What the two ways differ by with no taps left, from 3 and 9."""
    split, plane = (us[way, 3] - (us[way, 9] - us[way, 3]) / 2 for way in ("split", "plane"))
    return split - plane


def _short_steps(emit: Emitter, x: ir.Value, n: int) -> ir.Value:
    y = conv(emit, wide(emit, x), (64, 16, 1, 1))
    for k in range(n):
        y = conv(emit, y, (64, 1, 1, 3), group=64, seed=k)
    return y


def _placed(emit: Emitter, x: ir.Value, parts: int, views: int) -> ir.Value:
    y, total = conv(emit, wide(emit, x), (64, 16, 1, 1)), None
    for top in range(parts):
        kernel = np.full((64, 1, 1, 1), 0.5 + top, np.float32)
        part = emit("Conv", y, kernel, group=64, pads=[top, 0, views - 1 - top, 0])
        total = part if total is None else emit("Add", part, total)
    return total  # type: ignore[return-value]


def _gathered(emit: Emitter, x: ir.Value, rows: int) -> ir.Value:
    return emit("Gather", x, np.random.default_rng(0).integers(0, T, rows), axis=1)


def _row_us(us: Times) -> float:
    """A row of no width, from 16 and 64."""
    narrow, broad = ((us[1000, n] - us[200, n]) / 800 for n in (16, 64))
    return narrow - 16 * (broad - narrow) / (64 - 16)


def _apart(emit: Emitter, x: ir.Value, phases: int) -> ir.Value:
    n = int(x.shape[2])  # type: ignore[index,arg-type]
    return moved(emit, x, [-1, 64, n // phases, phases], (0, 3, 1, 2))


def _in_turn(emit: Emitter, x: ir.Value, phases: int) -> ir.Value:
    n = int(x.shape[2])  # type: ignore[index,arg-type]
    return moved(emit, x, [-1, phases, 8, 16, n // 16], (0, 2, 3, 4, 1))


def _two_phases(emit: Emitter, x: ir.Value, way: str) -> ir.Value:
    n, front = int(x.shape[2]), conv(emit, wide(emit, x), (64, 16, 1, 1))  # type: ignore[index,arg-type]
    both = [conv(emit, front, (64, 64, 1, 1), seed=k) for k in (1, 2)]
    if way == "turned":
        y = moved(emit, emit("Concat", *both, axis=3), [-1, 64, 2, n], (0, 1, 3, 2))
        return conv(emit, emit("Reshape", y, [-1, 64, 1, 2 * n]), (64, 64, 1, 1))
    return emit("Concat", *(conv(emit, y, (64, 64, 1, 1)) for y in both), axis=3)


POOLS = ("AveragePool", "MaxPool")


def _pooled(emit: Emitter, x: ir.Value, kind: str) -> ir.Value:
    n = int(x.shape[2])  # type: ignore[index,arg-type]
    return emit(kind, emit("Reshape", x, [-1, 8, 16, n]), kernel_shape=[1, 8], strides=[1, 8])


def _pooled_us(us: Times) -> float:
    return sum(us[kind, 320] - us[kind, 80] for kind in POOLS) / (2 * 128 * 240)


def _blocks_pooled(emit: Emitter, x: ir.Value, n: int) -> ir.Value:
    """Return the sum of n pools of one signal, which the engine takes for different ones."""
    y, total = conv(emit, wide(emit, x), (64, 16, 1, 1)), None
    ways: tuple[Any, ...] = (("AveragePool", {}), ("AveragePool", {"count_include_pad": 1}), ("MaxPool", {}))
    for kind, more in ways[:n]:
        part = emit(kind, y, kernel_shape=[1, 8], strides=[1, 8], **more)
        total = part if total is None else emit("Add", part, total)
    return total  # type: ignore[return-value]


def _one_filter(emit: Emitter, x: ir.Value, way: str, views: int) -> ir.Value:
    """Return views of a filter's output, corrected, or each as if it needed no correction."""
    shifts = [sign * (3 + k // 2) for k, sign in zip(range(views), (1, -1) * views, strict=False)]
    u = conv(emit, wide(emit, x), (64, 16, 1, 1))
    weight = np.random.default_rng(0).standard_normal((64, 1, 64)).astype(np.float32)
    tap = Conv1d(weight=weight, group=64, left=32, right=31, n_in=T)
    back, ahead = max(shifts), -min(shifts)
    whole = replace(tap, left=tap.left + back, right=tap.right + ahead).emit(emit, u)
    if way == "bare":
        return emit("Concat", *[emit.slice(whole, 3, back, back + T)] * views, axis=2)
    corrected = emit("Add", _corrections(emit, u, tap, [(shift, True) for shift in shifts], back, ahead), whole)
    cut = [emit("Slice", corrected, [k, back - s], [k + 1, back - s + T], [0, 4]) for k, s in enumerate(shifts)]
    return emit("Concat", *(emit("Reshape", part, [-1, 64, 1, T]) for part in cut), axis=2)


CORRECTED = _grid(_one_filter, 16, T, ("shared", "bare"), (2, 8))


def _view_corrected(us: Times) -> float:
    return bend(us, ("bare", "shared"), (2, 8)) / 6


def _pieces(emit: Emitter, x: ir.Value, pieces: int, size: int) -> ir.Value:
    cut = emit("Reshape", x, [-1, 129, 400 // size, size])
    taken = emit("Gather", cut, np.arange(pieces) * (400 // size) // pieces, axis=2)
    return emit("Reshape", emit("Transpose", taken, perm=[0, 2, 3, 1]), [-1, pieces * size, 129])


def _piece(us: Times) -> float:
    small, large = ((us[16, size] - us[4, size]) / 12 for size in (4, 20))
    turned = (large - small) / (20 - 4)
    return small / turned - 4


# the cache

VIEWS, STEPS = 8, 6
HELD = tuple(1 << k for k in range(17, 23))
"""Numbers that a node reads and writes."""
AWAY = 1 << 20
"""So many that a view's are near where all views' are not."""


def _held(emit: Emitter, x: ir.Value, way: str) -> ir.Value:
    """Return views behind depthwise steps, all on the batch, or each by itself."""
    factors, ends = np.linspace(0.9, 1.1, VIEWS, dtype=np.float32).reshape(VIEWS, 1, 1, 1), []
    for factor in [factors] if way == "once" else factors:
        y = emit("Mul", wide(emit, x), factor[None] if factor.ndim < 4 else factor)
        for k in range(STEPS):
            y = conv(emit, y, (64, 1, 1, 3), group=64, seed=k)
        ends.append(emit.slice(emit("Flatten", y, axis=1), 1, 0, 1))
    return ends[0] if way == "once" else emit("Concat", *ends, axis=1)


HELD_FORMS = {
    (way, size): Form(
        body=lambda emit, x, way=way: _held(emit, x, way), n_chans=64, n_times=size // (2 * 64 * VIEWS)
    )
    for way, size in product(("once", "apart"), HELD)
} | _grid(small_nodes, 1, 16, (8, 72))  # fmt: skip


def _spilled(us: Times) -> float:
    """What a number costs more at once, the nodes of branches apart taken off."""
    nodes = (VIEWS - 1) * (STEPS + 5) * (us[(72,)] - us[(8,)]) / 64
    return (us["once", AWAY] - us["apart", AWAY] + nodes) / ((STEPS + 1) * AWAY)


# thresholds


def _elu(emit: Emitter, x: ir.Value, way: str) -> ir.Value:
    if way == "plain":
        return emit("Elu", x)
    below = emit("Exp", emit("Clip", x, None, np.float32(0.0)))
    return emit("Max", x, emit("Add", below, np.float32(-1.0)))


def _filled(emit: Emitter, x: ir.Value, way: str) -> ir.Value:
    kernel = np.random.default_rng(0).standard_normal((8, 1, 1, 25)).astype(np.float32)
    kernel = np.concatenate([kernel, np.zeros_like(kernel)]) if way == "other" else kernel
    y = emit("Conv", emit("Unsqueeze", x, [1]), kernel, pads=[0, 12, 0, 12])
    y = emit("MaxPool", y, kernel_shape=[1, 8], strides=[1, 8])
    return emit.slice(y, 1, 0, 8) if way == "other" else y


def _planes(emit: Emitter, x: ir.Value, way: str) -> ir.Value:
    n = int(x.shape[2])  # type: ignore[index,arg-type]
    if way == "plain":
        return emit("MaxPool", emit("Unsqueeze", x, [3]), kernel_shape=[3, 1], strides=[3, 1])
    y = emit("Reshape", x, [-1, 4 * n // 3, 3, 1])
    return emit("Reshape", emit("MaxPool", y, kernel_shape=[3, 1], strides=[3, 1]), [-1, 4, n // 3, 1])


def _threshold(name: str, how: str, body: Any, n_chans: int, per_sample: int, ladder: tuple[int, ...]) -> Measure:
    """Return from how many elements a form is faster; a sample of the window makes so many of them."""
    forms = {
        (way, size): Form(
            body=lambda emit, x, way=way: body(emit, x, way), n_chans=n_chans, n_times=size // per_sample
        )
        for way, size in product(("plain", "other"), ladder)
    }  # fmt: skip
    return _measure(name, how, forms, lambda us: crossing(us, ladder), ladder)


MEASURES = (
    _rate("macs_per_us", "64 filters", 3, 15, outputs=64),
    _rate("depthwise_macs_per_us", "one filter a channel", 8, 64, outputs=64, group=64),
    _rate("narrow_macs_per_us", "8 filters, counted as 16", 5, 25, outputs=8, counted=16),
    _measure("turned_macs_per_us", "a transposed convolution of 4 filters: 32 and 128 channels by 5 and 25 taps",
             TURNED_FORMS, _turned_rate),
    _measure("unfolded_us", "4 and 12 filters over 129 channels by 5 and 25 taps: what no filter costs",
             _grid(_unfolded, 129, T, (4, 12), (5, 25)), _unfolded_us),
    _measure("added_us", "a transposed convolution of 4 filters: what no channel costs",
             TURNED_FORMS, lambda us: _per_sum(us, 32) - 32 / _turned_rate(us)),
    _measure("unpacked_us", "8 rows by 5 matrices of 128 by 32 and by 160, as a stack and one by one",
             _grid(_stacked, 5 * 8, 128, ("apart", "stack"), (32, 160)),
             lambda us: bend(us, ("apart", "stack"), (32, 160)) / (5 * 128 * 128)),
    _measure("node_us", "8 and 72 of Add, Slice, Mul and Concat on 16 numbers",
             _grid(small_nodes, 1, 16, (8, 72)), lambda us: (us[(72,)] - us[(8,)]) / 64),
    _measure("window_us", "16 filters of 3 and 9 taps, split and as a plane: what differs with no taps",
             _grid(_of_window, 129, T, ("split", "plane"), (3, 9)), _window_us),
    _measure("depthwise_us", "1 and 5 depthwise steps of 3 taps on 64 channels by 100 and 400 samples",
             _along(_short_steps, 16, (1, 5), (100, 400)),
             lambda us: bend(us, (1, 5), (100, 400)) / (4 * 64 * 300)),
    _measure("placed_us", f"2 and 4 convolutions that place 64 channels of {T} samples among 4 and 12 views",
             _grid(_placed, 16, T, (2, 4), (4, 12)), lambda us: bend(us, (2, 4), (4, 12)) / (2 * 8 * 64 * T)),
    _measure("gathered_row_us", "200 and 1000 rows of 16 and 64: what a row of none costs",
             _along(_gathered, T, (200, 1000), (16, 64)), _row_us),
    _measure("apart_us", "64 channels of 200 and 800 samples in 4 phases",
             _along(_apart, 64, (4,), (200, 800)), lambda us: (us[4, 800] - us[4, 200]) / (64 * 600)),
    _measure("in_turn_us", "32 channels of 256 and 1024 samples out of 4 phases",
             _along(_in_turn, 32, (4,), (256, 1024)), lambda us: (us[4, 1024] - us[4, 256]) / (32 * 768)),
    _measure("output_in_turn_us", "64 channels of 100 and 400 samples in two phases, in turn for the next step and apart",
             _along(_two_phases, 16, ("apart", "turned"), (100, 400)),
             lambda us: bend(us, ("apart", "turned"), (100, 400)) / (2 * 64 * 300)),
    _measure("pooled_us", "an average and a maximum of 8 on 8 channels, 16 rows of 80 and 320 samples: between both",
             _along(_pooled, 128, POOLS, (80, 320)), _pooled_us),
    _measure("block_pooled_us", "1 and 3 pools of 8 on 64 channels by 200 and 800 samples: an average and a maximum",
             _along(_blocks_pooled, 16, (1, 3), (200, 800)),
             lambda us: bend(us, (1, 3), (200, 800)) / (2 * 64 * 600)),
    _measure("corrected_us", "a filter of 64 taps on 64 channels for 2 and 8 rolls: what no view costs", CORRECTED,
             lambda us: us["shared", 2] - us["bare", 2] - 2 * _view_corrected(us)),
    _measure("view_corrected_us", "the same: what a view costs", CORRECTED, _view_corrected),
    _measure("cached_numbers", f"{STEPS} depthwise steps on {VIEWS} views: from where apart is faster than at once",
             HELD_FORMS, lambda us: crossing(us, HELD, plain="once", other="apart"), HELD),
    _measure("spilled_us", f"the same at {AWAY:,} numbers, without the nodes", HELD_FORMS, _spilled),
    _measure("piece_samples", "4 and 16 pieces of 4 and 20 samples of 129 channels, turned",
             _grid(_pieces, 129, 400, (4, 16), (4, 20)), _piece),
    _threshold("exp_from", "Elu, and by Exp", _elu, 1, 1, (200, 400, 800, 1600, 3200)),
    _threshold("filled_pool_from", "8 filters of 25 taps on 4 rows in front of a maximum of 8, and 16", _filled, 4, 32,
               (320, 640, 1280, 2560, 5120, 10_240, 20_480, 40_960)),
    _threshold("plane_pool_from", "a maximum of 3 samples on 4 channels, time on the last axis but one, and on planes",
               _planes, 4, 4, (384, 768, 1536, 3072, 6144, 12_288)),
    Unmeasured(name="onnxruntime.BLOCK", reason="a fact of the engine's layout, no time"),
)  # fmt: skip
