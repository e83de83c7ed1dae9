"""Views in front of the first stage by two Gathers (`rtserve.fusion.lower.gathers`), in fewer kernels.

Assembly puts a view together out of runs of shared outputs and of seam windows, a handful of small kernels for each view.
"""

from __future__ import annotations

import onnx_ir as ir

from rtserve.fusion.engines.cuda import CONVOLVED, JOINED, PACKED, SCALED, SEAMS
from rtserve.fusion.ir.joint import Joint, joints
from rtserve.fusion.ir.passes import PassResult, Refused
from rtserve.fusion.lower.gathers import Views, gathered, pieced, read

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Rewrite all views that are joined on the batch, in place."""
    result = PassResult()
    for node, joint in joints(model):
        with result.at(node):
            views = read(joint)
            if (few := _launched(joint)) <= _launched_by_gathers(views):
                raise Refused(f"they are put together by {few} kernels as they are")
            result.done(gathered(model, node, joint, views))
    return result


def _launched(joint: Joint) -> int:
    """Return how many kernels put the views together as assembled."""
    made = [SCALED if source.base else SEAMS if source.flat else CONVOLVED for source in joint.sources]
    return sum(made) + JOINED * (pieced(joint) + 1)


def _launched_by_gathers(views: Views) -> int:
    """Return how many kernels put them together by Gathers."""
    several = len(views.stages) > 1
    return (PACKED + CONVOLVED) * len(views.stages) + JOINED * (1 + several) + SCALED * views.scaled
