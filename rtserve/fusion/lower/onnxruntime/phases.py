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
from rtserve.fusion.ir.nodes import attributes_of, computing, inner_dims, producer
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


def _passes(node: ir.Node) -> bool:
    """Whether phases go through a node."""
    if _samples(node.outputs[0]) is None:
        return False
    if node.op_type == "Conv":
        conv = conv_of(node)
        return conv is not None and conv.by_sample
    return has(node, Trait.POINTWISE | Trait.BROADCASTS) or node.op_type == "Concat" or cut(node) is not None


def cut(node: ir.Node) -> tuple[int, int] | None:
    """Return the span of a Slice of consecutive samples along time; None for another node."""
    known, n = [constant(v) for v in node.inputs[1:]], _samples(node.inputs[0])
    if node.op_type != "Slice" or n is None or len(known) < 3 or any(a is None or a.size != 1 for a in known):
        return None
    start, stop, axis, step = (*(int(np.asarray(a).reshape(())) for a in known), 1)[:4]
    span = range(n)[start:stop]
    return (span.start, span.stop) if span and (axis % 4, step) == (TIME, 1) else None


def reaches(node: ir.Node, wanted: Callable[[Conv1d], bool]) -> bool:
    """Whether phases can be had from a convolution that is wanted up to `node`, and nothing else reads what is between."""
    through = computing(node.inputs, lambda v: (source := producer(v)) is not None and _passes(source))
    read = [producer(v) for one in (node, *through) for v in one.inputs]
    inner = through | {one for one in read if one is not None and one.op_type == "Conv"}
    outputs = [out for one in inner for out in one.outputs]
    used = all(reader is node or reader in inner for out in outputs for reader in out.consumers())
    given = any(out.is_graph_output() for out in outputs)
    return used and not given and any(conv is not None and wanted(conv) for conv in map(conv_of, inner))


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
        return [len(range(p, n, self.m)) for p in range(self.m)]

    def _made(self, value: ir.Value) -> list[Phase]:
        n, node = _samples(value), value.producer()
        if n is None:
            raise Refused(f"{value.name} has no single time axis at the end")
        if node is not None and _passes(node):
            if (span := cut(node)) is not None:
                return self._pieced([(node.inputs[0], *span)], n)
            if node.op_type == "Concat" and node.attributes.get_int("axis", 0) % 4 == TIME:
                return self._pieced([(v, 0, _samples(v)) for v in node.inputs], n)
            return self._elementwise(node, n)
        if (conv := conv_of(node)) is not None:
            return self._conv(conv)
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
        """Return the phases of what acts on every sample by itself; all of one size, which may be more than it means."""
        computed = 1 if node.op_type == "Conv" else len(node.inputs)
        feeds = [self._operand(v, n) if k < computed else [v] * self.m for k, v in enumerate(node.inputs)]
        made = []
        for parts, length in zip(zip(*feeds, strict=True), self.lengths(n), strict=True):
            sizes = {part.size for part in parts if isinstance(part, Phase)}
            size = sizes.pop() if len(sizes) == 1 else length
            values = [self.part(part, 0, size) if isinstance(part, Phase) else part for part in parts]
            y = self.emit(node.op_type, *values, **attributes_of(node))
            made.append(Phase(value=y, size=size, length=length))
        return made

    def _operand(self, value: ir.Value | None, n: int) -> list[Any]:
        array = constant(value)
        if value is None or (array is not None and (array.ndim == 0 or array.shape[-1] == 1)):
            return [value] * self.m
        if array is not None:
            raise Refused("a constant that changes with time")
        if _samples(value) != n:
            raise Refused("an operand of another length")
        return list(self.of(value))

    def part(self, phase: Phase, low: int, high: int) -> Any:
        """Return samples low to high of a phase."""
        return phase.value if (low, high) == (0, phase.size) else self.emit.slice(phase.value, TIME, low, high)

    def _pieced(self, pieces: Sequence[tuple[Any, int, Any]], n: int) -> list[Phase]:
        """Return the phases of pieces along time, each of a value from one sample to another, one behind the other."""
        sources, made = [self.of(value) for value, _, _ in pieces], []
        for p, length in enumerate(self.lengths(n)):
            parts, offset = [], 0
            for source, (_, low, high) in zip(sources, pieces, strict=True):
                first = (p - offset) % self.m
                start, number = divmod(low + first, self.m)
                if count := len(range(first, high - low, self.m)):
                    parts.append(self.part(source[number], start, start + count))
                offset += high - low
            y = self.emit("Concat", *parts, axis=TIME) if len(parts) > 1 else next(iter(parts), None)
            made.append(Phase(value=y, size=length, length=length))
        return made


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
    if conv.dilation != 1 or conv.stride % phases.m:
        raise Refused("it dilates, or its stride is not a multiple of the phases")
    made, total = phases.of(conv.x), None
    for p, first, taps in conv.phases(phases.m):
        part = replace(conv, weight=taps, stride=conv.stride // phases.m, bias=conv.bias if total is None else None)
        y = _read(emit, part, phases, made[p], first, conv.n_out)
        total = y if total is None else emit("Add", y, total)
    return total  # type: ignore[return-value]


def _read(emit: Emitter, conv: Conv1d, phases: Phases, phase: Phase, first: int, n: int) -> ir.Value:
    """Return what some taps make of one phase: n outputs, the first of which reads from sample `first` on."""
    reach = (n - 1) * conv.stride + conv.taps + first
    too_many = (phase.size - first - conv.taps) // conv.stride >= n
    means_nothing = phase.size > phase.length and reach > phase.length
    end = min(reach, phase.length) if too_many or means_nothing else phase.size
    return replace(conv, n_in=end).from_sample(first, n).emit(emit, phases.part(phase, 0, end))
