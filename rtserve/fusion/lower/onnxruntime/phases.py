r"""Values in phases: instead of v, its samples :math:`v[m n + p]` for p = 0 .. m-1, each a value of its own.

Elementwise operators act on every phase, joining along batch or channels joins phases, a cut or a joint along time only
changes which phase comes first, and a convolution of stride s gives phase p as a convolution of stride m s. A
convolution whose stride is a multiple of m reads phases without putting them together again: tap k reads phase
:math:`(k - l) \bmod m`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.conv import Conv1d, conv_of
from rtserve.fusion.ir.landmarks import carry
from rtserve.fusion.ir.nodes import attributes_of, inner_dims, producer
from rtserve.fusion.ir.passes import Refused
from rtserve.fusion.ir.traits import Trait, has
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant

__all__ = ["Phases", "absorb", "cut", "reaches", "strided"]

TIME = 3
SMALL = 16
"""Values of at most so many samples are taken apart sample by sample; longer ones would cost too much."""


def _samples(value: ir.Value | None) -> int | None:
    """Return the length of the last axis of a rank-4 value; None for another, or where it is not known."""
    dims = inner_dims(value)
    return dims[2] if dims is not None and len(dims) == 3 else None


def _passes(node: ir.Node | None) -> bool:
    """Whether phases go through a node."""
    if node is None or _samples(node.outputs[0]) is None:
        return False
    if has(node, Trait.POINTWISE | Trait.BROADCASTS) or node.op_type == "Concat":
        return True
    if node.op_type == "Conv":
        conv = conv_of(node)
        return conv is not None and conv.by_sample
    return node.op_type == "Slice" and cut(node) is not None


def cut(node: ir.Node) -> tuple[int, int] | None:
    """Return the span of a Slice of consecutive samples along time, or None."""
    known, n = [constant(v) for v in node.inputs[1:]], _samples(node.inputs[0])
    if n is None or len(known) < 3 or any(a is None or a.size != 1 for a in known):
        return None
    start, stop, axis, step = (*(int(np.asarray(a).reshape(())) for a in known), 1)[:4]
    span = range(n)[start:stop]
    return (span.start, span.stop) if span and (axis % 4, step) == (TIME, 1) else None


def reaches(node: ir.Node, wanted: Callable[[Conv1d], bool]) -> bool:
    """Whether phases can be had from a convolution that is wanted up to `node`, and nothing else reads what is between."""
    inner: set[Any] = set()
    found = False
    stack = [node.inputs[0]]
    while stack:
        value = stack.pop()
        source = producer(value)
        if source is None or source in inner:
            continue
        if source.op_type == "Conv":
            conv = conv_of(source)
            found = found or (conv is not None and wanted(conv))
        through = _passes(source)
        if source.op_type == "Conv" or through:
            inner.add(source)
            stack += list(source.inputs) if through else []
    used = all(reader is node or reader in inner for one in inner for out in one.outputs for reader in out.consumers())
    return found and used and not any(out.is_graph_output() for one in inner for out in one.outputs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Phase:
    """One phase of a value: `length` samples, behind which `value` may hold more that mean nothing."""

    value: Any
    size: int
    length: int


class Phases:
    """The phases of values, made on demand and once.

    Parameters
    ----------
    emit : Emitter
        Where the nodes go.
    m : int
        How many phases.
    fast : callable
        Given a convolution, returns its phases where it has a better way to them than one convolution each, or None.
    """

    def __init__(self, emit: Emitter, m: int, fast: Callable[[Conv1d], list[ir.Value] | None]) -> None:
        self.emit, self.m, self._fast = emit, m, fast
        self.fast = 0
        self._known: dict[Any, list[Phase]] = {}

    def of(self, value: ir.Value) -> list[Phase]:
        """Return the m phases of a value.

        Raises
        ------
        Refused
            Where they cannot be had cheaply.
        """
        if value not in self._known:
            self._known[value] = self._made(value)
            carry([phase.value for phase in self._known[value] if phase.value is not None], [value])
        return self._known[value]

    def lengths(self, n: int) -> list[int]:
        """Return how many of n samples each phase has."""
        return [(n - p + self.m - 1) // self.m for p in range(self.m)]

    def _made(self, value: ir.Value) -> list[Phase]:
        n, node = _samples(value), value.producer()
        if n is None:
            raise Refused(f"{value.name} has no single time axis at the end")
        conv = conv_of(node)
        if conv is not None:
            return self._elementwise(conv.node, n) if conv.by_sample else self._conv(conv)
        if node is None or not _passes(node):
            return self._apart(value, n)
        if node.op_type == "Slice":
            return self._slice(node)
        if node.op_type == "Concat":
            return self._concat(node, n)
        return self._elementwise(node, n)

    def _apart(self, value: ir.Value, n: int) -> list[Phase]:
        if n > SMALL:
            raise Refused(f"{value.name} would have to be taken apart")
        every = [self.emit.slice(value, TIME, p, None, self.m) if n > 1 else value for p in range(self.m)]
        return [Phase(value=v, size=k, length=k) for v, k in zip(every, self.lengths(n), strict=True)]

    def _conv(self, conv: Conv1d) -> list[Phase]:
        lengths = self.lengths(conv.n_out)
        fast = self._fast(conv)
        self.fast += fast is not None
        sizes, made = (lengths, strided(self.emit, conv, lengths)) if fast is None else (lengths[:1] * self.m, fast)
        return [Phase(value=v, size=n, length=k) for v, n, k in zip(made, sizes, lengths, strict=True)]

    def _elementwise(self, node: ir.Node, n: int) -> list[Phase]:
        attributes = attributes_of(node)
        weights = [[value] * self.m for value in node.inputs[1:]] if node.op_type == "Conv" else []
        feeds = [self._operand(value, n) for value in node.inputs[: len(node.inputs) - len(weights)]] + weights
        phases = []
        for p, length in enumerate(self.lengths(n)):
            values, size = self._aligned([feed[p] for feed in feeds], length)
            y = self.emit(node.op_type, *values, **attributes)
            phases.append(Phase(value=y, size=size, length=length))
        return phases

    def _aligned(self, parts: Sequence[Any], length: int) -> tuple[list[Any], int]:
        """Return values of one size, and it: what lies behind the samples of phases goes where they differ in it."""
        sizes = {part.size for part in parts if isinstance(part, Phase)}
        size = sizes.pop() if len(sizes) == 1 else length
        return [self.part(part, 0, size) if isinstance(part, Phase) else part for part in parts], size

    def _operand(self, value: ir.Value | None, n: int) -> list[Any]:
        array = constant(value)
        if value is None:
            return [None] * self.m
        if array is None:
            if _samples(value) != n:
                raise Refused("an operand of another length")
            return list(self.of(value))
        if array.ndim == 0 or array.shape[-1] == 1:
            return [value] * self.m
        raise Refused("a constant that changes with time")

    def part(self, phase: Phase, low: int, high: int) -> Any:
        """Return samples low to high of a phase."""
        return phase.value if (low, high) == (0, phase.size) else self.emit.slice(phase.value, TIME, low, high)

    def _slice(self, node: ir.Node) -> list[Phase]:
        low, high = cut(node) or (0, 0)
        source = self.of(node.inputs[0])  # type: ignore[arg-type]
        return [self._from(source, low + p, length) for p, length in enumerate(self.lengths(high - low))]

    def _from(self, source: list[Phase], first: int, length: int) -> Phase:
        """Return the samples first, first + m, ... of a value in phases."""
        start = first // self.m
        value = self.part(source[first % self.m], start, start + length) if length else None
        return Phase(value=value, size=length, length=length)

    def _concat(self, node: ir.Node, n: int) -> list[Phase]:
        axis = node.attributes.get_int("axis", 0) % 4
        sources = [(self.of(v), _samples(v)) for v in node.inputs if v is not None]
        if axis != TIME:
            columns = zip(*[phases for phases, _ in sources], strict=True)
            return [self._joined(column, axis, k) for column, k in zip(columns, self.lengths(n), strict=True)]
        return [self._along_time(sources, p, length) for p, length in enumerate(self.lengths(n))]

    def _joined(self, column: Sequence[Phase], axis: int, length: int) -> Phase:
        values, size = self._aligned(column, length)
        return Phase(value=self.emit("Concat", *values, axis=axis), size=size, length=length)

    def _along_time(self, sources: list[tuple[list[Phase], Any]], p: int, length: int) -> Phase:
        parts, offset = [], 0
        for phases, n in sources:
            first = (p - offset) % self.m
            count = (n - first + self.m - 1) // self.m
            if count > 0:
                parts.append(self._from(phases, first, count).value)
            offset += n
        y = self.emit("Concat", *parts, axis=TIME) if len(parts) > 1 else parts[0]
        return Phase(value=y, size=length, length=length)


def strided(emit: Emitter, conv: Conv1d, lengths: Sequence[int]) -> list[ir.Value]:
    """Return the phases of a convolution, so many as there are lengths, each as a convolution by itself."""
    wide = replace(conv, stride=conv.stride * len(lengths))
    return [wide.from_sample(conv.stride * p - conv.left, k).emit(emit) for p, k in enumerate(lengths)]


def absorb(emit: Emitter, conv: Conv1d, phases: Phases) -> ir.Value:
    """Return a convolution whose stride is a multiple of m, reading its input in phases.

    Raises
    ------
    Refused
        Where the phases cannot be had.
    """
    if conv.stride % phases.m or conv.dilation != 1 or conv.x is None:
        raise Refused("its stride is not a multiple of the phases")
    total, made = None, phases.of(conv.x)
    for p, first, taps in conv.phases(phases.m):
        part = replace(conv, weight=taps, stride=conv.stride // phases.m, bias=conv.bias if total is None else None)
        y = _read(emit, part, phases, made[p], first, conv.n_out)
        total = y if total is None else emit("Add", y, total)
    if total is None:
        raise Refused("it reads nothing")
    return total


def _read(emit: Emitter, conv: Conv1d, phases: Phases, phase: Phase, first: int, n: int) -> ir.Value:
    """Return what some taps make of one phase: n outputs, the first of which reads from sample `first` on."""
    reach = (n - 1) * conv.stride + conv.taps + first
    too_many = (phase.size - first - conv.taps) // conv.stride >= n
    means_nothing = phase.size > phase.length and reach > phase.length
    end = min(reach, phase.length) if too_many or means_nothing else phase.size
    return replace(conv, n_in=end).from_sample(first, n).emit(emit, phases.part(phase, 0, end))
