"""The rewrites, one file each, and the order in which they run.

A pass is a function ``run(model) -> PassResult`` that changes a model in place where its conditions hold and says why
where they do not. `MEMBER_PASSES` look at one network, `WHOLE_PASSES` at the assembled graph.
"""

from rtserve.fusion.passes import depth, elu, fold, fourier, layout, pool, prefix, siblings

__all__ = ["MEMBER_PASSES", "WHOLE_PASSES"]

MEMBER_PASSES = (
    (fold.NAME, fold.run),
    (prefix.NAME, prefix.run),
    (siblings.NAME, siblings.run),
    (fourier.NAME, fourier.run),
)
WHOLE_PASSES = (
    (depth.NAME, depth.run),
    (layout.NAME, layout.run),
    (pool.NAME, pool.run),
    (elu.NAME, elu.run),
)
