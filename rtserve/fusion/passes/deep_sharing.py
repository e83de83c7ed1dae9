r"""Views share further layers, not only the first.

Behind `rtserve.fusion.passes.row_gather` a view is a list of rows of a table, :math:`v_b[n] = R[i_b(n)]`. A convolution of
stride s computes its output n from the rows :math:`i_b(s n + d j - l)`, j = 0 .. K - 1, and from nothing else: where two
views read the same rows, in whatever places, the output is the same. Rolls that differ by a multiple of the strides so
far read the same rows everywhere but at their seams. So the convolution gets

- whole views, each of which brings mostly windows that no other has, and
- patches: views put together of the pieces that hold the windows which are still missing, zeros of the padding included,

and its outputs are again a table of which every view is a list of rows. Windows that lie across two pieces of a patch are
computed and read by nobody. The next convolution can do the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.engines.onnxruntime import COSTS
from rtserve.fusion.ir.conv import ZERO, Conv1d, conv_of
from rtserve.fusion.ir.nodes import followers, private_producer, producer, reread
from rtserve.fusion.ir.refused import Refused
from rtserve.fusion.passes.affine import static_dims
from rtserve.fusion.passes.outcome import PassResult
from rtserve.fusion.passes.row_table import ROWS, as_rows, from_rows, spans
from rtserve.graphs.emit import Emitter
from rtserve.graphs.macs import renew_shapes

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "Packing", "pack", "pays", "run"]

NAME = "deep-sharing"
PREFIX = "deep"


@dataclass(frozen=True, kw_only=True, eq=False)
class Packing:
    """What a convolution computes for all views.

    Parameters
    ----------
    rows : ndarray, (entries, n_in)
        The rows that the entries on the batch axis are made of; `ZERO` for zeros.
    place : ndarray, (views, n_out)
        Which output of the entries, counted through, every view's output is.
    """

    rows: np.ndarray
    place: np.ndarray


def pays(conv: Conv1d, index: np.ndarray, packing: Packing) -> bool:
    """Whether the windows that are not computed again cost clearly more time than putting the outputs together.

    Parameters
    ----------
    conv : Conv1d
        The convolution.
    index : ndarray, (views, n_in)
        Which row every sample of a view is.
    packing : Packing
        What `pack` made of it.
    """
    views = len(index)
    saved = (views - len(packing.rows)) * conv.n_out * conv.rows * conv.weight.size / COSTS.macs_per_us
    moved = views * conv.n_out * (COSTS.gathered_row_us + len(conv.weight) * COSTS.depthwise_us)
    return bool(saved > 1.25 * (5 * COSTS.node_us + moved))


def pack(index: np.ndarray, conv: Conv1d) -> Packing:
    """Return the entries that hold every distinct window of the views.

    Parameters
    ----------
    index : ndarray, (views, n_in)
        Which row every sample of a view is.
    conv : Conv1d
        The convolution.
    """
    packer = _Packer(index=index, conv=conv)
    for view in range(len(index)):
        packer.add(view)
    return packer.packing()


@dataclass(kw_only=True, eq=False)
class _Packer:
    """Entries so far. A window is known by the rows it reads."""

    index: np.ndarray
    conv: Conv1d
    whole: list[np.ndarray] = field(default_factory=list)
    patches: list[np.ndarray] = field(default_factory=list)
    free: int = 0
    """The first output of the last patch that is not taken."""
    known: dict[bytes, tuple[bool, int, int]] = field(default_factory=dict)
    """Where a window is: in a patch or a whole view, which one, which output."""

    def __post_init__(self) -> None:
        conv = self.conv
        self.windows = conv.reads(self.index)
        self.first = -(-conv.left // conv.stride)  # the first output of a patch that reads no padding in front

    def add(self, view: int) -> None:
        """See to it that all windows of a view are computed."""
        keys = [window.tobytes() for window in self.windows[view]]
        runs = spans(n for n, key in enumerate(keys) if key not in self.known)
        taken = sum(self._length(high - low) for low, high in runs)
        if 2 * taken > self.conv.n_in or not all(self._fits(self.first, high - low) for low, high in runs):
            for n, key in enumerate(keys):
                self.known.setdefault(key, (False, len(self.whole), n))
            self.whole.append(self.index[view])
            return
        for low, high in runs:
            first = self._put(self.windows[view, low:high])
            for n in range(low, high):
                self.known.setdefault(keys[n], (True, len(self.patches) - 1, first + n - low))

    def _length(self, count: int) -> int:
        """Return the samples that consecutive windows take."""
        conv = self.conv
        span = conv.stride * (count - 1) + conv.span
        return -(-span // conv.stride) * conv.stride

    def _put(self, windows: np.ndarray) -> int:
        """Put consecutive windows in a patch; return which output of it the first one is."""
        conv = self.conv
        if not self.patches or not self._fits(self.free, len(windows)):
            self.patches.append(np.full(conv.n_in, int(self.index[0, 0])))
            self.free = self.first
        first = self.free
        for offset, window in enumerate(windows):
            start = conv.stride * (first + offset) - conv.left
            self.patches[-1][start : start + conv.span : conv.dilation] = window
        self.free = first + self._length(len(windows)) // conv.stride
        return first

    def _fits(self, first: int, count: int) -> bool:
        conv = self.conv
        last = first + count - 1
        return last < conv.n_out and conv.stride * last - conv.left + conv.span <= conv.n_in

    def packing(self) -> Packing:
        """Return everything added, whole views first."""

        def number(key: bytes) -> int:
            patched, entry, n = self.known[key]
            return (entry + len(self.whole) * patched) * self.conv.n_out + n

        place = [[number(window.tobytes()) for window in windows] for windows in self.windows]
        return Packing(rows=np.stack([*self.whole, *self.patches]), place=np.array(place, dtype=np.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """A convolution that alone reads views put together by a Gather."""

    gather: ir.Node
    table: ir.Value
    conv: Conv1d
    index: np.ndarray


def run(model: ir.Model) -> PassResult:
    """Rewrite every convolution behind a Gather of rows that pays, in place, one after the other."""
    result = PassResult()
    found = [one for node in model.graph if (one := _found(node)) is not None]
    while found:
        one = found.pop(0)
        with result.at(one.conv.node):
            packing = pack(one.index, one.conv)
            counts = f"{len(packing.rows)} for {len(one.index)} views"
            if not pays(one.conv, one.index, packing):
                raise Refused(f"{counts} would cost as much")
            last = _rewrite(model, one, packing)
            renew_shapes(model)
            result.done(f"Conv {one.conv.node.outputs[0].name} computes {counts}")
            found += [more for node in last.consumers() if (more := _found(node)) is not None]
    return result


def _found(node: ir.Node) -> _Found | None:
    conv, rows = conv_of(node), private_producer(node.inputs[0]) if node.op_type == "Conv" else None
    index = rows.outputs[0].meta.get(ROWS) if rows is not None else None
    if conv is None or rows is None or index is None:
        return None
    gather = producer(producer(rows.inputs[0]).inputs[0])  # type: ignore[union-attr]
    return _Found(gather=gather, table=gather.inputs[0], conv=conv, index=index)  # type: ignore[union-attr,arg-type]


def _rewrite(model: ir.Model, one: _Found, packing: Packing) -> ir.Value:
    """Compute the entries, and put the views together behind the convolution; return them."""
    conv, node = one.conv, one.conv.node
    rows, table = packing.rows, one.table
    emit = Emitter(model.graph, before=one.gather, prefix=PREFIX)
    if (rows == ZERO).any():
        zero, _ = static_dims(table)
        table, rows = emit("Pad", table, [0, 0, 0, 0, 1, 0]), np.where(rows == ZERO, zero, rows)
    node.replace_input_with(0, from_rows(emit, table, rows, conv.channels))
    steps = (node, *followers(node.outputs[0]))
    for step in steps:
        _forget_batch(step.outputs[0])
    last = steps[-1].outputs[0]
    behind, outputs = list(last.consumers()), len(conv.weight)
    emit.before = next(reader for reader in model.graph if reader in behind)
    y = from_rows(emit, as_rows(emit, last, len(rows) * conv.n_out, outputs), packing.place, outputs)
    reread(behind, last, y)
    return y


def _forget_batch(value: ir.Value) -> None:
    """Forget the name of a value's first axis: an engine takes axes of one name for equal, and it is no longer the views."""
    import onnx_ir as ir

    if value.shape is not None:
        value.shape = ir.Shape([None, *list(value.shape)[1:]])
