"""The order in which the rewrites run.

A `Pass` changes a model in place where its conditions hold and says why where they do not. Some look at one network and
save work whatever runs it; others write the assembled graph as an engine likes it. What onnxruntime likes costs OpenVINO
up to a fifth (measured), so each has its own.
"""

from rtserve.fusion.affine import prefix
from rtserve.fusion.ir.passes import Pass
from rtserve.fusion.local import chains, dense, fold, fourier, heads, shapes, siblings
from rtserve.fusion.lower.cuda import seams
from rtserve.fusion.lower.onnxruntime import (
    channel_step,
    channels,
    depth,
    elu,
    fast_fir,
    layout,
    packed,
    paired,
    planes,
    pool,
    rows,
    turned,
    views,
)
from rtserve.fusion.lower.openvino import forms
from rtserve.fusion.lower.torch import gathered

__all__ = ["PASSES", "PORTABLE", "passes_for"]

ORT = ("onnxruntime",)
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
    Pass(name=forms.NAME, run=forms.run, engines=("openvino",), why="some forms it computes wrongly"),
    Pass(name=planes.NAME, run=planes.run, engines=ORT, why="fast kernels take planes"),
    Pass(name=depth.NAME, run=depth.run, engines=ORT, why="few channels leave a convolution idle"),
    Pass(name=layout.NAME, run=layout.run, engines=ORT, after=(planes.NAME,), why="fast kernels have rank 4"),
    Pass(name=channel_step.NAME, run=channel_step.run, engines=ORT, blocked=True, after=(layout.NAME,),
         why="a factor and an offset leave the blocked layout"),
    Pass(name=paired.NAME, run=paired.run, engines=ORT, blocked=True, after=(layout.NAME,),
         why="two convolutions of stride 2 share products"),
    Pass(name=views.NAME, run=views.run, engines=ORT, blocked=True,
         after=(layout.NAME, channel_step.NAME, paired.NAME), why="views are put together at once, in rows or in height"),
    Pass(name=turned.NAME, run=turned.run, engines=ORT, blocked=True, after=(views.NAME,),
         why="few filters are as slow as many"),
    Pass(name=fast_fir.NAME, run=fast_fir.run, engines=ORT, blocked=True, after=(views.NAME,),
         why="two outputs of a filter cost less than twice one"),
    Pass(name=channels.WINDOW, run=channels.run_on_window, engines=ORT, blocked=True, after=(layout.NAME, fast_fir.NAME),
         why="the window is not copied into blocks"),
    Pass(name=channels.NAME, run=channels.run, engines=ORT, after=(layout.NAME, channels.WINDOW),
         why="channels that fill no blocks"),
    Pass(name=packed.NAME, run=packed.run, engines=ORT, why="matrices of a stack are laid out at every call"),
    Pass(name=pool.NAME, run=pool.run, engines=ORT, after=(layout.NAME,), why="long windows are pooled by a product"),
    Pass(name=elu.NAME, run=elu.run, engines=ORT, after=(depth.NAME, layout.NAME), why="Exp is vectorised, Elu not"),
    Pass(name=rows.NAME, run=rows.run, engines=ORT, why="a sum goes into a convolution of equal shape"),
    Pass(name=gathered.NAME, run=gathered.run, engines=("torch",), why="rows are gathered, pieces along time are turned"),
    Pass(name=seams.NAME, run=seams.run, engines=("cuda",), why="a kernel takes microseconds however little it does"),
)  # fmt: skip
"""In the order in which they run."""
PORTABLE = tuple(one.name for one in PASSES if not one.blocked)
"""Those for a zip that may run in onnxruntime or in torch: what serves blocks alone is slow in torch."""


def passes_for(engine: str, scope: str) -> tuple[Pass, ...]:
    """Return the passes on a ``member`` or on the ``whole`` for an engine, in order."""
    return tuple(one for one in PASSES if one.scope == scope and engine in one.engines)
