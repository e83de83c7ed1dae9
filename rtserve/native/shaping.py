"""Other views of the same numbers, and copies where no view will do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from rtserve.native.flow import Operation
from rtserve.native.linear import emit_relu
from rtserve.native.pointwise import number, write_pending
from rtserve.native.view import View
from rtserve.native.writer import Pending, Writer, operator

PLAIN = "{0}"
"""The expression that is a view alone."""


@operator("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(writer: Writer, operation: Operation) -> None:
    """Another shape: the traced one."""
    view, out = writer.view(operation.inputs[0]), operation.outputs[0]
    shape = writer.shape(out)
    writer.views[out] = view.reshaped(shape) or _flat(writer, view, shape)


def _flat(writer: Writer, view: View, shape: Sequence[int]) -> View:
    found = writer.plain(view).reshaped(shape)
    if found is None:
        raise AssertionError(f"{view.shape} is not {tuple(shape)}")  # numbers that lie together take any shape
    return found


@operator("Transpose")
def transpose(writer: Writer, operation: Operation) -> None:
    """Axes in another order."""
    view = writer.view(operation.inputs[0])
    axes = operation.attrs.get("perm") or range(len(view.shape))[::-1]
    writer.views[operation.outputs[0]] = view.moved([int(a) for a in axes])


@operator("Slice")
def slices(writer: Writer, operation: Operation) -> None:
    """Every so many samples of an axis."""
    view = writer.view(operation.inputs[0])
    starts = writer.ints(operation, 1, "starts") or []
    ends = writer.ints(operation, 2, "ends") or []
    axes = writer.ints(operation, 3, "axes") or list(range(len(starts)))
    steps = writer.ints(operation, 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(view.shape)
        taken = range(view.shape[axis])[slice(*_bounds(start, end, step, view.shape[axis]))]
        view = view.cut(axis, taken.start, len(taken), taken.step)
    writer.views[operation.outputs[0]] = view


def _bounds(start: int, end: int, step: int, n: int) -> tuple[int, int | None, int]:
    """Return ONNX's bounds as Python's: before the first sample is None where the step is negative."""
    if step < 0:
        start = min(start, n - 1) if start >= 0 else max(start + n, -1)
        end = end if end >= 0 else end + n
        return start, None if end < 0 else end, step
    return start, end, step


@operator("Split")
def split(writer: Writer, operation: Operation) -> None:
    """Parts of an axis, one behind the other."""
    view, at = writer.view(operation.inputs[0]), 0
    axis = operation.attrs.get("axis", 0) % len(view.shape)
    sizes = writer.ints(operation, 1, "split")
    for k, name in enumerate(operation.outputs):
        n = sizes[k] if sizes else writer.shape(name)[axis] if name in writer.flow.shapes else 0
        if not n:
            raise operation.refuse("with a part that nobody reads and no sizes")
        if name:
            writer.views[name] = view.cut(axis, at, n)
        at += n


@operator("Expand")
def expand(writer: Writer, operation: Operation) -> None:
    """The same numbers again and again."""
    out = operation.outputs[0]
    writer.views[out] = writer.view(operation.inputs[0]).spread(writer.shape(out))


@operator("Concat")
def concat(writer: Writer, operation: Operation) -> None:
    """Parts one behind the other, copied into the order in which the longest of them lies.

    An axis of one sample lies nowhere in particular: it becomes the outermost, so that every part is whole in memory. What
    is computed number by number is computed on the way: the expressions of parts, and a Relu of the whole.
    """
    out = operation.outputs[0]
    axis = operation.attrs["axis"] % len(writer.shape(out))
    parts = [_part(writer, name) for name in operation.inputs]
    parts = [part if part.model is not None else part.written(writer) for part in parts]
    model = max((view for part in parts if (view := part.model) is not None), key=lambda view: prod(view.shape))
    parts = [part if part.like(model) else part.written(writer) for part in parts]
    name, relu = emit_relu(writer, out) if all(part.like(model) for part in parts) else (out, False)
    order = model.order
    if model.shape[axis] == 1:
        order.remove(axis)
        order.insert(0, axis)
    shape = writer.shape(name)
    lies = [a for a in order if shape[a] > 1]
    if name == writer.flow.output and lies == sorted(lies) and not writer.readers.get(name):
        target = writer.answer()
    else:
        target = writer.padded(shape, order, writer.wanted_zeros(name, len(shape)))
    at = 0
    with writer.side_by_side():
        for part in parts:
            n, place = part.shape[axis], target.cut(axis, at, part.shape[axis])
            kept = target.buffer.name == "y" and place.plain and part.pending.text == PLAIN and not relu
            if not (kept and writer.put_in_answer(part.pending.views[0], place.offset)):
                part.write(writer, place, relu=relu)
            at += n
    writer.views[name] = target


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What is put into a place of a whole: an expression of views, mostly one view alone."""

    name: str
    shape: tuple[int, ...]
    pending: Pending

    @property
    def model(self) -> View | None:
        """The view that says in which order its numbers lie."""
        return next((view for view in self.pending.views if view.shape == self.shape), None)

    def like(self, model: View) -> bool:
        """Whether its numbers lie as another's do."""
        mine = self.model
        return mine is not None and mine.order == model.order and min((*mine.steps, *model.steps)) >= 0

    def written(self, writer: Writer) -> _Part:
        """Return it as a view, with what is an expression written."""
        if self.pending.text == PLAIN:
            return self
        write_pending(writer, self.name, self.pending)
        return replace(self, pending=Pending(text=PLAIN, views=(writer.view(self.name),)))

    def write(self, writer: Writer, target: View, *, relu: bool) -> None:
        """Write it into its place."""
        text, views = self.pending.text, self.pending.views
        if text == PLAIN and not relu:
            writer.copy(views[0], target)
            return
        text = f"rt_relu({text})" if relu else text
        writer.nest([target, *(view.spread(self.shape) for view in views)], lambda e: f"{e[0]} = {text.format(*e[1:])}")


def _part(writer: Writer, name: str) -> _Part:
    """Return a part: an expression where it is not written yet."""
    pending = writer.pending.pop(name, None) or Pending(text=PLAIN, views=(writer.view(name),))
    return _Part(name=name, shape=writer.shape(name), pending=pending)


@operator("Gather")
def gather(writer: Writer, operation: Operation) -> None:
    """Samples of an axis by number: a view where the numbers go up evenly, else copied by a table."""
    view, out = writer.view(operation.inputs[0]), operation.outputs[0]
    axis = operation.attrs.get("axis", 0) % len(view.shape)
    index = writer.constant(operation.inputs[1])
    if index is None:
        raise operation.refuse("with an index computed from the window")
    numbers = index.reshape(-1) % view.shape[axis]
    picked = take(writer, view, axis, numbers)
    shape = writer.shape(out)
    writer.views[out] = picked.reshaped(shape) or _flat(writer, picked, shape)


def take(writer: Writer, view: View, axis: int, numbers: np.ndarray) -> View:
    """Return samples of an axis by number."""
    distances = np.diff(numbers)
    if len(set(distances.tolist())) <= 1:
        return view.cut(axis, int(numbers[0]), len(numbers), int(distances[0]) if len(distances) else 1)
    shape = list(view.shape)
    shape[axis] = len(numbers)
    order = view.order
    order.remove(axis)
    target = writer.fresh(shape, [axis, *order])
    table = writer.table([int(n) * view.steps[axis] for n in numbers])
    writer.copy_by_table(view.cut(axis, 0, 1), target, axis, table)
    return target


@operator("Pad")
def pad(writer: Writer, operation: Operation) -> None:
    """Samples before and behind: a number, or samples of the window by number."""
    view, out = writer.view(operation.inputs[0]), operation.outputs[0]
    rank = len(view.shape)
    pads = writer.ints(operation, 1, "pads") or []
    axes = writer.ints(operation, 3) or list(range(rank))
    mode = operation.attrs.get("mode", "constant")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    around = {axis % rank: (pads[k], pads[k + len(axes)]) for k, axis in enumerate(axes)}
    for axis, (before, behind) in around.items():  # fewer samples are asked for by a negative number
        view = view.cut(axis, max(-before, 0), view.shape[axis] - max(-before, 0) - max(-behind, 0))
    around = {axis: (max(a, 0), max(b, 0)) for axis, (a, b) in around.items()}
    if mode != "constant":
        for axis, (before, behind) in around.items():
            if before or behind:
                view = take(writer, view, axis, _reflected(view.shape[axis], before, behind, mode))
        writer.views[out] = view
        return
    text = number(_padding(writer, operation))
    target = writer.padded(view.shape, view.order, around, text)
    writer.copy(view, target)
    writer.views[out] = _with_zeros(target, around)


def _padding(writer: Writer, operation: Operation) -> float:
    """Return the number that a window is padded with."""
    if not operation.has(2):
        return float(operation.attrs.get("value", 0.0))
    value = writer.constant(operation.inputs[2])
    if value is None:
        raise operation.refuse("with a number computed from the window")
    return float(value.reshape(-1)[0])


def _with_zeros(view: View, around: dict[int, tuple[int, int]]) -> View:
    for axis, (before, behind) in around.items():
        view = view.cut(axis, -before, view.shape[axis] + before + behind)
    return view


def _reflected(n: int, before: int, behind: int, mode: str) -> np.ndarray:
    """Return the samples that stand around a window of `n`, and itself."""
    numbers: np.ndarray = np.pad(np.arange(n), (before, behind), mode=mode)  # type: ignore[call-overload]
    return numbers
