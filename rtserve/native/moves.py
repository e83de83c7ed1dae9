"""Operators that repeat, fold or pick numbers by position, as views and copies by a table."""

from __future__ import annotations

import numpy as np

from rtserve.native.draft import Draft, rewrite
from rtserve.native.flow import Operation

__all__: list[str] = []


@rewrite("Tile")
def tile(draft: Draft, operation: Operation) -> bool:
    """The whole again and again along each axis."""
    name, out = operation.inputs[0], operation.outputs[0]
    shape = draft.shape(name)
    times = [int(n) for n in draft.known(operation, 1, "repeats").reshape(-1)]
    apart = draft.reshape(name, [m for n in shape for m in (1, n)])
    spread = draft.put("Expand", [apart], [m for pair in zip(times, shape, strict=True) for m in pair])
    draft.reshape(spread, [k * n for k, n in zip(times, shape, strict=True)], out=out)
    return True


@rewrite("DepthToSpace", "SpaceToDepth")
def depth_space(draft: Draft, operation: Operation) -> bool:
    """Blocks of an image as channels, and back (modes DCR and CRD)."""
    name, out, b = operation.inputs[0], operation.outputs[0], operation.attrs["blocksize"]
    n, c, h, w = draft.shape(name)
    last = operation.text("mode", "DCR") == "CRD"
    if operation.op == "DepthToSpace":
        split = (n, c // b**2, b, b, h, w) if last else (n, b, b, c // b**2, h, w)
        order = (0, 1, 4, 2, 5, 3) if last else (0, 3, 4, 1, 5, 2)
        shape = (n, c // b**2, h * b, w * b)
    else:
        split, order = (n, c, h // b, b, w // b, b), (0, 1, 3, 5, 2, 4) if last else (0, 3, 5, 1, 2, 4)
        shape = (n, c * b * b, h // b, w // b)
    moved = draft.transpose(draft.reshape(name, split), order)
    draft.reshape(moved, shape, out=out)
    return True


@rewrite("Trilu")
def trilu(draft: Draft, operation: Operation) -> bool:
    """A triangle of a matrix; the other is zero, whatever stood there."""
    name = operation.inputs[0]
    k = int(draft.known(operation, 1, "a diagonal").reshape(-1)[0]) if operation.has(1) else 0
    whole = np.ones(draft.shape(name)[-2:], dtype=bool)
    mask = np.triu(whole, k) if operation.attrs.get("upper", 1) else np.tril(whole, k)
    draft.pointwise("Where", draft.keep(mask), name, draft.keep(0.0), out=operation.outputs[0])
    return True


@rewrite("GatherElements", "GatherND", "ReverseSequence")
def pick(draft: Draft, operation: Operation) -> bool:
    """Numbers picked by an index that is known: where each lies follows from numpy picking from their places."""
    name = operation.inputs[0]
    shape = draft.shape(name)
    index = draft.known(operation, 1, "an index").astype(np.int64)
    places = np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)
    if operation.op == "GatherElements":
        axis = operation.attrs.get("axis", 0)
        picked = np.take_along_axis(places, np.where(index < 0, index + shape[axis], index), axis)
    elif operation.op == "GatherND":
        picked = _gathered(places, index, operation.attrs.get("batch_dims", 0))
    else:
        picked = _turned(places, index, operation.attrs.get("batch_axis", 1), operation.attrs.get("time_axis", 0))
    flat = draft.reshape(name, (places.size,))
    taken = draft.put("Gather", [flat, draft.keep(picked.reshape(-1))], (picked.size,), axis=0)
    draft.reshape(taken, picked.shape, out=operation.outputs[0])
    return True


def _gathered(places: np.ndarray, index: np.ndarray, batch: int) -> np.ndarray:
    if not batch:
        found: np.ndarray = places[tuple(np.moveaxis(index, -1, 0))]
        return found
    lead = places.shape[:batch]
    rows, picks = places.reshape(-1, *places.shape[batch:]), index.reshape(-1, *index.shape[batch:])
    answers = [row[tuple(np.moveaxis(where, -1, 0))] for row, where in zip(rows, picks, strict=True)]
    return np.stack(answers).reshape(*lead, *answers[0].shape)


def _turned(places: np.ndarray, lengths: np.ndarray, batch_axis: int, time_axis: int) -> np.ndarray:
    rows = np.moveaxis(places, (batch_axis, time_axis), (0, 1)).copy()
    for row, n in zip(rows, lengths, strict=True):
        row[:n] = row[:n][::-1].copy()
    return np.moveaxis(rows, (0, 1), (batch_axis, time_axis))


@rewrite("ScatterElements", "Scatter", "ScatterND")
def scatter(draft: Draft, operation: Operation) -> bool:
    """Numbers put at places that are known: each place takes the last number that is put there, or its own."""
    x, _, updates = operation.inputs
    if operation.text("reduction", "none") != "none":
        raise operation.refuse(f"with reduction {operation.text('reduction', 'none')}")
    shape, index = draft.shape(x), draft.known(operation, 1, "an index").astype(np.int64)
    own = np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)
    new = own.size + np.arange(np.prod(draft.shape(updates), dtype=np.int64)).reshape(draft.shape(updates))
    picked = own.copy()
    if operation.op == "ScatterND":
        for where in np.ndindex(*index.shape[:-1]):
            picked[tuple(index[where])] = new[where]
    else:
        axis = operation.attrs.get("axis", 0)
        for where in np.ndindex(*index.shape):
            target = list(where)
            target[axis] = int(index[where])
            picked[tuple(target)] = new[where]
    both = [draft.reshape(name, (part.size,)) for name, part in ((x, own), (updates, new))]
    flat = draft.put("Concat", both, (own.size + new.size,), axis=0)
    taken = draft.put("Gather", [flat, draft.keep(picked.reshape(-1))], (picked.size,), axis=0)
    draft.reshape(taken, shape, out=operation.outputs[0])
    return True
