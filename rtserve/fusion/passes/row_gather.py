r"""Views put together out of rows by one Gather.

Behind a shared first stage every view that moves samples is a few runs of the stage's outputs and of seam windows. Each
run is cut out and joined, every view is joined to the batch, and the batch is put in blocks for the next convolution:
a handful of small nodes for each view. With time in front of the channels an output is one contiguous row, so

.. math:: v_b[n, :] = R[\,i_b(n), :\,], \qquad R = [\,y_0; y_1; \dots; s\,],

is one Gather for all views, however many, of a table R that holds every phase, every scaled copy of one and every distinct
seam window once. The engine writes its blocks out as rows and reads rows into blocks at no more cost than the other way.
What follows elementwise is done on the table.

The views then lie behind the batch, (batch x views), and where they are put apart again a mean over them is part of the
dense layer behind it, :math:`W \sum_b w_b h_b = [w_1 W \dots w_B W]\,[h_1; \dots; h_B]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.fusion.passes import deep_sharing, fast_fir
from rtserve.fusion.passes.affine import Refused
from rtserve.fusion.passes.batchwise import places_apart
from rtserve.fusion.passes.blocks import BLOCK
from rtserve.fusion.passes.layout import SAME_RANK
from rtserve.fusion.passes.outcome import PassResult
from rtserve.fusion.passes.phases import geometry_of, sliced
from rtserve.fusion.passes.row_table import FROM_ROWS, as_rows, from_rows
from rtserve.fusion.passes.uses import attributes_of, axes_of, followers, inner_dims, only_reader
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import constant, replace_value, supersede

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "run"]

NAME = "row-gather"
PREFIX = "rows"
MOST_WEIGHTS = 1 << 14
"""Weights up to which a mean over views goes into the dense layer; more would cost more to read than the mean."""

Place = tuple[Any, int]
"""A value (batch, channels, 1, time) and which of its samples."""


def run(model: ir.Model) -> PassResult:
    """Rewrite every batch of views that is put together out of pieces, in place."""
    notes: list[str] = []
    changed = 0
    for node in list(model.graph):
        if node.op_type != "Concat" or node.attributes.get_int("axis", 0) != 0:
            continue
        try:
            _rewrite(model, node)
            changed += 1
        except Refused as refusal:
            notes.append(f"{node.outputs[0].name}: {refusal}")
    done = f"{changed} batches of views put together at once"
    return PassResult(changed=changed, notes=(done,) if changed else tuple(notes) or ("no views on the batch",))


def _rewrite(model: ir.Model, node: ir.Node) -> None:
    """Rewrite one batch of views.

    Raises
    ------
    Refused
        Where it is none of the kind, or is better left as it is.
    """
    steps = followers(node.outputs[0], SAME_RANK)
    last = (node, *steps)[-1].outputs[0]
    table = _tabulate(_views(node, last))
    if _better_in_phases(model, last, table):
        raise Refused("fast FIR keeps it in phases")
    n_views = len(table.index)
    ends = places_apart(model, node.outputs[0], n_views)
    if ends is None:
        raise Refused("what follows looks across windows")
    emit = Emitter(model.graph, before=node, prefix=PREFIX)
    parts = [_samples(emit, source) if seams is None else _product(emit, seams) for source, seams in table.sources]
    rows = emit("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    for step in steps:
        rows = emit(step.op_type, rows, *step.inputs[1:], **attributes_of(step))
    supersede(model, last, from_rows(emit, rows, table.index, inner_dims(last)[0]))  # type: ignore[index]
    for end in ends:
        _turn(model, end, n_views)


def _views(node: ir.Node, last: ir.Value) -> list[list[Place]]:
    """Return of which samples every view on the batch is put together; `last` is what the next layer reads."""
    dims = [inner_dims(value) for value in node.inputs]
    if any(d is None or len(d) != 3 or d[1] != 1 or d != dims[0] for d in dims):
        raise Refused("not (batch, channels, 1, time)")
    if dims[0][0] % BLOCK or only_reader(last, "Conv") is None:  # type: ignore[index]
        raise Refused("not in front of one convolution on whole blocks")
    views = [_places(value) for value in node.inputs]
    if not any(source is not view[0][0] for view in views for source, _ in view):
        raise Refused("no view is put together out of pieces")
    return views


def _places(value: ir.Value | None) -> list[Place]:
    """Return of which samples of which values a value is put together along time."""
    node = value.producer() if value is not None else None
    dims = inner_dims(value)
    if value is None or dims is None or len(dims) != 3:
        return []
    if node is not None and node.op_type == "Concat" and node.attributes.get_int("axis", 0) == 3:
        return [place for part in node.inputs for place in _places(part)]
    if node is not None and node.op_type == "Slice" and (kept := sliced(node)) is not None:
        places = _places(node.inputs[0])
        return [places[t] for t in kept]
    if node is not None and node.op_type == "Split" and node.attributes.get_int("axis", 0) == 3:
        sizes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if sizes is not None:
            at = node.outputs.index(value)
            return _places(node.inputs[0])[int(sizes[:at].sum()) : int(sizes[: at + 1].sum())]
    return [(value, t) for t in range(dims[2])]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seams:
    """A product of gathered windows, and how each of them is had once."""

    gather: ir.Node
    flat: ir.Node
    product: ir.Node
    order: np.ndarray
    """(distinct windows, taps): what is gathered."""
    which: np.ndarray
    """Which of the distinct windows every sample is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """What is in the table, in order, and which row of it every sample of every view is, (views, samples)."""

    sources: list[tuple[Any, _Seams | None]]
    index: np.ndarray


def _tabulate(views: list[list[Place]]) -> _Table:
    sources, at, length = [], {}, 0
    for source in dict.fromkeys(source for view in views for source, _ in view):
        seams = _seams(source)
        which = np.arange(inner_dims(source)[2]) if seams is None else seams.which  # type: ignore[index]
        sources.append((source, seams))
        at[source] = length + which
        length += int(which.max()) + 1
    index = np.array([[at[source][t] for source, t in view] for view in views], dtype=np.int64)
    return _Table(sources=sources, index=index)


def _better_in_phases(model: ir.Model, last: ir.Value, table: _Table) -> bool:
    """Whether fast FIR, which wants the views in phases, is worth more than this and what builds on it."""
    reader = only_reader(last, "Conv")
    conv = geometry_of(reader) if reader is not None else None
    if reader is None or conv is None or not fast_fir.wants(model, reader):
        return False
    return not deep_sharing.pays(conv, table.index, deep_sharing.pack(table.index, conv))


def _samples(emit: Emitter, source: ir.Value) -> ir.Value:
    channels, _, n = inner_dims(source)  # type: ignore[misc]
    return as_rows(emit, source, n, channels)


def _seams(source: ir.Value) -> _Seams | None:
    """Return what a value is if it is a product of gathered windows, turned; None for another."""
    chain: list[ir.Node] = []
    value: ir.Value | None = source
    for kind in ("Transpose", "Reshape", "Gemm", "Reshape", "Gather"):
        node = value.producer() if value is not None else None
        if node is None or node.op_type != kind:
            return None
        chain.append(node)
        value = node.inputs[0]
    turn, _, product, flat, gather = chain
    order, dims = constant(gather.inputs[1]), inner_dims(source)
    if (
        order is None
        or dims is None
        or order.ndim != 1
        or order.size % dims[2]
        or gather.attributes.get_int("axis", 0) != 1
    ):
        return None
    if tuple(turn.attributes.get_ints("perm") or ()) != FROM_ROWS:
        return None
    distinct, which = np.unique(order.reshape(dims[2], -1), axis=0, return_inverse=True)
    return _Seams(gather=gather, flat=flat, product=product, order=distinct, which=which.reshape(-1))


def _product(emit: Emitter, seams: _Seams) -> ir.Value:
    """Return the product of every distinct window, (batch, windows, channels)."""
    product = seams.product
    picked = emit("Gather", seams.gather.inputs[0], seams.order.reshape(-1), axis=1)
    y = emit("Gemm", emit("Reshape", picked, *seams.flat.inputs[1:]), *product.inputs[1:], **attributes_of(product))
    return emit("Reshape", y, [-1, len(seams.order), int(product.outputs[0].shape[1])])  # type: ignore[index,arg-type]


def _turn(model: ir.Model, apart: ir.Node, views: int) -> None:
    """Put the views apart where they lie behind the batch; a mean or weighted sum over them goes into the dense layer."""
    emit = Emitter(model.graph, before=apart, prefix=PREFIX)
    h, target = apart.inputs[0], constant(apart.inputs[1])
    rest = [int(d) for d in target[2:]]  # type: ignore[index]
    weighted = _weights_of(apart, views) if len(rest) == 1 else None
    dense = only_reader(weighted[0], "Gemm") if weighted is not None else None
    kernel = _kernel(dense, weighted[0]) if dense is not None and weighted is not None else None
    if weighted is None or dense is None or kernel is None or kernel.size * views > MOST_WEIGHTS:
        turned = emit("Transpose", emit("Reshape", h, [-1, views, *rest]), perm=[1, 0, *range(2, 2 + len(rest))])
        replace_value(model, apart.outputs[0], turned)
        return
    attributes = attributes_of(dense)
    tiled = [w * kernel.astype(np.float64) for w in weighted[1]]
    kernel = np.concatenate(tiled, axis=1 if attributes.get("transB", 0) else 0)
    emit.before = dense
    flat = emit("Reshape", h, [-1, views * rest[0]])
    replace_value(model, dense.outputs[0], emit("Gemm", flat, kernel, *dense.inputs[2:], **attributes))


def _kernel(dense: ir.Node, h: ir.Value) -> np.ndarray | None:
    """Return the weights of a dense layer that reads `h`, (batch, features); None for another product."""
    plain = dense.inputs[0] is h and not dense.attributes.get_int("transA", 0)
    return constant(dense.inputs[1]) if plain else None


def _weights_of(apart: ir.Node, views: int) -> tuple[ir.Value, np.ndarray] | None:
    """Return the mean or weighted sum over the views and its weights; None for anything else."""
    mean = only_reader(apart.outputs[0], "ReduceMean")
    if mean is not None:
        return (mean.outputs[0], np.full(views, 1.0 / views)) if _over_views(mean) else None
    mul = only_reader(apart.outputs[0], "Mul")
    total = only_reader(mul.outputs[0], "ReduceSum") if mul is not None else None
    weights = next((a for a in map(constant, mul.inputs) if a is not None), None) if mul is not None else None
    if total is None or weights is None or weights.shape != (views, 1, 1) or not _over_views(total):
        return None
    return total.outputs[0], weights.reshape(-1).astype(np.float64)


def _over_views(node: ir.Node) -> bool:
    return axes_of(node) == (0,) and not node.attributes.get_int("keepdims", 1)
