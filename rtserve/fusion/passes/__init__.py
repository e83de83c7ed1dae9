"""The rewrites, one file each, and the order in which they run.

A `Pass` changes a model in place where its conditions hold and says why where they do not. Some look at one network and
save work whatever runs it; others write the assembled graph as an engine likes it. What onnxruntime likes costs OpenVINO
up to a fifth (measured), so each has its own.
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

__all__ = ["PASSES", "passes_for"]

BLOCKED = ("onnxruntime",)
"""Who has a blocked layout: what serves it (short depthwise steps, say) is slow elsewhere."""
LAID_OUT = ("onnxruntime", "torch")
PASSES = (
    Pass(name=fold.NAME, run=fold.run, scope="member", why="constants and normalisations go into weights"),
    Pass(name=shapes.NAME, run=shapes.run, scope="member", after=(fold.NAME,), why="shapes are not computed"),
    Pass(name=prefix.NAME, run=prefix.run, scope="member", after=(fold.NAME, shapes.NAME),
         alone=prefix.run_in_place, why="the linear steps in front become one, in the cheapest order"),
    Pass(name=siblings.NAME, run=siblings.run, scope="member", why="what branches do alike is done once"),
    Pass(name=chains.NAME, run=chains.run, scope="member", after=(siblings.NAME,), why="alike chains are one chain"),
    Pass(name=fourier.NAME, run=fourier.run, scope="member", why="a naive transform is a product of matrices"),
    Pass(name=dense.NAME, run=dense.run, scope="member", why="factors go into weights, layers of one input are one"),
    Pass(name=heads.NAME, run=heads.run, scope="member", after=(dense.NAME,), why="attention in fewer nodes"),
    Pass(name=engine_forms.NAME, run=engine_forms.run, engines=("openvino",), why="some forms it computes wrongly"),
    Pass(name=planes.NAME, run=planes.run, engines=LAID_OUT, why="fast kernels take planes"),
    Pass(name=depth.NAME, run=depth.run, engines=LAID_OUT, why="few channels leave a convolution idle"),
    Pass(name=layout.NAME, run=layout.run, engines=LAID_OUT, after=(planes.NAME,), why="fast kernels have rank 4"),
    Pass(name=channel_step.NAME, run=channel_step.run, engines=BLOCKED, after=(layout.NAME,),
         why="a factor and an offset leave the blocked layout"),
    Pass(name=paired.NAME, run=paired.run, engines=BLOCKED, after=(layout.NAME,),
         why="two convolutions of stride 2 share products"),
    Pass(name=height.NAME, run=height.run, engines=BLOCKED, after=(layout.NAME, channel_step.NAME, paired.NAME),
         why="views are rows of one picture"),
    Pass(name=row_gather.NAME, run=row_gather.run, engines=BLOCKED, after=(height.NAME,),
         why="views are put together at once"),
    Pass(name=deep_sharing.NAME, run=deep_sharing.run, engines=BLOCKED, after=(row_gather.NAME,),
         why="views share layers behind the first"),
    Pass(name=fast_fir.NAME, run=fast_fir.run, engines=BLOCKED, after=(deep_sharing.NAME,),
         why="two outputs of a filter cost less than twice one"),
    Pass(name=window.NAME, run=window.run, engines=BLOCKED, after=(layout.NAME, fast_fir.NAME),
         why="the window is not copied into blocks"),
    Pass(name=pool.NAME, run=pool.run, engines=LAID_OUT, after=(layout.NAME,), why="long windows are pooled by a product"),
    Pass(name=elu.NAME, run=elu.run, engines=LAID_OUT, after=(depth.NAME, layout.NAME), why="Exp is vectorised, Elu not"),
    Pass(name=rows.NAME, run=rows.run, engines=LAID_OUT, why="rows are summed by a product"),
)  # fmt: skip
"""In the order in which they run."""


def passes_for(engine: str, scope: str) -> tuple[Pass, ...]:
    """Return the passes on a ``member`` or on the ``whole`` for an engine, in order."""
    return tuple(one for one in PASSES if one.scope == scope and engine in one.engines)
