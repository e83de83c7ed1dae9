"""One window on several threads: which statements stand in which stage, and in which parts.

A stage is what may be computed side by side once all before it is done. A statement stands in the first stage in which
everything that it reads is there; where it is long it comes in parts, and what is short is put together. A part is the
same calls with the same numbers in the same order as without threads, so that an answer does not depend on who does it.

Memory is held from stage to stage here, and every buffer has room behind it: a kernel may read a vector beyond its end,
where another thread must not be writing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from rtserve.native.costs import NUMBERS_PER_NS
from rtserve.native.view import Buffer, View

__all__ = ["Line", "Stages", "default_cost", "parts_for", "parts_of", "staged"]

PART_NS, MOST_PARTS = 400.0, 8
"""What a part should take at least, and how many of them a statement has at most."""
SHORT_NS = 300.0
"""What is done before another thread has taken note of it."""
_LOOP = re.compile(r"for \(int (\w+) = 0; \1 < (\d+); \1\+\+\) ")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A statement; see `rtserve.native.writer.Writer.line`."""

    text: str
    buffers: tuple[Buffer, ...]
    operation: int
    cost: float
    steps: tuple[tuple[str, ...], ...] = ()
    split: bool = False
    zeros: bool = False
    set: int = 0

    def parted(self) -> tuple[tuple[str, ...], ...]:
        """Return its steps, each in parts."""
        if self.steps:
            return self.steps
        found = _LOOP.match(self.text) if self.split else None
        if found is None:
            return ((self.text,),)
        name, rest = found[1], self.text[found.end() :]
        parts = parts_of(int(found[2]), parts_for(self.cost))
        return (tuple(f"for (int {name} = {a}; {name} < {b}; {name}++) {rest}" for a, b in parts),)


@dataclass(kw_only=True)
class _Task:
    """What one thread does without asking."""

    texts: list[str]
    cost: float


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What several threads do.

    Parameters
    ----------
    stages : tuple of tuple of tuple of str
        Stages, their tasks, the statements of each.
    held : tuple of Buffer
        The buffers, held from their first to their last stage.
    """

    stages: tuple[tuple[tuple[str, ...], ...], ...]
    held: tuple[Buffer, ...]


@dataclass(kw_only=True)
class _Use:
    """In which stages a buffer is used first and last, written last by the operation that made it, and before a set."""

    first: int = 0
    last: int = -1
    written: int = -1
    set: int = 0
    before: int = -1

    def note(self, start: int, end: int, line: Line, *, own: bool) -> None:
        if line.set != self.set:
            self.set, self.before = line.set, self.last
        self.first = start if self.last < 0 else min(self.first, start)
        self.last = max(self.last, end)
        if own:
            self.written = max(self.written, end)

    def start(self, line: Line, *, own: bool) -> int:
        """Return the first stage in which a statement finds what it needs."""
        if not own:
            return self.written + 1
        return (self.before if line.set and line.set == self.set else self.last) + 1


@dataclass(kw_only=True)
class _Plan:
    uses: dict[str, _Use] = field(default_factory=dict)
    stages: list[list[_Task]] = field(default_factory=list)

    def place(self, line: Line, start: int) -> None:
        """Put a statement's steps into stages from `start` on."""
        steps = line.parted()
        for k, parts in enumerate(steps):
            while len(self.stages) <= start + k:
                self.stages.append([])
            cost = line.cost / len(steps) / len(parts)
            self.stages[start + k] += [_Task(texts=[text], cost=cost) for text in parts]
        for buffer in line.buffers:
            use = self.uses.setdefault(buffer.name, _Use())
            use.note(start, start + len(steps) - 1, line, own=buffer.owner == line.operation)


def default_cost(views: Sequence[View]) -> float:
    """Return the nanoseconds that a statement over so many numbers may take."""
    return max((prod(view.shape) for view in views), default=0) / NUMBERS_PER_NS


def parts_for(cost: float) -> int:
    """Return in how many parts a statement should be done."""
    return max(1, min(MOST_PARTS, round(cost / PART_NS)))


def parts_of(n: int, parts: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Return at most so many ranges of `n`, alike but for the last, that begin at multiples of a number."""
    each = -(-n // (max(parts, 1) * multiple)) * multiple
    return [(a, min(a + each, n)) for a in range(0, n, each)]


def staged(lines: Sequence[Line], buffers: Sequence[Buffer]) -> Stages:
    """Return the stages of a file's statements."""
    plan = _Plan()
    for line in lines:
        if not line.zeros:
            plan.place(line, _start(line, plan.uses))
    for line in lines:
        if line.zeros:  # when the numbers between them are written, which is before anybody reads
            plan.place(line, min((plan.uses[b.name].first for b in line.buffers if b.name in plan.uses), default=0))
    stages, number = _joined([_together(tasks) for tasks in plan.stages])
    held = [replace(buffer, first=number[use.first], last=number[use.last])
            for buffer in buffers if (use := plan.uses.get(buffer.name)) is not None]  # fmt: skip
    return Stages(stages=tuple(tuple(tuple(t.texts) for t in tasks) for tasks in stages), held=tuple(held))


def _start(line: Line, uses: dict[str, _Use]) -> int:
    """Return the first stage in which everything that a statement needs is there."""
    start = 0
    for buffer in line.buffers:
        use = uses.get(buffer.name, _Use())
        start = max(start, use.start(line, own=buffer.owner == line.operation))
    return start


def _together(tasks: list[_Task]) -> list[_Task]:
    """Return the tasks of a stage, short ones put together, all of a short stage in one."""
    if sum(task.cost for task in tasks) < SHORT_NS:
        return [_Task(texts=[text for task in tasks for text in task.texts], cost=sum(task.cost for task in tasks))]
    found: list[_Task] = []
    for task in tasks:
        if found and found[-1].cost + task.cost < SHORT_NS:
            found[-1].texts += task.texts
            found[-1].cost += task.cost
        else:
            found.append(_Task(texts=list(task.texts), cost=task.cost))
    return found


def _joined(stages: list[list[_Task]]) -> tuple[list[list[_Task]], list[int]]:
    """Return stages with short ones behind each other joined, and the number that each has now."""
    found: list[list[_Task]] = []
    number = []
    for tasks in stages:
        short = len(tasks) == 1 and tasks[0].cost < SHORT_NS
        if short and found and len(found[-1]) == 1 and found[-1][0].cost < SHORT_NS:
            found[-1][0].texts += tasks[0].texts
            found[-1][0].cost += tasks[0].cost
        else:
            found.append(tasks)
        number.append(len(found) - 1)
    return found, number
