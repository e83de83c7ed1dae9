"""Resize and Upsample: every new sample of an axis is picked, or a weighted sum of a few that are.

Which samples and which weights is the executor's (`rtserve.runtime.resampling`), which rounds places as engines do.
"""

from __future__ import annotations

import numpy as np

from rtserve.native.draft import Draft, rewrite
from rtserve.native.flow import Operation, Unsupported

__all__: list[str] = []

Taps = list[list[tuple[int, float]]]
"""Of every new sample, the samples it is made of and their weights."""


@rewrite("Resize", "Upsample")
def resize(draft: Draft, operation: Operation) -> bool:
    """Nearest, linear, cubic; by scales or sizes that are known."""
    name, out = operation.inputs[0], operation.outputs[0]
    changes = _changes(draft, operation)
    if not changes:
        draft.pointwise("Identity", name, out=out)
    for k, (axis, taps) in enumerate(changes):
        name = _resampled(draft, name, axis, taps, out if k == len(changes) - 1 else "")
    return True


def _changes(draft: Draft, operation: Operation) -> list[tuple[int, Taps]]:
    """Return each axis that changes."""
    import torch

    from rtserve.runtime.node import Node, UnsupportedOperatorError
    from rtserve.runtime.resampling import taps_of

    given = [draft.constants.get(name) if name else None for name in operation.inputs]
    constants = [None if value is None else torch.from_numpy(np.ascontiguousarray(value)) for value in given]
    node = Node(operation.op, dict(operation.attrs), constants, [bool(name) for name in operation.inputs],
                [bool(name) for name in operation.outputs], draft.flow.opset, torch.float32,
                torch.device("cpu"))  # fmt: skip
    try:
        return taps_of(node, torch.empty(draft.shape(operation.inputs[0]), device="meta"))
    except UnsupportedOperatorError as error:
        raise Unsupported(f"{error} (value {operation.outputs[0]})") from None


def _resampled(draft: Draft, name: str, axis: int, taps: Taps, out: str) -> str:
    """Write an axis anew: as many picks as a sample has taps, each times its weights, added in their order."""
    shape = list(draft.shape(name))
    shape[axis] = len(taps)
    column = (-1, *(1,) * (len(shape) - 1 - axis))
    n_taps, total = max(map(len, taps)), ""
    rows = [[*row, *[(row[-1][0], 0.0)] * (n_taps - len(row))] for row in taps]
    for k in range(n_taps):
        index, weights = (np.array(column) for column in zip(*(row[k] for row in rows), strict=True))
        last = out if k == n_taps - 1 else ""
        plain = bool((weights == 1.0).all())
        part = draft.put("Gather", [name, draft.keep(index)], shape, axis=axis, out=last if plain and not total else "")
        if not plain:
            factor = draft.keep(weights.reshape(column))
            part = draft.pointwise("Mul", part, factor, out="" if total else last)
        total = draft.pointwise("Add", total, part, out=last) if total else part
    return total
