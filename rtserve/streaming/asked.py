"""A node that is asked what it does along time: what it reads, and the answers that most nodes give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rtserve.graphs.fold import constant
from rtserve.streaming.link import ALIGNED, Link, Reading, Track, Whole

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Asked", "Sizes", "aligned", "first_alone"]

Sizes = Mapping["ir.Value", tuple[tuple[int, ...], tuple[int, ...]]]
"""Shape of a value at two batch sizes; what is not known is not in it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A node, and what is known of what it reads."""

    node: ir.Node
    tracks: Mapping[ir.Value, Track]
    sizes: Sizes

    def track(self, place: int) -> Track | None:
        """Return where time lies in an operand; None where it has none."""
        inputs = self.node.inputs
        value = inputs[place] if place < len(inputs) else None
        return self.tracks.get(value) if value is not None else None

    @property
    def tracked(self) -> dict[int, Track]:
        """The operands that have columns."""
        found = {place: self.track(place) for place in range(len(self.node.inputs))}
        return {place: track for place, track in found.items() if track is not None}

    def constant(self, place: int) -> np.ndarray | None:
        """Return a constant operand."""
        return constant(self.node.inputs[place]) if place < len(self.node.inputs) else None

    def computed_besides(self) -> bool:
        """Whether an operand is computed and has no columns: it is another one in every window."""
        rest = [v for p, v in enumerate(self.node.inputs) if v is not None and p not in self.tracked]
        return any(constant(value) is None for value in rest)

    def rank(self, place: int) -> int:
        """Return how many axes an operand has."""
        value = self.node.inputs[place]
        return len(self.sizes[value][0]) if value in self.sizes else len(value.shape or ())  # type: ignore[index, union-attr]


def aligned(asked: Asked, axis: int, *, rows: bool = False, constants: Mapping[int, int] | None = None) -> Link | Whole:
    """Return the link of outputs whose column i comes of column i of every operand, where that is so."""
    tracked = asked.tracked
    lengths = {track.length for track in tracked.values()}
    (n,) = lengths if len(lengths) == 1 else (0,)
    for out in asked.node.outputs:
        low, high = asked.sizes.get(out, ((), ()))
        if not rows and (axis >= len(low) or not low[axis] == high[axis] == n):
            return Whole(reason="is of another length")
    index = np.arange(n)[:, None]
    return Link(
        kind=ALIGNED, axis=axis, rows=rows, constants=dict(constants or {}),
        readings=tuple(Reading(place=place, index=index) for place in tracked),
    )  # fmt: skip


def first_alone(asked: Asked) -> Link | Whole | None:
    """Return a refusal unless the first operand alone is computed."""
    if set(asked.tracked) != {0} or asked.computed_besides():
        return Whole(reason="its parameters are computed")
    return None
