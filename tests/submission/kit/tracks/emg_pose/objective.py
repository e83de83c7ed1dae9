"""Angles over time, in batches: mean absolute error; a coarser time is resampled to the nearest."""

import numpy as np
from benchmark_utils.data import meta_of, signals, to_numpy


def meta(sizes):
    """Return what the track tells a solver."""
    return meta_of(sizes, n_joints=int(sizes["n_joints"]))


def score(model, sizes):
    """Return the scores of a network."""
    rng = np.random.default_rng(0)
    X = signals(rng, sizes)
    y = rng.uniform(-1, 1, (len(X), int(sizes["n_joints"]), X.shape[-1]))
    p = to_numpy(model.predict(X))
    at = np.floor(np.arange(y.shape[-1]) * (p.shape[-1] / y.shape[-1])).astype(int)
    return {"angular_mae": float(np.abs(p[..., at] - y).mean())}
