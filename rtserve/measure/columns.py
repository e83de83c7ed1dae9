"""Columns of windows that a metric groups by: whose a window is, which session, which recording, which image.

A column is any array of a window file with one entry per window; its name there is its name here. ``recording`` stands
for ``run_id``. `nested_shares` is how a mean of means is written as one weighted mean over windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.windows import WindowSet

__all__ = ["columns_of", "digest_of", "labels_of", "nested_shares", "paired"]

Array = np.ndarray
_NOTHING = ("", "n/a", "nan", "NaN", "None")
_ALIASES = {"recording": "run_id", "participant": "subject"}


def columns_of(windows: WindowSet) -> dict[str, Array]:
    """Return what the windows carry one entry each of: subject, run_id, and every such array beside them."""
    n = len(windows)
    found = {"subject": windows.subject, "run_id": windows.run_id, **windows.extra}
    return {key: np.asarray(value) for key, value in found.items() if np.shape(value) == (n,) and n}


def labels_of(columns: Mapping[str, Array], name: str, *, what: str) -> Array:
    """Return (n_windows,): numbers of the distinct entries of a column.

    Raises
    ------
    InputError
        Where there is no such column, or a window has no entry in it; `what` asks for it.
    """
    key = name if name in columns else _ALIASES.get(name, name)
    if key not in columns:
        known = ", ".join(columns) or "none"
        raise InputError(
            f"{what} needs the column {key!r}, one entry per window; these windows have {known}",
            hint=f"write it into their file: rtserve annotate W.npz --columns TABLE.tsv (a row per window, a column {key})",
        )
    values = np.asarray(columns[key])
    empty = ~np.isfinite(values) if values.dtype.kind == "f" else np.isin(values.astype("U"), _NOTHING)
    if empty.any():
        raise InputError(
            f"{what} groups by {key}, and window {int(np.argmax(empty))} has none ({int(empty.sum())} of {len(empty)})",
            hint="score windows whose entries are all known, or fill the column in",
        )
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def digest_of(columns: Mapping[str, Array], names: Sequence[str]) -> str:
    """Return 12 digits that stand for how these columns group the windows, whatever they call the groups."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(labels_of(columns, name, what="a digest").astype("<i8").tobytes())
    return digest.hexdigest()[:12]


def paired(*labels: Array) -> Array:
    """Return (n,): numbers of the distinct combinations of several labels (n,)."""
    out = np.zeros(len(labels[0]), np.int64) if labels else np.empty(0, np.int64)
    for label in labels:
        out = np.unique(np.stack([out, label], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    return out


def nested_shares(n: int, levels: Sequence[tuple[Array, Array | None]]) -> Array:
    """Return (n,): the share of each window in a mean of means, adding up to 1.

    Parameters
    ----------
    n : int
        How many windows.
    levels : sequence of (labels, weights)
        From the outermost: labels (n,) of integers, and the weight of each label value, or None for equal ones. Labels
        that are not there within a group have no part in its mean.
    """
    share, parent = np.ones(n), np.zeros(n, np.int64)
    for labels, weights in levels:
        child = paired(parent, labels)
        first = np.unique(child, return_index=True)[1]
        weight = np.ones(len(first)) if weights is None else np.asarray(weights, np.float64)[labels[first]]
        total = np.bincount(parent[first], weights=weight)
        share *= weight[child] / total[parent]
        parent = child
    result: Array = share / np.bincount(parent)[parent]
    return result
