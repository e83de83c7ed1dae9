"""Views in front of the first stage as rows, by two Gathers, as for a CUDA device.

The window is turned once, (batch, time, channels): a sample is a row, and so is an output of the stage on what is gathered.
Where a convolution reads the views it finds them as it leaves its own outputs, channels innermost.
"""

from __future__ import annotations

import onnx_ir as ir

from rtserve.fusion.engines.torch import COPIED_US, MACS_PER_US, NODE_US, SEAMS_US
from rtserve.fusion.ir.joint import Joint, joints
from rtserve.fusion.ir.nodes import chain_of, only_reader
from rtserve.fusion.ir.passes import PassResult, Refused
from rtserve.fusion.lower.gathers import Views, gathered, pieced, read

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Rewrite all views that are joined on the batch in front of a convolution, in place."""
    result = PassResult()
    for node, joint in joints(model):
        with result.at(node):
            if only_reader(chain_of(node)[-1].outputs[0], "Conv") is None:
                raise Refused("no convolution reads them")
            views = read(joint)
            before, after = _assembled_us(joint), _gathered_us(views)
            if after >= before:
                raise Refused(f"they are put together in {before:,.0f} us as they are, by Gathers in {after:,.0f}")
            result.done(gathered(model, node, joint, views, turned=True))
    return result


def _assembled_us(joint: Joint) -> float:
    """Return what views take as they are put together, for one window."""
    numbers = joint.index.shape[1] * len(joint.offset)
    taken: float = 0.0
    for source in joint.sources:
        if source.base:
            taken += 2 * (NODE_US + numbers * COPIED_US)
        elif source.stage is not None:
            taken += source.samples * source.stage.weight.size / MACS_PER_US + (SEAMS_US if source.flat else 0.0)
    pieces = pieced(joint) * (2 * NODE_US + numbers * COPIED_US)
    return float(taken + pieces + len(joint.index) * numbers * COPIED_US)


def _gathered_us(views: Views) -> float:
    """Return what they take by Gathers."""
    taken = 0.0
    for stage in (packing.conv for packing in views.stages):
        taken += 3 * NODE_US + 2 * stage.n_in * stage.channels * COPIED_US  # turned, between zeros, and gathered
        taken += stage.n_out * stage.weight.size / MACS_PER_US
    numbers = views.place.size * len(views.stages[0].conv.weight)
    steps = 1 + (len(views.stages) > 1) + 2 * views.scaled
    return taken + steps * (NODE_US + numbers * COPIED_US)
