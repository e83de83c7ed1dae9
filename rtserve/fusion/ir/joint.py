"""What assembly knows of the views that it joins on the batch, handed over with the graph.

Sample n of view v is a sample of a source: a value that the first stage made, a copy of one times a factor, or one of the
distinct windows that a product gathers. The knowledge rides on the values that it is about: a pass works on a copy of the
graph, so what it did to a mark is undone with it, and what takes a value's place takes its marks
(`rtserve.graphs.fold.replace_value`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.conv import Conv1d
from rtserve.graphs.emit import Emitter

__all__ = ["DENSE", "Apart", "Joint", "Signal", "Source", "dense_behind", "ends_of", "join", "joints", "moved",
           "put_apart", "retained", "sources"]  # fmt: skip

SOURCE, JOINT, APART, DENSE = "source ", "views", "views apart", "dense behind views"
"""Marks; a source's name stands behind the first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What views are put together of: a value (batch, channels, time), known by the name that it is marked with.

    Parameters
    ----------
    name : str
        Its own; `sources` has the value that has its samples now.
    samples : int
        How many it has.
    flat : bool
        Whether they are rows of their own, (batch x samples, channels).
    base : str
        The source of which it is a copy; empty where it is none.
    factor : float
        Times what.
    stage : Conv1d or None
        The convolution of the window that its samples are outputs of, but for the factor, which is not on the bias.
    windows : ndarray or None, (samples, taps)
        Which samples of the window each of them reads; `ZERO` for zeros.
    """

    name: str
    samples: int
    flat: bool = False
    base: str = ""
    factor: float = 1.0
    stage: Conv1d | None = None
    windows: np.ndarray | None = None

    @classmethod
    def of(cls, value: ir.Value, samples: int, *, base: ir.Value | None = None, **known: Any) -> Source:
        """Return the source that a value is, and mark it, and what it is a copy of."""
        for marked in (value, base):
            if marked is not None:
                marked.meta.setdefault(f"{SOURCE}{marked.name}", 0)
        return cls(name=str(value.name), samples=samples, base=str(base.name) if base is not None else "", **known)


@dataclass(frozen=True, kw_only=True, eq=False)
class Signal:
    """A value and of which samples of which sources it is put together."""

    value: ir.Value
    places: list[tuple[Source, int]]

    @property
    def reads(self) -> dict[str, Any]:
        """What a source that is a copy of it reads, as `Source` has it; nothing where that is not known."""
        stages = {source.stage for source, _ in self.places}
        if len(stages) > 1 or None in stages or any(source.factor != 1.0 for source, _ in self.places):
            return {}
        windows = np.stack([source.windows[t] for source, t in self.places])  # type: ignore[index]
        return {"stage": stages.pop(), "windows": windows}

    @classmethod
    def whole(cls, value: ir.Value, n: int, **known: Any) -> Signal:
        """Return the signal of a value that is a source itself."""
        source = Source.of(value, n, **known)
        return cls(value=value, places=[(source, t) for t in range(n)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    """Views joined on the batch.

    Parameters
    ----------
    sources : dict of int
        What they are put together of, in the order of use, and how many samples those in front of each have.
    index : ndarray, (views, samples)
        Which of all these samples every sample of every view is.
    offset : ndarray, (channels,)
        What all of them hold beside what is linear in the window.
    group : int or None
        The networks behind them; `Apart` has the same. None where they are put apart again on the way.
    """

    sources: dict[Source, int]
    index: np.ndarray
    offset: np.ndarray
    group: int | None

    @cached_property
    def number(self) -> np.ndarray:
        """Of which of the sources every sample of every view is, (views, samples)."""
        return np.searchsorted(list(self.sources.values()), self.index, side="right") - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Apart:
    """Where views are put apart again: a Reshape to (views, batch, ...).

    Parameters
    ----------
    group : int
        The networks in front of it.
    weights : ndarray or None, (views,)
        What the views are summed with in front of a dense layer; None where they are not.
    """

    group: int
    weights: np.ndarray | None = None


def join(emit: Emitter, signals: Sequence[Signal], *, offset: np.ndarray, group: int | None) -> ir.Value:
    """Join views on the batch, and mark them and what they are put together of; one view stays as it is."""
    if len(signals) == 1:
        return signals[0].value
    y = emit("Concat", *[signal.value for signal in signals], axis=0)
    used = dict.fromkeys(source for signal in signals for source, _ in signal.places)
    first = dict(zip(used, accumulate([source.samples for source in used], initial=0), strict=False))
    index = np.array([[first[source] + t for source, t in signal.places] for signal in signals], dtype=np.int64)
    y.meta[JOINT] = Joint(sources=first, index=index, offset=offset, group=group)
    return y


def put_apart(emit: Emitter, y: ir.Value, shape: Sequence[int], apart: Apart) -> ir.Value:
    """Return (views x batch, ...) as (views, batch, ...), marked."""
    views, *rest = shape
    y = emit("Reshape", y, [views, -1, *rest])
    y.meta[APART] = apart
    return y


def joints(model: ir.Model) -> list[tuple[ir.Node, Joint]]:
    """Return every node that joins views on the batch."""
    found = [(node, node.outputs[0].meta.get(JOINT)) for node in model.graph if node.op_type == "Concat"]
    return [(node, joint) for node, joint in found if joint is not None]


def sources(model: ir.Model) -> dict[str, tuple[ir.Value, int]]:
    """Return for every source the value that has its samples now, and which of them is its first.

    Of several that do, the one in front; one of rank 4 before others.
    """
    found: dict[str, tuple[ir.Value, int]] = {}
    values = [value for node in model.graph for value in node.outputs]
    for value in sorted(values, key=lambda value: value.shape is None or len(value.shape) != 4):
        for key, first in value.meta.items():
            if key.startswith(SOURCE):
                found.setdefault(key.removeprefix(SOURCE), (value, first))
    return found


def ends_of(model: ir.Model, group: int | None) -> list[tuple[ir.Node, Apart]]:
    """Return where the views in front of some networks are put apart again."""
    found = [(node, node.outputs[0].meta.get(APART)) for node in model.graph if node.op_type == "Reshape"]
    return [(node, apart) for node, apart in found if apart is not None and apart.group == group]


def dense_behind(model: ir.Model, apart: Apart) -> ir.Node | None:
    """Return the dense layer that reads the weighted sum over the views; None where there is none."""
    if apart.weights is None:
        return None
    return next((node for node in model.graph if node.outputs[0].meta.get(DENSE) == apart.group), None)


def retained(new: ir.Value, old: ir.Value) -> ir.Value:
    """Return a value of the same numbers as another in another shape, which has its marks from now on."""
    new.meta.update(old.meta)
    return new


def moved(new: ir.Value, old: ir.Value, first: int) -> None:
    """Note that a source's samples are those of another value, from its sample `first` on."""
    new.meta.update({key: at + first for key, at in old.meta.items() if key.startswith(SOURCE)})
