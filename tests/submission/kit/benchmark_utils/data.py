"""Simulated windows, and the two ways in which a track gives them."""

from __future__ import annotations

import copy

import numpy as np
import torch

__all__ = ["batches", "meta_of", "signals", "streamed", "to_numpy"]


def to_numpy(x):
    """Return a tensor, or what an array can be made of, as an array."""
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def meta_of(sizes, **more):
    """Return what every track tells a solver."""
    n_chans = int(sizes["n_chans"])
    names = [f"ch{k}" for k in range(n_chans)]
    told = {"n_chans": n_chans, "n_times": int(sizes["n_times"]), "sfreq": sizes["sfreq"]}
    return told | {"ch_names": names, "chs_info": [{"ch_name": name} for name in names]} | more


def signals(rng, sizes):
    """Return (n_test, n_chans, n_times) windows."""
    shape = (int(sizes["n_test"]), int(sizes["n_chans"]), int(sizes["n_times"]))
    return torch.from_numpy((rng.standard_normal(shape) * rng.uniform(0.5, 2, (shape[0], 1, 1))).astype("f4"))


def streamed(model, X, per_stream=4):
    """Return the answers to windows given one by one, each stream on a copy of the network."""
    answers, one = [], None
    for k in range(len(X)):
        if k % per_stream == 0:
            one = copy.deepcopy(model)
            if callable(getattr(one, "reset_state", None)):
                one.reset_state()
        answer = np.asarray(to_numpy(one.predict(X[k : k + 1])))
        if answer.ndim == 0 or answer.shape[0] != 1:
            raise ValueError(f"one answer per window: shape {answer.shape} for a batch of 1")
        answers.append(answer[0])
    return np.stack(answers)


def batches(model, X, size=32):
    """Return the answers to windows given in batches."""
    return np.concatenate([to_numpy(model.predict(X[k : k + size])) for k in range(0, len(X), size)])
