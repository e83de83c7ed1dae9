r"""Views that are joined on the batch: how they are put together, and which layers compute them all at once.

Behind a shared first stage every view that moves samples is a few runs of the stage's outputs and of seam windows, each cut
out and joined: a handful of small nodes for each view. One of three ways takes their place:

- **rows**: with R the table of every phase, every scaled copy of one and every distinct seam window,
  :math:`v_b[n, :] = R[\,i_b(n), :\,]` is one Gather for all views, however many. The engine writes its blocks out as rows
  and reads rows into blocks at no more cost than the other way. What follows elementwise is done on the table, and a
  convolution on what is distinct in it (`rtserve.fusion.program.share`): as many layers as save most time together;
- **height**: views that move nothing never leave the blocked layout (`rtserve.fusion.lower.onnxruntime.height`);
- **phases**: nothing is done where fast FIR keeps the first stage in phases up to the next layer.

By rows the views lie behind the batch, (batch x views), and are put apart from there (`rtserve.fusion.lower.apart`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from rtserve.fusion.engines.onnxruntime import COSTS
from rtserve.fusion.ir.conv import ZERO, conv_of
from rtserve.fusion.ir.joint import joints
from rtserve.fusion.ir.landmarks import carry, rework
from rtserve.fusion.ir.nodes import chain_of, only_reader, stepped
from rtserve.fusion.ir.passes import PassResult, Refused
from rtserve.fusion.lower.apart import turn_apart
from rtserve.fusion.lower.onnxruntime import fast_fir, height
from rtserve.fusion.lower.onnxruntime.table import ViewTable, as_rows, from_rows, tabulate
from rtserve.fusion.program.share import Packing, pack
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Rewrite all views that are joined on the batch, in place."""
    result = PassResult()
    for node, joint in joints(model):
        with result.at(node):
            table = tabulate(model, node, joint)
            layers = _shared(table)
            if not layers and fast_fir.wants(model, table.reader):
                raise Refused("fast FIR keeps it in phases")
            for way in [partial(_gathered, layers=layers)] if layers else [height.rewrite, _gathered]:
                with result.at(node):
                    result.done(way(model, node, table))
                    break
    return result


def _shared(table: ViewTable) -> list[Packing]:
    """Return the layers behind the views that are best computed for all of them at once: as many as save most time."""
    best: list[Packing] = []
    chain: list[Packing] = []
    index, conv, saved, most = table.index, conv_of(table.reader), 0.0, 0.0
    while conv is not None:
        packing = pack(index, conv)
        if packing.conv.n_out >= packing.place.size:  # nothing is shared, nor would be behind it
            break
        chain.append(packing)
        saved += (packing.place.size - packing.conv.n_out) * conv.rows * conv.weight.size / COSTS.macs_per_us
        gain = saved - 1.25 * _added(packing, len(chain))
        if gain > most:
            best, most = list(chain), gain
        index, conv = packing.place, conv_of(only_reader(chain_of(conv.node)[-1].outputs[0], "Conv"))
    return best


def _added(packing: Packing, layers: int) -> float:
    """Return what so many layers take in nodes, and in putting the outputs of the last one together."""
    outputs, width = packing.place.size, len(packing.conv.weight)
    return layers * 5 * COSTS.node_us + outputs * (COSTS.gathered_row_us + width * COSTS.depthwise_us)


def _gathered(model: ir.Model, node: ir.Node, table: ViewTable, layers: Sequence[Packing] = ()) -> str:
    """Put views together out of rows, behind the layers that compute them all at once; return what was done.

    Raises
    ------
    Refused
        Where they are whole as they are.
    """
    if not layers and not np.ptp(table.number, axis=1).any():
        raise Refused("no view is put together out of pieces")
    emit = Emitter(model.graph, before=node, prefix="rows")
    index, last = table.index, table.last
    rows, n, channels = table.written(emit), sum(row.length for row in table.rows), len(table.offset)
    done = f"{len(index)} views put together at once"
    for packing in layers:
        conv, samples = packing.conv, packing.samples
        if (samples == ZERO).any():
            rows, samples = emit("Pad", rows, [0, 0, 0, 0, 1, 0]), np.where(samples == ZERO, n, samples)
        layer, *steps = chain_of(conv.node)
        y = stepped(emit, steps, conv.emit(emit, from_rows(emit, rows, samples[None], channels)))
        done += f"; Conv {layer.outputs[0].name} computes {conv.n_out} for {packing.place.size} outputs"
        n, channels, index, last = conv.n_out, len(conv.weight), packing.place, (layer, *steps)[-1].outputs[0]
        rework(last, conv.n_out / packing.place.size)
        carry(y, [last])
        rows = as_rows(emit, y, n, channels)
    supersede(model, last, from_rows(emit, rows, index, channels))
    turn_apart(model, table.ends, range(len(index)))
    return done
