"""Pools along one or two axes, and what is reduced over whole axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from rtserve.native.flow import Operation
from rtserve.native.pointwise import number
from rtserve.native.shares import default_cost, parts_for, parts_of
from rtserve.native.view import View, loops, steps_of
from rtserve.native.writer import Writer, operator

SHORT, FEWEST_SHORT = 16, 4
"""Numbers of a row up to which rows are taken side by side, so many at once; and rows from which on that pays."""
MOVES = 4
"""How much longer an exponential takes than a number that is moved."""


@operator("MaxPool", "AveragePool")
def pool(writer: Writer, operation: Operation) -> None:
    """The largest or the mean of a window; what is padded is no sample, unless a mean counts it."""
    attrs, x = operation.attrs, writer.view(operation.inputs[0])
    if x.steps[1] == 1:  # read by whole vectors
        x = writer.inside(x)
    if len(operation.outputs) > 1 and operation.outputs[1] in writer.readers:
        raise operation.refuse("with the places of its samples")
    if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", b"NOTSET", b"VALID"):
        raise operation.refuse(f"with auto_pad {attrs['auto_pad']}")
    out, kernel = operation.outputs[0], attrs["kernel_shape"]
    rank = len(kernel)
    if rank > 3:
        raise operation.refuse(f"over {rank} axes")
    shape = writer.shape(out)
    target = writer.padded(shape, [0, *range(2, rank + 2), 1], writer.wanted_zeros(out, rank + 2))
    strides, dilations = attrs.get("strides") or [1] * rank, attrs.get("dilations") or [1] * rank
    pads = attrs.get("pads") or [0] * 2 * rank
    axes = [
        _Axis(kernel[k], strides[k], dilations[k], pads[k], pads[rank + k], x.shape[k + 2], x.steps[k + 2], k)
        for k in range(rank)
    ]
    counted = bool(attrs.get("count_include_pad", 0))
    writer.line(_pooled(x, target, axes, operation.op == "MaxPool", counted), x, target)
    writer.views[out] = target


class _Axis:
    """One axis of a pool: which samples a window has."""

    def __init__(
        self, n: int, stride: int, dilation: int, before: int, behind: int, size: int, step: int, k: int
    ) -> None:
        self.n, self.stride, self.dilation, self.before, self.behind = n, stride, dilation, before, behind
        self.size, self.step, self.k = size, step, k

    def loop(self, windows: int) -> str:
        """Return the loop over the taps of window ``t`` that are samples."""
        k = self.k
        if not self.before and (windows - 1) * self.stride + (self.n - 1) * self.dilation < self.size:
            return f"for (int k{k} = 0; k{k} < {self.n}; k{k}++) "
        at = f"t{k} * {self.stride} - {self.before}"
        text = f"for (int k{k} = 0; k{k} < {self.n}; k{k}++) "
        return f"{text}if ((unsigned)({at} + k{k} * {self.dilation}) < {self.size}u) "

    def place(self) -> str:
        """Return where a tap lies."""
        return f"(t{self.k} * {self.stride} - {self.before} + k{self.k} * {self.dilation}) * {self.step}"

    def counted(self) -> str:
        """Return how many taps of window ``t`` are samples or padding: what lies behind both is neither."""
        whole = self.size + self.before + self.behind + self.dilation - 1
        end = f"({whole} - t{self.k} * {self.stride}) / {self.dilation}"
        return f"({end} < {self.n} ? {end} : {self.n})"


def _pooled(x: View, target: View, axes: Sequence[_Axis], largest: bool, counted: bool) -> str:
    """Return loops over places; the innermost over the channels, which the compiler vectorises.

    Where channels lie beside each other they stay in registers, but for a mean that counts what is no sample.
    """
    n, channels = x.shape[:2]
    head = f"for (int n = 0; n < {n}; n++) " if n > 1 else "{ const int n = 0; "
    tail = "" if n > 1 else " }"
    places = "".join(f"for (int t{a.k} = 0; t{a.k} < {target.shape[a.k + 2]}; t{a.k}++) " for a in axes)
    there = " + ".join([f"n * {target.steps[0]}", *(f"t{a.k} * {target.steps[a.k + 2]}" for a in axes)])
    within = " + ".join(a.place() for a in axes)
    here = f"n * {x.steps[0]} + {within}"
    each = f"for (int c = 0; c < {channels}; c++) "
    o, p = f"o[c * {target.steps[1]}]", f"p[c * {x.steps[1]}]"
    step = f"{o} = rt_max({p}, {o});" if largest else f"{o} += {p};"
    start = "-INFINITY" if largest else "0.f"
    taps = "".join(a.loop(target.shape[a.k + 2]) for a in axes)
    if x.steps[1] == target.steps[1] == 1 and (largest or "if (" not in taps):
        return f"{head}{places}{{ {_in_registers(x, target, taps, (there, within), axes, largest)} }}{tail}"
    text = f"{head}{places}{{ float *o = {target} + {there}; {each}{o} = {start}; "
    if largest:
        return f"{text}{taps}{{ const float *p = {x} + {here}; {each}{step} }} }}{tail}"
    if counted:
        count = " * ".join(a.counted() for a in axes)
        return (
            f"{text}{taps}{{ const float *p = {x} + {here}; {each}{step} }} "
            f"const float over = 1.f / (float)({count}); {each}{o} *= over; }}{tail}"
        )
    return (
        f"{text}int count = 0; {taps}{{ const float *p = {x} + {here}; count++; {each}{step} }} "
        f"const float over = 1.f / (float)count; {each}{o} *= over; }}{tail}"
    )


def _in_registers(
    x: View, target: View, taps: str, places: tuple[str, str], axes: Sequence[_Axis], largest: bool
) -> str:  # fmt: skip
    """Return a pool of neighbouring channels, a vector of them at a time; a mean's every tap is a sample."""
    there, within = places
    sample = f"rt_load(p + {within} + c)"
    start, more, last = (
        ("rt_splat(-INFINITY)", f"a = rt_max_vec({sample}, a);", "a")
        if largest
        else ("(rt_vec){0}", f"a += {sample};", f"a * {number(1.0 / prod(a.n for a in axes))}")
    )
    return (
        f"float *o = {target} + {there}; const float *p = {x} + n * {x.steps[0]}; "
        f"for (int c = 0; c < {x.shape[1]}; c += RT_WIDTH) {{ rt_vec a = {start}; {taps}{{ {more} }} "
        f"if ({x.shape[1]} - c < RT_WIDTH) rt_store_part(o + c, {last}, {x.shape[1]} - c); else rt_store(o + c, {last}); }}"
    )


REDUCED = {"ReduceMean": ("0.f", "{0} + {1}"), "ReduceSum": ("0.f", "{0} + {1}"),
           "ReduceMax": ("-INFINITY", "rt_max({1}, {0})"), "ReduceMin": ("INFINITY", "rt_min({1}, {0})"),
           "ReduceSumSquare": ("0.f", "{0} + rt_square({1})"), "ReduceL1": ("0.f", "{0} + fabsf({1})"),
           "ReduceL2": ("0.f", "{0} + rt_square({1})"), "ReduceProd": ("1.f", "{0} * {1}"),
           "GlobalAveragePool": ("0.f", "{0} + {1}"), "GlobalMaxPool": ("-INFINITY", "rt_max({1}, {0})")}  # fmt: skip
"""ONNX operator to what a reduction starts from, and how it takes one more number."""


@operator(*REDUCED)
def reduce(writer: Writer, operation: Operation) -> None:
    """One number instead of some axes."""
    x, out = writer.view(operation.inputs[0]), operation.outputs[0]
    rank = len(x.shape)
    if operation.op.startswith("Global"):
        axes = list(range(2, rank))
    else:
        given = writer.ints(operation, 1, "axes")
        axes = (
            sorted(a % rank for a in given)
            if given
            else []
            if operation.attrs.get("noop_with_empty_axes")
            else list(range(rank))
        )
    kept = [a for a in range(rank) if a not in axes]
    target = writer.fresh([x.shape[a] for a in kept], wide=x.wide)
    rows = replace(x, shape=target.shape, steps=tuple(x.steps[a] for a in kept), zeros={})
    n = prod(x.shape[a] for a in axes)
    _reduced(writer, operation.op, rows, target, [(x.shape[a], x.steps[a]) for a in axes], n)
    found = target.reshaped(writer.shape(out))
    assert found is not None  # only axes of one sample are added
    writer.views[out] = found


def _reduced(writer: Writer, op: str, rows: View, target: View, axes: Sequence[tuple[int, int]], n: int) -> None:
    """Write a reduction; of a row that lies in one piece by sixteen sums, else channel by channel."""
    start, more = REDUCED[op]
    share = repr(1.0 / n) if rows.wide else number(1.0 / n)
    last = {"ReduceMean": f"{{0}} * {share}", "GlobalAveragePool": f"{{0}} * {number(1.0 / n)}",
            "ReduceL2": "sqrtf({0})"}.get(op, "{0}")  # fmt: skip
    inner = loops([m for m, _ in axes], [[step for _, step in axes]])
    if not rows.wide and more == "{0} + {1}" and len(inner) == 1 and not (1 in rows.steps and inner[0][1][0] != 1):
        writer.nest(
            [target, rows], lambda e: f"{e[0]} = {last.format(f'rt_sum(&{e[1]}, {inner[0][1][0]}, {inner[0][0]})')}"
        )
        return
    writer.nest([target], lambda e: f"{e[0]} = {start}")
    whole = [m for m, _ in inner]
    shape = (*whole, *target.shape)
    once = replace(target, shape=shape, steps=(*(0,) * len(whole), *target.steps))
    each = replace(rows, shape=shape, steps=(*(step[0] for _, step in inner), *rows.steps))
    _accumulated(writer, each, once, more)
    if last != "{0}":
        writer.nest([target], lambda e: f"{e[0]} = {last.format(e[0])}")


def _accumulated(writer: Writer, each: View, once: View, more: str) -> None:
    """Write loops that take every number into its sum, in the order in which the numbers lie."""
    found = loops(each.shape, [each.steps, once.steps])
    at = [" + ".join([f"i{d} * {step[k]}" for d, (_, step) in enumerate(found) if step[k]] or ["0"]) for k in range(2)]
    text = "".join(f"for (int i{d} = 0; i{d} < {n}; i{d}++) " for d, (n, _) in enumerate(found))
    o, p = f"{once}[{at[1]}]", f"{each}[{at[0]}]"
    writer.line(f"{text}{o} = {more.format(o, p)};", each, once, split=bool(found[0][1][1]))


@operator("Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization")
def rows(writer: Writer, operation: Operation) -> None:
    """What is done with a row as a whole."""
    x, out = writer.view(operation.inputs[0]), operation.outputs[0]
    if any(name in writer.readers for name in operation.outputs[1:]):
        raise operation.refuse("with its statistics as values")
    rank, channelwise = len(x.shape), operation.op == "InstanceNormalization"
    axis = 2 if channelwise else operation.attrs.get("axis", -1) % rank
    turned = operation.op.endswith("Softmax") and axis != rank - 1
    if turned:
        x = x.moved([a for a in range(rank) if a != axis] + [axis])
    first = axis if channelwise or operation.op == "LayerNormalization" else rank - 1
    row = x.shape[first:]
    merged = x.reshaped((*x.shape[:first], prod(row))) or writer.plain(x).reshaped((*x.shape[:first], prod(row)))
    assert merged is not None
    target = writer.fresh(merged.shape)
    n, step = merged.shape[-1], merged.steps[-1]
    epsilon = number(operation.attrs.get("epsilon", 1e-5))
    call = {
        "Softmax": f"rt_softmax({{0}}, {step}, {n}, {{1}});",
        "LogSoftmax": f"rt_log_softmax({{0}}, {step}, {n}, {{1}});",
    }
    text = call.get(operation.op, f"rt_normalise({{0}}, {step}, {n}, {epsilon}, {{1}});")
    if operation.op != "Softmax" or not _short_rows(writer, merged, target):
        writer.product(merged.shape[:-1], lambda at: text.format(*at), merged, target)
    result = target.reshaped(x.shape)
    assert result is not None
    if operation.op.endswith("Normalization"):
        _scaled(writer, operation, result, (x.shape[1], *(1,) * len(row)) if channelwise else row)
    if turned:
        result = result.moved([*range(axis), rank - 1, *range(axis, rank - 1)])
    writer.views[out] = result


def _short_rows(writer: Writer, x: View, target: View) -> bool:
    """Write the softmax of many short rows, as many at once as they have numbers at most; False where they are not so."""
    n = x.shape[-1]
    found = loops(x.shape[:-1], [x.steps[:-1], target.steps[:-1]])
    (rows, (step, to)) = found[0]
    if len(found) > 1 or to != n or not 1 < n <= SHORT or x.steps[-1] != 1 or rows < FEWEST_SHORT:
        return False
    cost = MOVES * default_cost([target])
    calls = [f"rt_softmax_rows({x} + {a * step}, {step}, {b - a}, {n}, {target} + {a * n});"
             for a, b in parts_of(rows, parts_for(cost), SHORT)]  # fmt: skip
    writer.line(f"rt_softmax_rows({x}, {step}, {rows}, {n}, {target});", x, target, cost=cost, steps=[calls])
    return True


def _scaled(writer: Writer, operation: Operation, result: View, shape: Sequence[int]) -> None:
    """Write the factor and the offset of a normalisation over what it gave."""
    for index, pattern in ((1, "{0} * {1}"), (2, "{0} + {1}")):
        if index < len(operation.inputs) and operation.inputs[index]:
            view = writer.view(operation.inputs[index])
            given = View(buffer=view.buffer, shape=tuple(shape), steps=steps_of(shape), offset=view.offset)
            if prod(shape) != prod(view.shape):
                raise operation.refuse(f"with a factor of shape {view.shape}")
            _with(writer, result, given.spread(result.shape), pattern)


def _with(writer: Writer, result: View, other: View, pattern: str) -> None:
    writer.nest([result, other], lambda e: f"{e[0]} = {pattern.format(*e)}")
