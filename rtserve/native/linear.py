"""Convolutions and dense layers, as calls of the dense and the depthwise kernel.

Every one of them is out[row][channel] = bias[channel] + sum over k of in[row][k] w[k][channel], where a row is a place of
the output and its k lie at three steps over the input. Rows are taken along the longest axis of the output, in blocks as
equal as they can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from rtserve.native.costs import CACHE_BYTES, MACS_PER_NS
from rtserve.native.fast import Plan, choose
from rtserve.native.flow import Operation, Unsupported
from rtserve.native.shares import parts_for, parts_of
from rtserve.native.taps import MOST_LOOPS, WIDEST, Taps
from rtserve.native.tiled import write_fast
from rtserve.native.together import Layer, together
from rtserve.native.view import View
from rtserve.native.writer import Padded, Writer, operator

__all__ = ["around_input", "convolve", "dense", "emit_relu", "prepare_convolutions"]

FEW, LONG = 4, 64
"""Channels that leave most of a vector empty, and from how many k in a row on those are taken a vector at a time instead."""
TWICE = 2
"""Kernels for each channel up to which a depthwise layer reads its samples where they are, and not copies of them."""
FEWEST = 13
"""Rows of a part: from so many on a block of no instruction set takes its k in several sums."""


def emit_relu(writer: Writer, out: str) -> tuple[str, bool]:
    """Return the value behind a Relu that alone reads `out`, and whether there is one; it is done by the kernel then."""
    reader = writer.only_reader(out)
    if reader is None or reader.op != "Relu":
        return out, False
    writer.done.add(reader.outputs[0])
    return reader.outputs[0], True


def prepare_convolutions(writer: Writer, *, tiles: bool) -> None:
    """Say of every convolution how it will be computed and what padding it wants, before anything is written.

    Parameters
    ----------
    writer : Writer
        Where to.
    tiles : bool
        Whether tiles may be used where they are cheaper (`rtserve.native.fast`), or positions taken together.
    """
    layers = [
        (operation, weight, _along(weight)) for operation in writer.flow.operations if operation.op == "Conv"
        if (weight := writer.constant(operation.inputs[1])) is not None and weight.ndim <= 5
    ]  # fmt: skip

    def plans(*, streamed: bool) -> list[Plan]:
        return [choose(operation, weight, writer.shape(operation.outputs[0]), along, tiles=tiles, streamed=streamed)
                for operation, weight, along in layers]  # fmt: skip

    chosen = plans(streamed=False)
    if sum(plan.packed for plan in chosen) > CACHE_BYTES:
        chosen = plans(streamed=True)
    for (operation, weight, _), plan in zip(layers, chosen, strict=True):
        rank, shape = weight.ndim, writer.shape(operation.inputs[0])
        pads = operation.attrs.get("pads") or [0] * 2 * (rank - 2)
        pairs = {k + 2: (pads[k], pads[k + rank - 2]) for k in range(rank - 2)}
        fast = plan.fast
        if fast is not None:
            before, behind = pairs[fast.axis]
            pairs[fast.axis] = (before, max(behind, fast.reach - shape[fast.axis] - before))
        writer.convolutions[operation.outputs[0]] = Padded(fast=fast, pads=pairs, together=tiles)


def _along(weight: np.ndarray) -> int:
    """Return the axis of the value along which a kernel is longest."""
    return max(range(2, weight.ndim), key=lambda axis: weight.shape[axis])


@operator("Conv")
def conv(writer: Writer, operation: Operation) -> None:
    """A convolution over one to three axes, in groups, strided, dilated, padded with zeros."""
    weight = writer.constant(operation.inputs[1])
    if weight is None:
        raise operation.refuse("with a kernel computed from the window")
    rank, attrs = weight.ndim, operation.attrs
    if rank > 5:
        raise operation.refuse(f"over {rank - 2} axes")
    if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", b"NOTSET", b"VALID"):
        raise operation.refuse(f"with auto_pad {attrs['auto_pad']}")
    bias = writer.constant(operation.inputs[2]) if len(operation.inputs) > 2 and operation.inputs[2] else None
    if len(operation.inputs) > 2 and operation.inputs[2] and bias is None:
        raise operation.refuse("with a bias computed from the window")
    name, relu = emit_relu(writer, operation.outputs[0])
    shape, group = writer.shape(name), attrs.get("group", 1)
    plan = writer.convolutions[operation.outputs[0]]
    x = around_input(writer, operation.inputs[0], plan)
    target = writer.padded(shape, [0, *range(2, rank), 1], writer.wanted_zeros(name, rank))
    if plan.fast is not None:
        write_fast(writer, plan.fast, writer.inside(x), weight, bias, target, group, relu)
    else:
        convolve(writer, x, weight, bias, target, _places(operation, rank), group, relu, several=plan.together)
    writer.views[name] = target


def _places(operation: Operation, rank: int) -> list[tuple[int, int]]:
    """Return stride and dilation of each axis."""
    strides = operation.attrs.get("strides") or [1] * (rank - 2)
    dilations = operation.attrs.get("dilations") or [1] * (rank - 2)
    return list(zip(strides, dilations, strict=True))


def around_input(writer: Writer, name: str, plan: Padded) -> View:
    """Return an input from its first sample of padding on: where it lies otherwise in memory, a copy."""
    x = writer.view(name)
    deep = len(plan.pads) > 2  # of so many axes the channels must lie inside, so that three loops go through the taps
    if (plan.fast is not None or deep) and x.steps[1] != 1:
        x = _turned(writer, name, x, plan)
    elif _lacks(x, plan):
        padded = writer.padded(x.shape, x.order, plan.pads)
        writer.copy(x, padded)
        x = padded
    for axis, (before, behind) in plan.pads.items():
        x = x.cut(axis, -before, x.shape[axis] + before + behind)
    return x


def _lacks(x: View, plan: Padded) -> bool:
    """Whether there is less padding around a value than a convolution wants."""
    return any(x.zeros.get(a, (0, 0))[0] < before or x.zeros.get(a, (0, 0))[1] < behind
               for a, (before, behind) in plan.pads.items())  # fmt: skip


def _turned(writer: Writer, name: str, x: View, plan: Padded) -> View:
    """Return a value's copy with its channels inside and what padding any convolution wants; one for all of them.

    Tiles are read a vector at a time, so that a line begins with one; taps are one loop where lines have nothing behind.
    """
    even = 1 if plan.fast is not None else None
    known = writer.turned.get((name, even))
    if known is not None and not _lacks(known, plan):
        return known
    rank = len(x.shape)
    pads = dict(writer.wanted_zeros(name, rank))
    for axis, (before, behind) in plan.pads.items():
        mine = pads.get(axis, (0, 0))
        pads[axis] = (max(before, mine[0]), max(behind, mine[1]))
    copy = writer.padded(x.shape, [0, *range(2, rank), 1], pads, even=even)
    writer.copy(x, copy)
    writer.turned[name, even] = copy
    return copy


def convolve(
    writer: Writer, x: View, weight: np.ndarray, bias: np.ndarray | None, target: View,
    places: Sequence[tuple[int, int]], group: int, relu: bool, *, several: bool = False,
) -> None:  # fmt: skip
    """Write a convolution of x (1 or more, channels, ...) with a kernel (outputs, channels of a group, ...).

    `several`: neighbours may be computed at once (`rtserve.native.together`).
    """
    n_out, n_in = weight.shape[0] // group, weight.shape[1]
    deep = n_in == 1 and group > 1
    if deep and (n_out > TWICE or x.steps[1] != 1):
        x, n_out = _side_by_side(writer, x, n_out), 1
    x = writer.inside(x) if deep else x
    rows = x
    for k, (stride, _) in enumerate(places):
        rows = rows.cut(k + 2, 0, target.shape[k + 2], stride)
    taps = [
        (n, dilation * x.steps[k + 2])
        for k, (n, (_, dilation)) in enumerate(zip(weight.shape[2:], places, strict=True))
    ]
    if deep:
        writer.macs += target.shape[0] * prod(target.shape[2:]) * weight.size
        depthwise(writer, rows, weight, bias, target, taps, relu, times=n_out)
        return
    if Taps.loops([(n_in, x.steps[1]), *taps]) > MOST_LOOPS:
        raise Unsupported(f"Conv over {len(taps)} axes and channels that lie apart")
    layer = Layer(rows=rows, target=target, weight=weight, bias=bias)
    with writer.side_by_side():
        for part in together(layer, places) if several and group == 1 else [layer]:
            _grouped(writer, part, [(n_in, x.steps[1]), *taps], group, relu)


def _grouped(writer: Writer, layer: Layer, taps: Sequence[tuple[int, int]], group: int, relu: bool) -> None:
    """Write a convolution group by group; `taps` are how many there are of channels and each axis, as they lie in x."""
    rows, target, weight, bias = layer.rows, layer.target, layer.weight, layer.bias
    n_out, n_in = weight.shape[0] // group, weight.shape[1]
    counts = (n_in, *weight.shape[2:])
    writer.macs += target.shape[0] * prod(target.shape[2:]) * weight.size
    loops, order = Taps.of([(n, step) for n, (_, step) in zip(counts, taps, strict=True)])
    kernel = weight.reshape(group, n_out, *weight.shape[1:])
    flat = np.transpose(kernel, (0, 1, *[a + 2 for a in order])).reshape(group, n_out, -1)
    for g in range(group):
        dense(
            writer, rows.cut(1, g * n_in, 1), target.cut(1, g * n_out, n_out), loops, flat[g],
            None if bias is None else bias[g * n_out : (g + 1) * n_out], relu,
        )  # fmt: skip


def dense(
    writer: Writer, rows: View, target: View, taps: Taps, weight: np.ndarray, bias: np.ndarray | None, relu: bool
) -> None:
    """Write a dense layer.

    Parameters
    ----------
    writer : Writer
        Where to.
    rows : View
        Where each row's first k lies: one channel (axis 1), the other axes those of the output.
    target : View
        The output; its axis 1 are the channels, one behind the other.
    taps : Taps
        Where the k of a row lie.
    weight : ndarray, (channels, k)
        In the order of the taps.
    bias : ndarray or None, (channels,)
        Added.
    relu : bool
        Whether what is below zero becomes zero.
    """
    channels, k = weight.shape
    if channels <= FEW and taps.steps[2] == 1 and taps.counts[2] >= LONG:
        packed = writer.packed(weight, weight.size, f"memcpy({{packed}}, {{plain}}, {weight.size} * sizeof(float));")
        call_dense(writer, rows, target, taps, (packed.name, channels), writer.filled(bias), relu, kernel="RT_FEW")
        return
    packed = writer.packed(
        weight, f"RT_PACKED({k}, {channels})", f"rt_pack({{plain}}, 1, {k}, {k}, {channels}, {{packed}});"
    )
    call_dense(writer, rows, target, taps, (packed.name, channels), writer.filled(bias), relu)


def call_dense(
    writer: Writer, rows: View, target: View, taps: Taps, weight: tuple[str, int], bias: str, relu: bool, *more: View,
    kernel: str = "RT_LAYER",
) -> None:  # fmt: skip
    """Write the calls of the dense kernel, or of that for few channels, for weights that are packed; see `dense`."""
    axes = [a for a in range(len(target.shape)) if a != 1]
    along = max(axes, key=lambda a: target.shape[a])
    outer = [a for a in axes if a != along and target.shape[a] > 1]
    name, channels = weight

    def call(start: int, end: int, first: int, last: int) -> str:
        name_of = writer.kernel(kernel, end - start, rows.steps[along])
        return (
            f"{name_of}({_at('{0}', start * rows.steps[along])}, {taps}, {_at(name, first * taps.number)}, "
            f"{bias if bias == '0' else _at(bias, first)}, {_at('{1}', start * target.steps[along] + first)}, "
            f"{target.steps[along]}, {last - first}, {int(relu)});"
        )

    cost = prod(target.shape) * taps.number / MACS_PER_NS
    around(writer, outer, call, (target.shape[along], channels, WIDEST), cost, rows, target, *more)


def _at(place: str, offset: int) -> str:
    """Return a place so many numbers further on."""
    return f"{place} + {offset}" if offset else place


Call = Callable[[int, int, int, int], str]
"""Rows from and to, channels from and to: the call for them; ``{0}`` and ``{1}`` are where input and output begin."""


def around(
    writer: Writer, axes: Sequence[int], call: Call, sizes: tuple[int, int, int], cost: float, rows: View, target: View,
    *more: View,
) -> None:  # fmt: skip
    """Write a call in loops over axes; `sizes` are its rows, its channels, and at what multiple they may be parted."""
    starts = [
        " + ".join([str(view), *(f"i{a} * {view.steps[a]}" for a in axes if view.steps[a])]) for view in (rows, target)
    ]
    n, channels, panel = sizes
    loops = "".join(f"for (int i{a} = 0; i{a} < {target.shape[a]}; i{a}++) " for a in axes)
    text = f"{loops}{{ {call(0, n, 0, channels).format(*starts)} }}"
    steps: list[list[str]] = []
    if writer.shared:
        heads, each = _heads(axes, target, parts_for(cost))
        calls = [f"{{ {call(*part).format(*starts)} }}" for part in _parts(n, channels, panel, each)]
        steps = [[f"{head}{one}" for head in heads for one in calls]]
    writer.line(text, rows, target, *more, cost=cost, steps=steps)


def _heads(axes: Sequence[int], target: View, parts: int) -> tuple[list[str], int]:
    """Return loops over axes in parts by the first of them, and in how many parts each must be done further."""
    heads = [""]
    for k, a in enumerate(axes):
        ranges = parts_of(target.shape[a], parts) if k == 0 else [(0, target.shape[a])]
        heads = [f"{head}for (int i{a} = {start}; i{a} < {end}; i{a}++) " for head in heads for start, end in ranges]
    return heads, -(-parts // len(heads))


def _parts(n: int, channels: int, panel: int, parts: int) -> list[tuple[int, int, int, int]]:
    """Return parts of a call: channels by whole panels, else rows, so many that every block is summed as in the whole."""
    by_channels = parts_of(channels, parts, panel)
    if len(by_channels) >= parts or n < 2 * FEWEST:
        return [(0, n, first, last) for first, last in by_channels]
    by_rows = parts_of(n, min(-(-parts // len(by_channels)), n // FEWEST))
    if by_rows[-1][1] - by_rows[-1][0] < FEWEST:
        by_rows[-2:] = [(by_rows[-2][0], n)]
    return [(start, end, first, last) for first, last in by_channels for start, end in by_rows]


def depthwise(
    writer: Writer, rows: View, weight: np.ndarray, bias: np.ndarray | None, target: View,
    taps: Sequence[tuple[int, int]], relu: bool, *, times: int = 1,
) -> None:  # fmt: skip
    """Write a convolution in which every channel has a kernel (outputs, 1, ...) of its own, or two (`times`)."""
    channels = weight.shape[0]
    loops, order = Taps.of(taps)
    flat = np.moveaxis(np.transpose(weight[:, 0], (0, *[a + 1 for a in order])).reshape(channels, -1), 0, 1)
    k = loops.number
    packed = writer.packed(flat, f"RT_FILLED({channels}) * {k}", f"rt_fill({{plain}}, {k}, {channels}, {{packed}});")
    offset = writer.filled(bias)
    axes = [a for a in range(len(target.shape)) if a != 1]
    along = max(axes, key=lambda a: target.shape[a])
    outer = [a for a in axes if a != along and target.shape[a] > 1]
    n, lda, ldo = target.shape[along], rows.steps[along], target.steps[along]
    sliding = loops.counts[:2] == (1, 1) and loops.steps[2] == lda

    def call(start: int, end: int, first: int, last: int) -> str:
        kernel = writer.kernel("RT_SLIDE" if sliding else "RT_DEPTH", end - start, times)
        return (
            f"{kernel}({_at('{0}', start * lda)}, {lda}, {k if sliding else loops}, {packed.name}, {offset}, "
            f"{_at('{1}', start * ldo)}, {ldo}, {last - first}, {int(relu)});"
        )

    cost = prod(target.shape) * k / MACS_PER_NS
    around(writer, outer, call, (n, channels, channels), cost, rows, target)


def _side_by_side(writer: Writer, x: View, times: int) -> View:
    """Return a copy with its channels one behind the other, each as often as it has kernels."""
    n, channels, *rest = x.shape
    target = writer.fresh((n, channels, times, *rest), [0, *range(3, 3 + len(rest)), 1, 2])
    source = x.reshaped((n, channels, 1, *rest))
    assert source is not None  # one more axis of one sample needs no copy
    writer.copy(source.spread(target.shape), target)
    merged = target.reshaped((n, channels * times, *rest))
    assert merged is not None
    return merged
