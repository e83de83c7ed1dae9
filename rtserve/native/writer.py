"""Writes the C of a flow: where values lie, and statements in order; weights and kernels are `rtserve.native.kept`.

Memory is planned when everything is written: a buffer is held from its first to its last statement, and buffers that are
not held at the same time may lie in the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from rtserve.native.flow import Flow, Operation, Unsupported
from rtserve.native.kept import Kept
from rtserve.native.shares import Line, default_cost, parts_for, parts_of
from rtserve.native.view import Buffer, View, loops, steps_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rtserve.native.fast import Fast

__all__ = ["ALIGN", "OPERATORS", "Padded", "Pending", "Write", "Writer", "operator"]

SLACK = 32
"""Floats behind the last buffer that a whole vector may read."""
ALIGN = 16
"""Floats: where a buffer or a weight may begin."""

WHOLE = 2**24
"""Up to which every integer is a float32."""

Write = Callable[["Writer", Operation], None]
OPERATORS: dict[str, Write] = {}
"""ONNX operator to the function that writes it."""


def operator(*names: str) -> Callable[[Write], Write]:
    """Enter a function into the table under its ONNX names."""

    def enter(write: Write) -> Write:
        for name in names:
            OPERATORS[name] = write
        return write

    return enter


@dataclass(frozen=True, kw_only=True)
class Pending:
    """An expression that is not written yet: C text with ``{0}``, ``{1}``, ... for its views."""

    text: str
    views: tuple[View, ...]


@dataclass(frozen=True, kw_only=True)
class Padded:
    """What a convolution wants around its input, by axis; whether it is computed by tiles, or several positions at once."""

    fast: Fast | None
    pads: dict[int, tuple[int, int]]
    together: bool = False


class Writer(Kept):
    """What is written so far.

    Parameters
    ----------
    flow : Flow
        What one window goes through.
    shared : bool
        Whether statements are also written in parts, for several threads.
    """

    def __init__(self, flow: Flow, *, shared: bool = False) -> None:
        super().__init__()
        self.flow, self.shared, self.operation = flow, shared, 0
        self.set, self.n_sets = 0, 0
        self.readers = flow.readers()
        self.views: dict[str, View] = {}
        self.buffers: list[Buffer] = []
        self.extra: list[Buffer] = []
        self.in_answer: dict[str, int] = {}
        self.lines: list[Line] = []
        self.convolutions: dict[str, Padded] = {}
        self.turned: dict[tuple[str, int | None], View] = {}
        self.pending: dict[str, Pending] = {}
        self.done: set[str] = set()
        self.macs = 0

    # ---- values ----

    def constant(self, name: str) -> np.ndarray | None:
        """Return a value that is known beforehand."""
        return self.flow.constants.get(name)

    def view(self, name: str) -> View:
        """Return where a value lies; a constant becomes a weight."""
        if name not in self.views:
            value = self.flow.constants[name]
            small = value.dtype.kind in "iu" and np.abs(value.astype(np.int64)).max(initial=0) <= WHOLE
            if not small and (value.dtype.kind not in "fb" or value.dtype.itemsize > 4):
                raise Unsupported(f"a constant of {value.dtype} among the numbers (value {name})")
            self.views[name] = self.weight(value)
        return self.views[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value."""
        known = self.flow.shapes.get(name)
        return known if known is not None else self.flow.constants[name].shape

    def only_reader(self, name: str) -> Operation | None:
        """Return the one operation that reads a value, once; None where several do or it is the answer."""
        readers = self.readers.get(name, [])
        if name == self.flow.output or len(readers) != 1 or readers[0].inputs.count(name) != 1:
            return None
        return readers[0]

    def ints(self, operation: Operation, index: int, attribute: str = "") -> list[int] | None:
        """Return integers that an operation takes as an input or, in older opsets, as an attribute."""
        if index < len(operation.inputs) and operation.inputs[index]:
            value = self.constant(operation.inputs[index])
            if value is None:
                raise operation.refuse(f"with input {index} computed from the window")
            return [int(v) for v in value.reshape(-1)]
        value = operation.attrs.get(attribute)
        return None if value is None else [int(v) for v in value]

    # ---- memory ----

    def buffer(self, size: int) -> Buffer:
        """Return memory for so many floats, which no later operation than this one writes."""
        n = len(self.lines)
        buffer = Buffer(name=f"B{len(self.buffers)}", size=size, first=n, last=n, owner=self.operation)
        self.buffers.append(buffer)
        return buffer

    def fresh(
        self, shape: Sequence[int], order: Sequence[int] | None = None, *, wide: bool = False, even: int | None = None
    ) -> View:
        """Return memory for a value, its axes from the outermost to the innermost in an order.

        `wide`: of doubles. `even`: an axis that has room for whole vectors, so that what is behind it begins with one.
        """
        order = list(order if order is not None else range(len(shape)))
        room = [-(-n // ALIGN) * ALIGN if a == even else n for a, n in enumerate(shape)]
        inner = steps_of([room[a] for a in order])
        steps = tuple(inner[order.index(a)] for a in range(len(shape)))
        return View(buffer=self.buffer((1 + wide) * prod(room)), shape=tuple(shape), steps=steps, wide=wide)

    def scratch(self, size: int, *, extra: bool = False) -> View:
        """Return memory that one statement uses; `extra`: only where it is written in parts."""
        if not extra:
            return View(buffer=self.buffer(size), shape=(size,), steps=(1,))
        buffer = Buffer(name=f"E{len(self.extra)}", size=size, first=0, last=0, owner=self.operation)
        self.extra.append(buffer)
        return View(buffer=buffer, shape=(size,), steps=(1,))

    def answer(self) -> View:
        """Return where the caller wants the answer."""
        shape = self.shape(self.flow.output)
        return View(buffer=Buffer(name="y", size=0, first=0, last=0), shape=tuple(shape), steps=steps_of(shape))

    def inside(self, view: View) -> View:
        """Return a view that whole vectors may be read of: of the window's end, behind which is the caller's, a copy."""
        end = view.offset + sum((n - 1) * step for n, step in zip(view.shape, view.steps, strict=True) if step > 0) + 1
        if view.buffer.name != "x" or end + SLACK <= prod(self.shape(self.flow.input)):
            return view
        copy = self.fresh(view.shape, view.order)
        self.copy(view, copy)
        return copy

    def put_in_answer(self, view: View, at: int) -> bool:
        """Let a whole buffer lie in the answer, so many numbers behind its beginning; False where it cannot.

        Vectors are read whole, so that as much as may be read behind a buffer must be answer too.
        """
        size, total = prod(view.shape), prod(self.shape(self.flow.output))
        mine = any(one is view.buffer for one in self.buffers) and view.buffer.name not in self.in_answer
        whole = view.buffer.size == size and view.offset == 0 and view.plain
        if self.shared or view.wide or not (mine and whole) or at + size + SLACK > total:
            return False
        self.in_answer[view.buffer.name] = at
        return True

    def padded(
        self, shape: Sequence[int], order: Sequence[int], zeros: Mapping[int, tuple[int, int]], number: str = "0.f", *,
        even: int | None = None,
    ) -> View:  # fmt: skip
        """Return memory for a value with samples of zero, or of another number, around some axes, which are written."""
        zeros = {axis: pair for axis, pair in zeros.items() if any(pair)}
        outer = [n + sum(zeros.get(k, (0, 0))) for k, n in enumerate(shape)]
        whole = self.fresh(outer, order, even=even)
        if not zeros:
            return whole
        self._surround(whole, shape, zeros, number)
        view = whole
        for axis, (before, _) in zeros.items():
            view = view.cut(axis, before, shape[axis])
        return replace(view, zeros=dict(zeros))

    def _surround(self, whole: View, shape: Sequence[int], zeros: Mapping[int, tuple[int, int]], number: str) -> None:
        for axis, (before, behind) in zeros.items():
            for start, n in ((0, before), (before + shape[axis], behind)):
                if n:
                    self.fill(whole.cut(axis, start, n), number, zeros=True)

    def wanted_zeros(self, name: str, rank: int) -> dict[int, tuple[int, int]]:
        """Return how many samples of zero the convolutions that read a value want around its axes."""
        wanted: dict[int, tuple[int, int]] = {}
        for reader in self.readers.get(name, []):
            plan = self.convolutions.get(reader.outputs[0])
            if plan is not None and reader.inputs[0] == name:
                for axis, (before, behind) in plan.pads.items():
                    old = wanted.get(axis, (0, 0))
                    wanted[axis] = (max(old[0], before), max(old[1], behind))
            elif reader.op in ("Unsqueeze", "Squeeze", "Reshape") and reader.inputs[0] == name:
                wanted |= self._wanted_behind(reader, name)
        return {axis: pair for axis, pair in wanted.items() if any(pair)}

    def _wanted_behind(self, reader: Operation, name: str) -> dict[int, tuple[int, int]]:
        """Return the same of a value that only has other axes of one sample."""
        out = reader.outputs[0]
        if out not in self.flow.shapes:
            return {}
        mine, theirs = self.shape(name), self.shape(out)
        real = [k for k, n in enumerate(mine) if n != 1]
        there = [k for k, n in enumerate(theirs) if n != 1]
        if [mine[k] for k in real] != [theirs[k] for k in there]:
            return {}
        behind = self.wanted_zeros(out, len(theirs))
        return {k: behind[j] for k, j in zip(real, there, strict=True) if j in behind}

    # ---- statements ----

    def line(
        self, text: str, *views: View, cost: float | None = None, steps: Sequence[Sequence[str]] = (),
        split: bool = False, zeros: bool = False,
    ) -> None:  # fmt: skip
        """Write a statement.

        Parameters
        ----------
        text : str
            The C.
        *views : View
            What it reads and writes.
        cost : float, optional
            Nanoseconds that it may take, roughly.
        steps : sequence of sequence of str
            The same for several threads: one step behind the other, each in parts that do not touch each other's numbers.
        split : bool
            Whether the rounds of its first loop are such parts.
        zeros : bool
            Whether it writes samples of padding, which nothing else writes.
        """
        buffers = {view.buffer.name: view.buffer for view in views}
        for buffer in buffers.values():
            buffer.last = len(self.lines)
        self.lines.append(
            Line(text=text, buffers=tuple(buffers.values()), operation=self.operation, steps=tuple(map(tuple, steps)),
                 cost=default_cost(views) if cost is None else cost, split=split, zeros=zeros, set=self.set)
        )  # fmt: skip

    @contextmanager
    def side_by_side(self) -> Iterator[None]:
        """Say of the statements that are written meanwhile that none writes what another reads or writes."""
        self.n_sets += 1
        self.set = self.n_sets
        try:
            yield
        finally:
            self.set = 0

    def nest(
        self, views: Sequence[View], body: Callable[[list[str]], str], *, zeros: bool = False, chained: bool = False
    ) -> None:
        """Write loops over the first view's shape; `body` gets each view's element, and writes the first alone.

        `chained`: a number follows from one that was written before it, so that rounds are no parts.
        """
        found = loops(views[0].shape, [view.steps for view in views])
        elements = []
        for k, view in enumerate(views):
            terms = [f"i{d} * {step[k]}" if step[k] != 1 else f"i{d}" for d, (_, step) in enumerate(found) if step[k]]
            elements.append(f"{view}[{' + '.join(terms) or '0'}]")
        text = "".join(f"for (int i{d} = 0; i{d} < {n}; i{d}++) " for d, (n, _) in enumerate(found))
        self.line(f"{text}{body(elements)};", *views, split=bool(found[0][1][0]) and not chained, zeros=zeros)

    def copy(self, source: View, target: View) -> None:
        """Write a copy between views of one shape."""
        found = loops(target.shape, [target.steps, source.steps])
        plain = not (source.wide or target.wide)
        if plain and len(found) == 2 and found[1][1][0] == 1 and found[0][1][1] == 1 and found[1][1][1] != 1:
            (columns, (ldo, _)), (rows, (_, ldx)) = found
            parts = parts_for(default_cost([source]))
            steps = [
                f"rt_transpose({source} + {a}, {ldx}, {rows}, {b - a}, {target} + {a * ldo}, {ldo});"
                for a, b in parts_of(columns, parts, 8)
            ] if columns >= rows else [
                f"rt_transpose({source} + {a * ldx}, {ldx}, {b - a}, {columns}, {target} + {a}, {ldo});"
                for a, b in parts_of(rows, parts, 8)
            ]  # fmt: skip
            text = f"rt_transpose({source}, {ldx}, {rows}, {columns}, {target}, {ldo});"
            self.line(text, source, target, cost=default_cost([source]), steps=[steps])
            return
        self.nest([target, source], lambda e: f"{e[0]} = {e[1]}")

    def copy_by_table(self, source: View, target: View, axis: int, table: str) -> None:
        """Write a copy of samples of an axis; `source` is its first one, `table` says how far on each of them lies."""
        one = target.cut(axis, 0, 1)
        found = loops(one.shape, [one.steps, source.steps])
        terms = [" + ".join(f"i{d} * {step[k]}" for d, (_, step) in enumerate(found)) for k in range(2)]
        text = "".join(f"for (int i{d} = 0; i{d} < {n}; i{d}++) " for d, (n, _) in enumerate(found))
        self.line(
            f"for (int q = 0; q < {target.shape[axis]}; q++) {text}"
            f"{target}[q * {target.steps[axis]} + {terms[0]}] = {source}[{table}[q] + {terms[1]}];",
            source, target, cost=default_cost([target]), split=True,
        )  # fmt: skip

    def fill(self, target: View, number: str = "0.f", *, zeros: bool = False) -> None:
        """Write a number everywhere; `zeros`: around a view, where no other operation writes."""
        self.nest([target], lambda e: f"{e[0]} = {number}", zeros=zeros)

    def plain(self, view: View) -> View:
        """Return a view whose numbers lie one behind the other, copied where they do not."""
        if view.plain:
            return view
        target = self.fresh(view.shape, wide=view.wide)
        self.copy(view, target)
        return target

    def product(
        self, batch: Sequence[int], body: Callable[[list[str]], str], *views: View, held: View | None = None
    ) -> None:
        """Write loops over leading axes around a call; `body` gets where each view begins, `held` is memory it needs."""
        found = loops(batch, [view.steps[: len(batch)] for view in views]) if prod(batch) > 1 else []
        starts = [
            " + ".join([str(view), *(f"i{d} * {step[k]}" for d, (_, step) in enumerate(found) if step[k])])
            for k, view in enumerate(views)
        ]
        text = "".join(f"for (int i{d} = 0; i{d} < {n}; i{d}++) " for d, (n, _) in enumerate(found))
        self.line(f"{text}{{ {body(starts)} }}", *views, *([held] if held is not None else []), split=held is None)
