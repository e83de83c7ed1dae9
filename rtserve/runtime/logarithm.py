r"""The logarithm of a symmetric positive definite matrix: by eigenvalues on a CPU, by matrix products elsewhere.

`log_by_products` says what ``LogMatrix`` of a graph means (`rtserve.graphs.functions` writes it in ONNX, which has no
eigenvalues) and is what a GPU runs, where products are cheap and eigenvalues wait for the host. With the trace t of A,
:math:`\log A = \log t + 2^k \log (A/t)^{1/2^k}`, by k square roots, each by the coupled Newton-Schulz iteration (Higham,
*Functions of Matrices*, 2008, section 6.7) whose steps are scaled as is best for the eigenvalues still possible (Chen and
Chow, 2014, "A stable scaling of Newton-Schulz"). The iteration gives the inverse of the root too, so that the last
logarithm is the odd series :math:`\operatorname{asinh}((P - P^{-1}) / 2)`.

Both err by rounding times the condition number. Both answer NaN by one rule: where the trace of the inverse of A/t is
above `LARGEST_INVERSE`, beyond which the logarithm is certain to 1e-4 at best, and for what is not positive definite.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rtserve.runtime.node import Call, Node, operator

LARGEST_INVERSE = 1e12
"""Largest trace of the inverse of a matrix of trace 1 that is taken as regular: about its condition number."""
SMALLEST_EIGENVALUE = 1e-14
"""Smallest eigenvalue, as part of the trace, for which the number of steps is enough."""
SERIES_TERMS = 12
SERIES_RANGE = 0.5
"""Square roots are taken until every eigenvalue's logarithm is within this; the series then ends below 1e-16."""
ROOT_FOUND = 1e-2
"""Largest entry of Z Y - 1 at the first root: rounding times the condition number, of the size of 1 where the root has
not converged."""


class TorchMatrices:
    """What `log_by_products` asks of tensors besides their operators."""

    log, where = staticmethod(torch.log), staticmethod(torch.where)

    @staticmethod
    def turned(a: Tensor) -> Tensor:
        """Return the transposed matrices."""
        return a.transpose(-1, -2)

    @staticmethod
    def total(a: Tensor) -> Tensor:
        """Return the sum of each matrix, its axes kept."""
        return a.sum((-2, -1), keepdim=True)

    @staticmethod
    def largest(a: Tensor) -> Tensor:
        """Return the largest magnitude of each matrix, its axes kept."""
        return a.abs().amax((-2, -1), keepdim=True)


@cache
def root_scales(low: float) -> tuple[float, ...]:
    """Return the scales of the steps that bring every number of [low, 1] to 1."""
    scales = []
    while 1.0 - low > 1e-9:
        scale = math.sqrt(3.0 / (1.0 + low + low * low))
        scales.append(scale)
        low = 0.5 * scale * low * (3.0 - (scale * low) ** 2)
    return (*scales, 1.0)


@cache
def asinh_series() -> tuple[float, ...]:
    """Return the coefficients of asinh(x) / x in powers of x squared."""
    return tuple(
        (-1) ** j * math.factorial(2 * j) / (4**j * math.factorial(j) ** 2 * (2 * j + 1)) for j in range(SERIES_TERMS)
    )


def _root_and_inverse(a: Any, one: Any, low: float, of: Any) -> tuple[Any, Any]:
    """Return the square root of `a`, whose eigenvalues are in [low, 1], and the inverse of that root."""
    y, z = a, None
    for scale in root_scales(math.sqrt(low)):
        turn = one * (1.5 * scale) + (y if z is None else z @ y) * (-0.5 * scale**3)
        y, z = y @ turn, turn if z is None else turn @ z
    return tuple((part + of.turned(part)) * 0.5 for part in (y, z))


def log_by_products(a: Any, one: Any, of: Any = TorchMatrices) -> Any:
    """Return the logarithm of symmetric positive definite matrices, in products alone.

    Parameters
    ----------
    a : Tensor
        (..., n, n) in float64, or a value of a graph that has the operators of one.
    one : Tensor
        The unit matrix (n, n).
    of : object
        The functions that `TorchMatrices` has.

    Returns
    -------
    Tensor
        (..., n, n), NaN throughout where a matrix is singular to working precision, or not positive definite.
    """
    trace = of.total(a * one)
    root, low, roots = (a + of.turned(a)) * 0.5 / trace, SMALLEST_EIGENVALUE, 0
    regular, inverse = None, None
    while -math.log(low) > SERIES_RANGE:
        root, inverse = _root_and_inverse(root, one, low, of)
        if regular is None:
            regular = (of.largest(inverse @ root - one) < ROOT_FOUND) & (of.total(inverse * inverse) < LARGEST_INVERSE)
        low, roots = math.sqrt(low), roots + 1
    x = (root - inverse) * 0.5
    square, terms = x @ x, asinh_series()
    sums = square * terms[-1] + one * terms[-2]
    for coefficient in terms[-3::-1]:
        sums = sums @ square + one * coefficient
    log = (x @ sums) * 2.0**roots
    log = (log + of.turned(log)) * 0.5 + of.log(trace) * one
    return of.where(regular, log, trace * math.nan)


def log_by_eigenvalues(a: Tensor) -> Tensor:
    """Return what `log_by_products` does, (..., n, n), by eigenvalues.

    Raises
    ------
    torch.linalg.LinAlgError
        Where they are not found.
    """
    trace = a.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    scaled = (a + a.transpose(-1, -2)) * 0.5 / trace
    finite = torch.isfinite(scaled).all(-1, keepdim=True).all(-2, keepdim=True)
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    values, vectors = torch.linalg.eigh(torch.where(finite, scaled, one))
    regular = (values > 0).all(-1) & ((1.0 / values).sum(-1) < LARGEST_INVERSE)
    regular = regular[..., None, None] & finite
    logs = torch.log(values * trace[..., 0])
    log = torch.matmul(vectors * logs.unsqueeze(-2), vectors.transpose(-1, -2))
    return torch.where(regular, log, math.nan)


def log_matrix(a: Tensor) -> Tensor:
    """Return the logarithm of symmetric positive definite matrices, (..., n, n); NaN where one has none.

    Parameters
    ----------
    a : Tensor
        (..., n, n) in float64.
    """
    if a.device.type == "cpu":
        try:
            return log_by_eigenvalues(a)
        except torch.linalg.LinAlgError:  # LAPACK gives up on a matrix: products do not
            pass
    made: Tensor = log_by_products(a, torch.eye(a.shape[-1], dtype=a.dtype, device=a.device))
    return made


@operator("LogMatrix")
def log_matrix_of(node: Node) -> Call:
    """LogMatrix (rtserve's own, a function of opset 20): logarithms; the unit matrix beside them serves products alone."""
    node.absorbed.add(1)
    return log_matrix
