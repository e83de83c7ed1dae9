r"""What a library answers, as the truth that its network is compared with: for pipelines that are no networks.

The network must give the library's own numbers to 1e-10 in float64. Where a matrix is badly conditioned the library
itself is not certain of so many digits: how far its answers move when every sample is changed by a rounding of float64
is measured, and four times that is allowed, up to 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import ExportError
from rtserve.graphs.parity import SLACK, relative_error

if TYPE_CHECKING:
    from torch import nn

    from rtserve.graphs.exporter import Built

__all__ = ["CERTAIN", "EQUAL", "library_answers"]

EQUAL = 1e-10
"""Relative error in float64 that is equal whatever the library is certain of."""
CERTAIN = 1e-6
"""Largest error that a library's own uncertainty excuses."""
DRAWS = 3


def library_answers(
    module: nn.Module, built: Built, inputs: Sequence[tuple[str, np.ndarray]]
) -> tuple[dict[str, np.ndarray], str]:
    """Return inputs with the library's answers, as the child of an export stores them, and what they are.

    A window to which the network answers NaN has a matrix that is singular to working precision; the library fails
    there, or answers from the logarithm of rounding errors. The truth is NaN for it.

    Raises
    ------
    ExportError
        Where the network does not give the library's numbers, or has no number for any window of noise.
    """

    assert built.own is not None
    if built.mixing is not None:
        noise = np.random.default_rng(1).standard_normal((5, built.input_spec.n_chans, built.input_spec.n_times))
        inputs = [("windows like those of the fit, batch 5", (built.mixing @ noise).astype("f4")), *inputs]
    arrays: dict[str, np.ndarray] = {"names": np.array([name for name, _ in inputs])}
    worst, singular, seen = 0.0, 0, 0
    for index, (name, x) in enumerate(inputs):
        single, double = _answer(module, x).astype(np.float64), _answer(module, x.astype(np.float64))
        fine = np.isfinite(double).all(axis=1)
        truth = np.full_like(double, np.nan)
        if fine.any():
            given = x[fine].astype(np.float64)
            truth[fine], error = _compared(built.own, name, given, double[fine])
            inner = (_compared(w.own, f"{name} ({w.name})", given, _answer(w.network, given))[1] for w in built.within)
            worst = max(worst, error, *inner)
        singular, seen = singular + int((~fine).sum()), seen + len(x)
        arrays |= {f"x{index}": x, f"y{index}": truth, f"own{index}": single, f"rounding{index}": np.array(0.0)}
    if not fine.any():  # the last input is plain noise
        raise ExportError(
            "the pipeline has no number for windows of noise: their covariances are singular",
            hint="fewer samples than channels need shrinkage, e.g. Covariances('oas')",
        )
    left = f"; NaN for {singular} of {seen} windows, whose matrices are singular" if singular else ""
    return arrays, f"{built.own_name} (float64: {worst:.0e} apart{left})"


def _answer(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """Return what a network answers in the type of `x`."""
    import torch

    with torch.inference_mode():
        y: np.ndarray = module(torch.from_numpy(x)).numpy()
    return y


def _compared(own: Callable[[np.ndarray], np.ndarray], name: str, x: np.ndarray, got: np.ndarray) -> tuple[Any, float]:
    """Return the library's answers to windows and how far the network's are from them; raise where it is too far."""
    truth = np.asarray(own(x), dtype=np.float64).reshape(len(x), -1)
    got = got.reshape(len(x), -1)
    if truth.shape != got.shape:
        raise ExportError(f"the network gives {got.shape} on {name}, the library {truth.shape}", hint="report it")
    error = relative_error(got, truth) if np.isfinite(truth).all() else float("inf")
    if error <= EQUAL:
        return truth, error
    rng = np.random.default_rng(0)
    moved = [own(x * (1.0 + rng.uniform(-1, 1, x.shape) * 2.0**-52)) for _ in range(DRAWS)]
    sure = max(relative_error(np.reshape(y, truth.shape), truth) for y in moved)
    if not error <= min(CERTAIN, max(EQUAL, SLACK * sure)):
        raise ExportError(
            f"the network is {error:.1e} from the library's own answers on {name} in float64"
            f" (allowed {EQUAL:.0e}; the library itself is certain to {sure:.0e})",
            hint="this version of the library may compute something else than the exporter knows",
        )
    return truth, error
