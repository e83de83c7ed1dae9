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
from rtserve.fusion.lower.openvino import forms, window
from rtserve.fusion.lower.torch import gathered

__all__ = ["PASSES", "PORTABLE", "passes_for"]

ORT = ("onnxruntime",)
PASSES = (
    Pass(name="fold", run=fold.run, scope="member", why="constants and normalisations go into weights"),
    Pass(name="shapes", run=shapes.run, scope="member", after=("fold",), why="shapes are not computed"),
    Pass(name="linear-prefix", run=prefix.run, scope="member", after=("fold", "shapes"),
         why="the linear steps in front become one, in the cheapest order"),
    Pass(name="siblings", run=siblings.run, scope="member", why="what branches do alike is done once"),
    Pass(name="chains", run=chains.run, scope="member", after=("siblings",), why="alike chains are one chain"),
    Pass(name="fourier", run=fourier.run, scope="member", why="a naive transform is a product of matrices"),
    Pass(name="dense", run=dense.run, scope="member", why="factors go into weights, layers of one input are one"),
    Pass(name="heads", run=heads.run, scope="member", after=("dense",), why="attention in fewer nodes"),
    Pass(name="openvino-forms", run=forms.run, engines=("openvino",), why="some forms it computes wrongly"),
    Pass(name="openvino-rank", run=window.lift, engines=("openvino",), after=("openvino-forms",),
         why="a signal is turned wherever the rank changes"),
    Pass(name="openvino-window", run=window.run, engines=("openvino",), after=("openvino-rank",),
         why="the window is not turned to channels innermost"),
    Pass(name="planes", run=planes.run, engines=ORT, why="fast kernels take planes"),
    Pass(name="space-to-depth", run=depth.run, engines=ORT, why="few channels leave a convolution idle"),
    Pass(name="layout", run=layout.run, engines=ORT, after=("planes",), why="fast kernels have rank 4"),
    Pass(name="channel-step", run=channel_step.run, engines=ORT, blocked=True, after=("layout",),
         why="a factor and an offset leave the blocked layout"),
    Pass(name="paired", run=paired.run, engines=ORT, blocked=True, after=("layout",),
         why="two convolutions of stride 2 share products"),
    Pass(name="views", run=views.run, engines=ORT, blocked=True,
         after=("layout", "channel-step", "paired"), why="views are put together at once, in rows or in height"),
    Pass(name="turned", run=turned.run, engines=ORT, blocked=True, after=("views",),
         why="few filters are as slow as many"),
    Pass(name="fast-fir", run=fast_fir.run, engines=ORT, blocked=True, after=("views",),
         why="two outputs of a filter cost less than twice one"),
    Pass(name="whole-window", run=channels.run_on_window, engines=ORT, blocked=True, after=("layout", "fast-fir"),
         why="the window is not copied into blocks"),
    Pass(name="channels", run=channels.run, engines=ORT, after=("layout", "whole-window"),
         why="channels that fill no blocks"),
    Pass(name="packed", run=packed.run, engines=ORT, why="matrices of a stack are laid out at every call"),
    Pass(name="pool-as-matrix", run=pool.run, engines=ORT, after=("layout",), why="long windows are pooled by a product"),
    Pass(name="elu-by-exp", run=elu.run, engines=ORT, after=("space-to-depth", "layout"), why="Exp is vectorised, Elu not"),
    Pass(name="rows", run=rows.run, engines=ORT, why="a sum goes into a convolution of equal shape"),
    Pass(name="gathered", run=gathered.run, engines=("torch",), why="rows are gathered, pieces along time are turned"),
    Pass(name="seams", run=seams.run, engines=("cuda",), why="a kernel takes microseconds however little it does"),
)  # fmt: skip
"""In the order in which they run."""
PORTABLE = tuple(one.name for one in PASSES if not one.blocked)
"""Those for a zip that may run in onnxruntime or in torch: what serves blocks alone is slow in torch."""


def passes_for(engine: str, scope: str) -> tuple[Pass, ...]:
    """Return the passes on a ``member`` or on the ``whole`` for an engine, in order."""
    return tuple(one for one in PASSES if one.scope == scope and engine in one.engines)
