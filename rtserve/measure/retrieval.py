"""Retrieval: which of all targets is nearest to an answer, both of length one, by the cosine of their angle."""

from __future__ import annotations

import numpy as np

from rtserve.errors import InputError

__all__ = ["found", "mean_target", "queries"]

Array = np.ndarray
_BLOCK = 1024
_SHORTEST = 1e-12


def queries(y: Array, named: Array | None) -> Array:
    """Return (n,): which distinct target each window has; the names of targets, where there are some, must agree.

    Raises
    ------
    InputError
        Where one name stands for two targets.
    """
    target = np.unique(y, axis=0, return_inverse=True)[1].reshape(-1)
    if named is None:
        return target
    pairs = np.unique(np.stack([named, target], axis=1), axis=0)
    if len(pairs) > len(np.unique(named)):
        raise InputError("one image has two different targets", hint="every window of an image has its one embedding")
    return target


def found(y: Array, p: Array, target: Array, query: Array, *, top: int) -> Array:
    """Return (n,): 1 where the target of a window's query is among the `top` nearest of all; a tie counts against it.

    Parameters
    ----------
    y, p : ndarray, (n, n_outputs)
        Targets and answers.
    target, query : ndarray of int, (n,)
        Which distinct target, and which query, a window belongs to; the answers to a query are averaged as they are.
    top : int
        Among how many.
    """
    if p.shape[1] != y.shape[1]:
        raise InputError(f"{p.shape[1]} numbers per window for targets of {y.shape[1]}", hint="embeddings of one space")
    first, of_query = np.unique(target, return_index=True)[1], np.unique(query, return_index=True)[1]
    gallery = _unit(y[first])
    mean = np.zeros((len(of_query), p.shape[1]))
    np.add.at(mean, query, p)
    mean = _unit(mean / np.bincount(query)[:, None])
    own = target[of_query]
    right = np.empty(len(mean))
    for start in range(0, len(mean), _BLOCK):
        block = slice(start, start + _BLOCK)
        near = mean[block] @ gallery.T
        mine = near[np.arange(len(near)), own[block]]
        right[block] = (near >= mine[:, None]).sum(axis=1) <= top
    each: Array = right[query]
    return each


def _unit(v: Array) -> Array:
    unit: Array = v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), _SHORTEST)
    return unit


def mean_target(y: Array) -> Array:
    """Return the mean of the distinct targets for every window: like any constant, it has one list of nearest ones."""
    return np.tile(np.unique(y, axis=0).mean(axis=0), (len(y), 1))
