"""The rewrites, one file each, and the order in which they run.

A pass is a function ``run(model) -> PassResult`` that changes a model in place where its conditions hold and says why
where they do not. `MEMBER_PASSES` look at one network and save work whatever runs it; `WHOLE_PASSES` write the assembled
graph as one engine likes it. What onnxruntime likes costs OpenVINO up to a fifth (measured), so each has its own.
"""

from rtserve.fusion.passes import (
    chains,
    channel_step,
    deep_sharing,
    dense,
    depth,
    elu,
    engine_forms,
    fast_fir,
    fold,
    fourier,
    heads,
    height,
    layout,
    paired,
    planes,
    pool,
    prefix,
    row_gather,
    rows,
    shapes,
    siblings,
    window,
)
from rtserve.fusion.passes.running import Pass

__all__ = ["ENGINES", "MEMBER_PASSES", "WHOLE_PASSES", "member_passes"]

MEMBER_PASSES = (
    (fold.NAME, fold.run),
    (shapes.NAME, shapes.run),
    (prefix.NAME, prefix.run),
    (siblings.NAME, siblings.run),
    (chains.NAME, chains.run),
    (fourier.NAME, fourier.run),
    (dense.NAME, dense.run),
    (heads.NAME, heads.run),
)
WHOLE_PASSES = (
    (planes.NAME, planes.run),
    (depth.NAME, depth.run),
    (layout.NAME, layout.run),
    (channel_step.NAME, channel_step.run),
    (paired.NAME, paired.run),
    (height.NAME, height.run),
    (row_gather.NAME, row_gather.run),
    (deep_sharing.NAME, deep_sharing.run),
    (fast_fir.NAME, fast_fir.run),
    (window.NAME, window.run),
    (pool.NAME, pool.run),
    (elu.NAME, elu.run),
    (rows.NAME, rows.run),
)
BLOCKED = (channel_step.NAME, paired.NAME, height.NAME, row_gather.NAME, deep_sharing.NAME, fast_fir.NAME, window.NAME)
"""Passes for onnxruntime alone, whose blocked layout they serve: short depthwise steps, say, are slow in torch."""
ENGINES = {
    "onnxruntime": WHOLE_PASSES,
    "openvino": ((engine_forms.NAME, engine_forms.run),),
    "torch": tuple(entry for entry in WHOLE_PASSES if entry[0] not in BLOCKED),
}
"""Passes on the whole graph by the engine that is to run it."""


def member_passes(engine: str, *, shared: bool) -> tuple[tuple[str, Pass], ...]:
    """Return the passes on one member for an engine; `shared` says whether views will share its first stage."""
    if engine != "openvino" or shared:
        return MEMBER_PASSES
    return tuple((name, prefix.run_in_place if name == prefix.NAME else run) for name, run in MEMBER_PASSES)
