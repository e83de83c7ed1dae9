"""Writing the step: the new samples and the state in, the answer and the next state out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.affine.value import static_dims
from rtserve.fusion.ir.nodes import attributes_of
from rtserve.fusion.join import empty_model
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant
from rtserve.graphs.graph import OUTPUT_NAME
from rtserve.streaming.columns import NONE
from rtserve.streaming.link import PICKED, Link, Whole
from rtserve.streaming.pieces import Stretch, stretches
from rtserve.streaming.schedule import ALIAS, FRESH, Schedule, runs_of
from rtserve.streaming.step_graph import NEXT

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["BATCH", "STATE", "write"]

BATCH = "batch"
"""Name of the symbolic dimension."""
STATE = "state."
"""How the names of states begin."""


def write(schedule: Schedule, n_outputs: int) -> ir.Model:
    """Return the step of a schedule as a model.

    Inputs: ``x`` (batch, n_chans, hop), then the states; outputs: ``y`` (batch, n_outputs), then the next states.
    """
    return _Writer(schedule).model(n_outputs)


class _Writer:
    """Writes columns where they are asked for, each stretch once."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.analysis = schedule, schedule.analysis
        n_chans, _ = static_dims(self.analysis.window)
        self._model = empty_model(n_chans, schedule.hop)
        self.x = self._model.graph.inputs[0]
        self.emit = Emitter(self._model.graph, prefix="step")
        self.emit.name(OUTPUT_NAME)
        self.states = {value: self._state(value) for value in schedule.states}
        self._kept = {value: self._read(value) for value in schedule.states}
        self._made: dict[tuple[ir.Node, int, int], list[ir.Value]] = {}
        self._taken: dict[tuple[ir.Value, int, int], ir.Value] = {}
        self._whole: dict[ir.Value, ir.Value] = {}

    def model(self, n_outputs: int) -> ir.Model:
        for node in self.analysis.model.graph:
            link = self.analysis.links.get(node)
            if not isinstance(link, Link):
                self._mixed(node, link)
            elif (part := self.schedule.parts.get(node.outputs[0])) is not None:
                for start, end in part.runs:
                    self._computed(node, start, end)
        answer = self.analysis.model.graph.outputs[0]
        track = self.analysis.tracks.get(answer)
        y = self._columns(answer, 0, track.length) if track is not None else self._whole[answer]
        outputs = [(OUTPUT_NAME, y, [BATCH, n_outputs])]
        for value, state in self.states.items():
            outputs.append((f"{state.name}{NEXT}", self._next(value), list(state.shape or ())))
        for name, value, shape in outputs:
            self._output(name, value, shape)
        return self._model

    def _output(self, name: str, value: ir.Value, shape: Sequence[Any]) -> None:
        import onnx_ir as ir

        graph = self.emit.graph
        if value.is_graph_input() or value.is_graph_output() or value.const_value is not None:
            value = self.emit("Identity", value)
        value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
        graph.outputs.append(value)

    # ------------------------------------------------------------------ state

    def _state(self, value: ir.Value) -> ir.Value:
        """Add the input that holds what a value's columns of the step before are needed for."""
        track, part = self.analysis.tracks[value], self.schedule.parts[value]
        dims: list[Any] = list(self.analysis.sizes[value][0])
        dims[track.axis] = part.lag * len(part.saved)
        axis, n = self.analysis.batch_axis(value) or (0, 1)
        dims[axis : axis + 1] = [BATCH] if n == 1 else [n, BATCH]
        state = _input(self.emit.name(f"{STATE}{value.name}"), dims)
        self.emit.graph.inputs.append(state)
        return state

    def _read(self, value: ir.Value) -> ir.Value:
        """Return a state as the value lies, (n x batch) in one axis: what `lag` steps have put there, the first in front."""
        axis, n = self.analysis.batch_axis(value) or (0, 1)
        return self.states[value] if n == 1 else self._regrouped(self.states[value], value, axis, [-1])

    def _next(self, value: ir.Value) -> ir.Value:
        """Return what the next step reads: what was put there last, and what this one adds."""
        part, time = self.schedule.parts[value], self.analysis.tracks[value].axis
        mask = np.zeros(len(part.how), bool)
        mask[part.saved] = True
        parts = [self._columns(value, start, end) for start, end in runs_of(mask)]
        if part.lag > 1:
            parts.insert(0, self.emit.slice(self._kept[value], time, len(part.saved), None))
        together = self._joined(parts, time)
        axis, n = self.analysis.batch_axis(value) or (0, 1)
        return together if n == 1 else self._regrouped(together, value, axis, [n, -1])

    def _regrouped(self, x: ir.Value, value: ir.Value, axis: int, dims: list[int]) -> ir.Value:
        """Return a state with other dimensions in the place of the batch's."""
        shape, part = list(self.analysis.sizes[value][0]), self.schedule.parts[value]
        shape[self.analysis.tracks[value].axis] = part.lag * len(part.saved)
        shape[axis : axis + 1] = dims
        return self.emit("Reshape", x, shape)

    # ---------------------------------------------------------------- columns

    def _columns(self, value: ir.Value, start: int, end: int) -> ir.Value:
        """Return columns [start, end) of a value."""
        key = (value, start, end)
        if key not in self._taken:
            self._taken[key] = self._found(value, start, end)
        return self._taken[key]

    def _found(self, value: ir.Value, start: int, end: int) -> ir.Value:
        link, node = self.analysis.link(value), value.producer()
        if link is not None and node is not None and self.analysis.passing(value):
            output = list(node.outputs).index(value)
            if link.kind != PICKED:
                return self._computed(node, start, end)[output]
            first = link.outputs[output] if link.outputs else 0
            return self._picked(node, link, range(first + start, first + end))
        found = stretches(self._sources(value, range(start, end)))
        return self._joined([self._stretch(value, one) for one in found], self.analysis.tracks[value].axis)

    def _sources(self, value: ir.Value, columns: Iterable[int]) -> Iterable[tuple[Any, int]]:
        """Say where each column of a value is: in a run that is computed, in the state, in an earlier value."""
        part, holders = self.schedule.parts[value], self.schedule.common.holders[value]
        for i in columns:
            if part.how[i] == FRESH:
                run = next(run for run in part.runs if run[0] <= i < run[1])
                yield run, i - run[0]
            elif part.how[i] == ALIAS:
                yield holders[i]
            else:
                yield "state", int(np.searchsorted(part.saved, part.earlier[i]))

    def _stretch(self, value: ir.Value, one: Stretch) -> ir.Value:
        axis, low = self.analysis.tracks[value].axis, one.low
        if isinstance(one.source, tuple):
            start, end = one.source
            node = value.producer()
            run = self.x if node is None else self._computed(node, start, end)[0]
            taken = self._cut(run, axis, low, low + one.count, end - start)
        elif one.source == "state":
            part = self.schedule.parts[value]
            taken = self._cut(self._kept[value], axis, low, low + one.count, part.lag * len(part.saved))
        else:
            taken = self._columns(one.source, low, low + one.count)  # type: ignore[arg-type]
        return self._turned(taken, axis, one)

    def _picked(self, node: ir.Node, link: Link, columns: Iterable[int]) -> ir.Value:
        """Return columns that operands hold, or zeros."""
        sources: list[tuple[Any, int]] = []
        for i in columns:
            held = [(node.inputs[r.place], int(r.index[i, 0])) for r in link.readings if r.index[i, 0] != NONE]
            sources.append(held[0] if held else (None, 0))
        found = stretches(sources)
        if all(one.source is None for one in found):
            return self._zeros(node, link, found[0].count)
        return self._joined(self._with_zeros(link.axis, found), link.axis)

    def _with_zeros(self, axis: int, found: Sequence[Stretch]) -> list[ir.Value]:
        """Return stretches, those of zeros as padding of their neighbours."""
        parts: list[ir.Value] = []
        front = 0
        for k, one in enumerate(found):
            if one.source is None:
                front = one.count if k == 0 else 0
                continue
            part = self._turned(self._columns(one.source, one.low, one.low + one.count), axis, one)  # type: ignore[arg-type]
            behind = found[k + 1].count if k + 1 < len(found) and found[k + 1].source is None else 0
            if front or behind:
                part = self._between_zeros(part, one.source, axis, front, behind)
            parts.append(part)
            front = 0
        return parts

    def _zeros(self, node: ir.Node, link: Link, count: int) -> ir.Value:
        """Return zeros of the shape of a column that is there: one that something else reads too."""
        needed = self.schedule.needed
        held = [(value, r.index[:, 0]) for r in link.readings if (value := node.inputs[r.place]) in needed]
        value, at = next((value, int(i)) for value, index in held for i in index if i != NONE and needed[value][i])
        one = self.emit("Shape", self._columns(value, at, at + 1))
        zero = self.emit("ConstantOfShape", one)
        return zero if count == 1 else self._between_zeros(zero, value, link.axis, 0, count - 1)

    def _between_zeros(self, x: ir.Value, like: Any, axis: int, front: int, behind: int) -> ir.Value:
        """Return some columns of a value between zeros; all axes are named, see `rtserve.graphs.fold.name_every_axis`."""
        pads = np.zeros((2, len(self.analysis.sizes[like][0])), dtype=np.int64)
        pads[:, axis] = front, behind
        return self.emit("Pad", x, pads.reshape(-1))

    def _cut(self, x: ir.Value, axis: int, start: int, end: int, length: int) -> ir.Value:
        return x if (start, end) == (0, length) else self.emit.slice(x, axis, start, end)

    def _turned(self, x: ir.Value, axis: int, one: Stretch) -> ir.Value:
        return x if one.step > 0 or one.count == 1 else self.emit.slice(x, axis, -1, None, -1)

    def _joined(self, parts: Sequence[ir.Value], axis: int) -> ir.Value:
        return parts[0] if len(parts) == 1 else self.emit("Concat", *parts, axis=axis)

    # ------------------------------------------------------------------ nodes

    def _computed(self, node: ir.Node, start: int, end: int) -> list[ir.Value]:
        """Return a node's outputs for columns [start, end)."""
        key = (node, start, end)
        if key not in self._made:
            link = self.analysis.links[node]
            assert isinstance(link, Link)
            self._made[key] = self._copy(node, link, start, end)
        return self._made[key]

    def _copy(self, node: ir.Node, link: Link, start: int, end: int) -> list[ir.Value]:
        attributes = attributes_of(node)
        low, high = start, end
        read = {reading.place for reading in link.readings}
        if link.slide is not None:
            source = node.inputs[0]
            assert source is not None
            low, high, pads = link.slide.reads(start, end, self.analysis.tracks[source].length)
            attributes["pads"] = _padded(attributes, link.slide.spatial, len(self.analysis.sizes[source][0]) - 2, pads)
        inputs: list[Any] = []
        for place, value in enumerate(node.inputs):
            if value is not None and place in read:
                inputs.append(self._columns(value, low, high))
            elif place in link.constants:
                array, axis = constant(value), link.constants[place]
                assert array is not None
                inputs.append(self._constant(array.take(range(start, end), axis), value))
            else:
                inputs.append(self._constant(constant(value), value))
        if node.op_type == "Reshape":
            inputs[1] = self._target(node, link, end - start)
        return self._node(node, inputs, attributes)

    def _target(self, node: ir.Node, link: Link, length: int) -> ir.Value:
        """Return what a Reshape makes of so many columns."""
        target = np.array(constant(node.inputs[1]))
        if not link.rows and target[link.axis] > 0:
            target[link.axis] = length
        return self.emit.constant(target)

    def _mixed(self, node: ir.Node, link: Whole | None) -> None:
        """Write a node that reads all of the window."""
        inputs: list[Any] = []
        needs = link.needs if link is not None else {}
        for place, value in enumerate(node.inputs):
            if value is None:
                inputs.append(None)
            elif value in self.analysis.tracks:
                at = needs.get(place)
                n = self.analysis.tracks[value].length
                inputs.append(self._columns(value, *((0, n) if at is None else (at, at + 1))))
            else:
                inputs.append(self._whole[value] if value in self._whole else self._constant(constant(value), value))
        if needs:
            inputs[1] = self.emit.constant(np.array(0, np.int64))
        for old, new in zip(node.outputs, self._node(node, inputs, attributes_of(node)), strict=True):
            self._whole[old] = new

    def _constant(self, array: np.ndarray | None, value: ir.Value | None) -> ir.Value | None:
        return None if array is None else self.emit.constant(array, name=str(value.name if value else ""), keep=True)

    def _node(self, node: ir.Node, inputs: Sequence[Any], attributes: dict[str, Any]) -> list[ir.Value]:
        """Write a copy of a node."""
        made = self.emit.many(node.op_type, *inputs, n=len(node.outputs), name=str(node.outputs[0].name), **attributes)
        for old, new in zip(node.outputs, made, strict=True):
            if not old.name:
                new.name = ""
            if old.dtype is not None:
                new.type = old.type
        return made


def _padded(attributes: dict[str, Any], spatial: int, rank: int, pads: tuple[int, int]) -> list[int]:
    """Return a node's padding with other numbers along time."""
    found = list(attributes.get("pads") or [0] * 2 * rank)
    found[spatial], found[rank + spatial] = pads
    return found


def _input(name: str, dims: Sequence[Any]) -> ir.Value:
    import onnx_ir as ir

    return ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(ir.DataType.FLOAT))
