"""Fixed filters along time as one matrix: whatever a library does to a window that is linear in its samples.

The matrix is what the library itself answers to single samples, so zero-phase filters, their padding at the edges,
detrending and resampling are what they are there, to rounding. What is not linear is found by a window of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from riemann_steps import refuse, tensor  # type: ignore[import-not-found]
from torch import Tensor, nn

__all__ = ["CURE", "AlongTime", "filter_of"]

KNOWN = {
    "scipy.signal": ("decimate", "detrend", "filtfilt", "lfilter", "resample", "resample_poly", "savgol_filter", "sosfilt",
                     "sosfiltfilt"),
    "mne.filter": ("detrend", "filter_data", "notch_filter", "resample"),
}  # fmt: skip
"""Functions that are linear along the last axis of a signal, by the module that gives them out."""
STEPS = ("TemporalFilter",)
"""Transformers of mne.decoding that are."""
AT_ONCE = 1 << 21
"""Numbers that a library is given at once."""
LINEAR = 1e-9
"""Relative error in float64 up to which a window is filtered by the matrix as by the library."""
CURE = (
    "write a fixed filter as FunctionTransformer(functools.partial(scipy.signal.sosfiltfilt, sos)); a bank of them is a"
    " FeatureUnion of pipelines that begin so (docs/pipelines.md)"
)


class AlongTime(nn.Module):  # type: ignore[misc]
    """Windows (batch, n_chans, n_times) times a matrix (n_times, `length`)."""

    matrix: Tensor

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__()
        self.length = matrix.shape[1]
        self.register_buffer("matrix", tensor(matrix))

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered windows."""
        return torch.matmul(x, self.matrix)


def filter_of(step: Any, name: str, n_times: int) -> nn.Module | None:
    """Return a step as a filter, or None where it is none that is known.

    Parameters
    ----------
    step : object
        A fitted transformer.
    name : str
        Its library and class.
    n_times : int
        Samples of the signals that it takes.

    Raises
    ------
    InputError
        Where it filters along another axis, or is not linear.
    """
    if name != "sklearn.FunctionTransformer" and name not in {f"mne.{known}" for known in STEPS}:
        return None
    if name == "sklearn.FunctionTransformer" and not _is_known(step.func):
        return None
    if name == "sklearn.FunctionTransformer":
        _require_linear(step)
    matrix = _matrix_of(step, n_times)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, getattr(step, "n_features_in_", 1), n_times))
    wanted = np.asarray(step.transform(x.copy()), dtype=np.float64)
    got = x @ matrix
    if wanted.shape != got.shape or not np.abs(got - wanted).max() <= LINEAR * max(1.0, float(np.abs(wanted).max())):
        raise refuse(step, "is not linear in the samples of a window, so it is no matrix over time")
    return AlongTime(matrix)


def _inner(function: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return what a function calls in the end, and the keywords it gives to it."""
    if not isinstance(function, partial):
        return function, {}
    called, keywords = _inner(function.func)
    return called, keywords | dict(function.keywords)


def _is_known(function: Any) -> bool:
    import importlib

    called, _ = _inner(function)
    name = getattr(called, "__name__", "")
    modules = [module for module, names in KNOWN.items() if name in names]
    return any(getattr(importlib.import_module(module), name, None) is called for module in modules)


def _require_linear(step: Any) -> None:
    """Raise where a known function filters along another axis of (windows, channels, samples), or looks at them first."""
    called, keywords = _inner(step.func)
    given: Mapping[str, Any] = keywords | dict(step.kw_args or {})
    usual = 0 if called.__name__ in ("resample", "resample_poly") and called.__module__.startswith("scipy") else -1
    if (axis := int(given.get("axis", usual))) not in (-1, 2):
        raise refuse(step, f"filters along axis {axis}; along the last, time, it has a graph", "say axis=-1")
    if given.get("method") == "spectrum_fit":
        raise refuse(step, "finds the lines that it takes away in each window, so it is no matrix over time", CURE)


def _matrix_of(step: Any, n_times: int) -> np.ndarray:
    """Return (n_times, length): row i is what comes of sample i alone."""
    n_chans = getattr(step, "n_features_in_", 1)
    size = max(1, AT_ONCE // (n_chans * n_times))
    rows = []
    for first in range(0, n_times, size):
        ones = np.eye(n_times)[first : first + size]
        x = np.zeros((len(ones), n_chans, n_times))
        x[:, 0] = ones
        try:
            rows.append(np.asarray(step.transform(x), dtype=np.float64)[:, 0])
        except Exception as error:
            raise refuse(
                step,
                f"fails on windows of {n_times} samples: {type(error).__name__}: {' '.join(str(error).split())[:160]}",
            ) from None
    return np.concatenate(rows)
