"""From a flow to a C file: every operation writes its statements, memory is planned, and a head and a foot are put around.

The file defines ``rt_run_<suffix>``, one window, ``rt_pack_<suffix>``, weights as this instruction set wants them, and
two sizes; it is compiled once for each instruction set, with another suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

import rtserve.native.along
import rtserve.native.einsum
import rtserve.native.forms
import rtserve.native.fourier
import rtserve.native.matrices
import rtserve.native.moments
import rtserve.native.moves
import rtserve.native.pointwise
import rtserve.native.pooling
import rtserve.native.recurrent
import rtserve.native.resampling
import rtserve.native.shaping  # noqa: F401  (each fills a table of operators)
from rtserve.native.costs import FAR, NEAR
from rtserve.native.draft import rewritten
from rtserve.native.flow import Flow, Unsupported
from rtserve.native.linear import prepare_convolutions
from rtserve.native.marks import Layer, marked
from rtserve.native.shares import Stages, staged
from rtserve.native.transposed import prepare_transposed
from rtserve.native.view import Buffer, View, steps_of
from rtserve.native.writer import ALIGN, OPERATORS, SLACK, Writer

__all__ = ["Generated", "generate", "missing"]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A C file and what belongs to it.

    Parameters
    ----------
    source : str
        The C.
    weights : ndarray, (numbers,)
        As the graph has them, float32, in the order in which the file packs them.
    sizes : dict of int
        Numbers of the weights, of a window and of an answer.
    macs : int
        Multiply-adds of dense and depthwise layers for one window.
    shared : bool
        Whether the file has stages for several threads.
    layers : tuple of Layer
        Its operations in order, with the multiply-adds of each.
    """

    source: str
    weights: np.ndarray
    sizes: dict[str, int]
    macs: int
    shared: bool = False
    layers: tuple[Layer, ...] = ()


def missing(flow: Flow) -> list[str]:
    """Return the operators of a flow that native code is not written for."""
    return sorted({operation.op for operation in flow.operations} - set(OPERATORS))


def generate(flow: Flow, *, tiles: bool = True, shared: bool = False, marks: bool = False) -> Generated:
    """Return the C of a flow.

    Parameters
    ----------
    flow : Flow
        What one window goes through.
    tiles : bool
        Whether convolutions may be computed by tiles, which round differently, or several positions at once.
    shared : bool
        Whether several threads are to compute one window (`rtserve.native.shares`); they give the same bits.
    marks : bool
        Whether the code reads the clock between its operations (`rtserve.native.marks`): for a profile.

    Raises
    ------
    Unsupported
        Where an operator, or a form of one, is not written in C; all missing operators are named.
    """
    flow = rewritten(flow)
    lacking = missing(flow)
    if lacking:
        raise Unsupported(f"operator{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}")
    if any(0 in shape for shape in flow.shapes.values()):
        raise Unsupported("a value without numbers")
    writer = Writer(flow, shared=shared)
    shape = flow.shapes[flow.input]
    window = Buffer(name="x", size=0, first=0, last=0)
    writer.views[flow.input] = View(buffer=window, shape=shape, steps=steps_of(shape))
    prepare_convolutions(writer, tiles=tiles)
    prepare_transposed(writer)
    layers = []
    for writer.operation, operation in enumerate(flow.operations):
        before = writer.macs
        if operation.outputs[0] not in writer.done:
            OPERATORS[operation.op](writer, operation)
        layers.append(Layer(op=operation.op, shape=writer.shape(operation.outputs[0]), macs=writer.macs - before))
    writer.operation = len(flow.operations)
    if flow.output not in flow.shapes:
        raise Unsupported("an answer that does not depend on the window")
    answer, y = writer.view(flow.output), writer.answer()
    if answer.buffer.name != y.buffer.name:
        writer.copy(answer, y)
    places, scratch = _planned([one for one in writer.buffers if one.name not in writer.in_answer])
    parts = _shared(staged(writer.lines, [*writer.buffers, *writer.extra])) if shared else []
    weights = np.concatenate([np.zeros(0, np.float32), *writer.weights])
    sizes = {"WEIGHTS": weights.size, "WINDOW": prod(shape), "ANSWER": prod(answer.shape)}
    source = _file(writer, places, scratch, parts, marked(writer.lines, len(layers)) if marks else None)
    return Generated(source=source, weights=weights, sizes=sizes, macs=writer.macs, shared=shared,
                     layers=tuple(layers))  # fmt: skip


def _planned(buffers: Sequence[Buffer], slack: int = 0) -> tuple[dict[str, int], int]:
    """Return where every buffer lies, and how much memory that takes: the largest first, each where nobody is meanwhile.

    `slack` floats behind each are nobody's.
    """
    placed: list[tuple[int, int, Buffer]] = []
    for buffer in sorted(buffers, key=lambda one: (-one.size, one.first)):
        at = 0
        for start, end, other in sorted(placed, key=lambda one: one[0]):
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if at + buffer.size + slack <= start:
                break
            at = max(at, end)
        size = -(-(buffer.size + slack) // ALIGN) * ALIGN
        placed.append((at, at + size, buffer))
    return {b.name: at for at, _, b in placed}, max((end for _, end, _ in placed), default=0) + SLACK


def _shared(plan: Stages) -> list[str]:
    """Return the tasks of every stage, each a function, and the table of them."""
    places, scratch = _planned(plan.held, SLACK)
    lines = ['#include "shared.h"']
    for name, place in places.items():
        lines += [f"#undef {name}", f"#define {name} (s + {place})"]
    tasks = [task for stage in plan.stages for task in stage]
    for k, task in enumerate(tasks):
        lines += [
            f"static void t{k}(const float *restrict w, float *restrict s, const float *restrict x, float *restrict y) {{",
            *(f"  {text}" for text in task),
            "  (void)w; (void)s; (void)x; (void)y;",
            "}",
        ]
    ends = [sum(len(stage) for stage in plan.stages[:k]) for k in range(len(plan.stages) + 1)]
    return [
        *lines,
        f"static rt_task *const rt_tasks[] = {{{', '.join(f't{k}' for k in range(len(tasks)))}}};",
        f"static const int rt_stages[] = {{{', '.join(map(str, ends))}}};",
        f"const rt_shared RT_NAME(rt_shared_) = {{rt_tasks, rt_stages, {len(plan.stages)}, {scratch}}};",
    ]


def _file(
    writer: Writer, places: dict[str, int], scratch: int, shared: Sequence[str],
    marks: tuple[list[str], list[str]] | None,
) -> str:  # fmt: skip
    """Return the whole file; `shared` is what several threads need besides, `marks` declarations and marked statements."""
    head, body = marks or ([], [line.text for line in writer.lines])
    rooms, at = [], "0"
    for name, room in writer.places:
        rooms.append(f"  {name} = {at},")
        at = f"{name} + RT_UP({room})"
    defines = [f"#define {name} (s + {place})" for name, place in places.items()]
    defines += [f"#define {name} (y + {place})" for name, place in writer.in_answer.items()]
    kernels = [key.replace("(", f"({name}, ", 1) for key, name in writer.kernels.items()]
    flow = writer.flow
    window = flow.shapes[flow.input]
    return "\n".join(
        [
            f"/* One window ({' x '.join(map(str, window[1:]))}) to {prod(flow.shapes[flow.output])} numbers. */",
            *head,
            f"#define RT_FAR {FAR}",
            f"#define RT_NEAR {NEAR}",
            '#include "kernels.h"',
            *['#include "waves.h"'] * any(key.startswith("RT_WAVES(") for key in writer.kernels),
            "typedef double rt_wide __attribute__((may_alias));",
            "#define RT_JOIN_(a, b) a##b",
            "#define RT_JOIN(a, b) RT_JOIN_(a, b)",
            "#define RT_NAME(a) RT_JOIN(a, RT_SUFFIX)",
            "enum {",
            *rooms,
            f"  RT_PACKED_SIZE = {at} + {SLACK}",
            "};",
            *writer.tables,
            *kernels,
            *(f"static void {name}{text}" for name, text in writer.functions.values()),
            *defines,
            "size_t RT_NAME(rt_packed_)(void) { return RT_PACKED_SIZE; }",
            f"size_t RT_NAME(rt_scratch_)(void) {{ return {scratch}; }}",
            "void RT_NAME(rt_pack_)(const float *restrict plain, float *restrict packed) {",
            *(f"  {line}" for line in writer.packing),
            "  (void)plain; (void)packed;",
            "}",
            "void RT_NAME(rt_run_)(const float *restrict w, float *restrict s, const float *restrict x,",
            "                      float *restrict y) {",
            *(f"  {text}" for text in body),
            "  (void)w; (void)s;",
            "}",
            *shared,
            "",
        ]
    )
