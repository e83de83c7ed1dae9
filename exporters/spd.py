r"""The logarithm of a symmetric positive definite matrix in matrix products alone, for engines without eigenvalues.

ONNX has no eigen-decomposition. Products are enough: with the trace t of A, :math:`\log A = \log t + 2^k \log
(A/t)^{1/2^k}`, by k square roots, each by the coupled Newton-Schulz iteration (Higham, *Functions of Matrices*, 2008,
section 6.7) whose steps are scaled as is best for the eigenvalues still possible (Chen and Chow, 2014, "A stable scaling
of Newton-Schulz"). The iteration gives the inverse of the root too, so that the last logarithm is the odd series
:math:`\operatorname{asinh}((P - P^{-1}) / 2)`.

In float64 the result is about as far from the truth as that of an eigen-decomposition: both err by rounding times the
condition number. From condition numbers of about 1e12 on, where the logarithm is certain to 1e-5 at best, and for what is
not positive definite, the answer is NaN.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

__all__ = ["identity", "log_matrix", "symmetric"]

SMALLEST = 1e-14
"""Smallest eigenvalue, as part of the trace, for which the number of steps is enough."""
SERIES_TERMS = 12
SERIES_RANGE = 0.5
"""Square roots are taken until every eigenvalue's logarithm is within this; the series then ends below 1e-16."""
CONVERGED = 1e-6
"""Largest entry of Z Y - 1 at the first root: about a tenth of rounding times the condition number, and of the size of 1
where the root has not converged."""


@cache
def _schedule(low: float) -> tuple[float, ...]:
    """Return the scales of the steps that bring every number of [low, 1] to 1."""
    scales = []
    while 1.0 - low > 1e-9:
        scale = math.sqrt(3.0 / (1.0 + low + low * low))
        scales.append(scale)
        low = 0.5 * scale * low * (3.0 - (scale * low) ** 2)
    return (*scales, 1.0)


@cache
def _series() -> tuple[float, ...]:
    """Return the coefficients of asinh(x) / x in powers of x squared."""
    return tuple(
        (-1) ** j * math.factorial(2 * j) / (4**j * math.factorial(j) ** 2 * (2 * j + 1)) for j in range(SERIES_TERMS)
    )


def identity(n: int, like: Tensor) -> Tensor:
    """Return the unit matrix (n, n) in the type of `like`."""
    return torch.eye(n, dtype=like.dtype, device=like.device)


def symmetric(a: Tensor) -> Tensor:
    """Return (a + its transpose) / 2 over the last two axes."""
    return 0.5 * (a + a.transpose(-1, -2))


def _root(a: Tensor, low: float) -> tuple[Tensor, Tensor]:
    """Return the square root of `a`, whose eigenvalues are in [low, 1], and the inverse of that root."""
    one = identity(a.shape[-1], a)
    y, z = a, one
    for step, scale in enumerate(_schedule(math.sqrt(low))):
        kept, taken = 1.5 * scale, -0.5 * scale**3
        if step:
            turn = torch.baddbmm(one, z, y, beta=kept, alpha=taken)
            y, z = torch.bmm(y, turn), torch.bmm(turn, z)
        else:
            turn = kept * one + taken * y
            y, z = torch.bmm(y, turn), turn
    return symmetric(y), symmetric(z)


def log_matrix(a: Tensor) -> Tensor:
    """Return the logarithm of symmetric positive definite matrices.

    Parameters
    ----------
    a : Tensor
        (..., n, n) in float64.

    Returns
    -------
    Tensor
        (..., n, n), NaN throughout where a matrix is singular to working precision, or not positive definite.
    """
    n, shape = a.shape[-1], a.shape
    one, a = identity(n, a), a.reshape(-1, n, n)  # products of a stack are one operator, others are made of several
    trace = (a * one).sum(dim=(-2, -1), keepdim=True)
    root, low, roots = symmetric(a) / trace, SMALLEST, 0
    off = torch.zeros_like(trace)
    while -math.log(low) > SERIES_RANGE:
        root, inverse = _root(root, low)
        if not roots:
            off = (torch.bmm(inverse, root) - one).abs().amax(dim=(-2, -1), keepdim=True)
        low, roots = math.sqrt(low), roots + 1
    x = 0.5 * (root - inverse)
    square = torch.bmm(x, x)
    sums = _series()[-1] * square + _series()[-2] * one
    for coefficient in _series()[-3::-1]:
        sums = torch.baddbmm(one, sums, square, beta=coefficient)
    log = 2.0**roots * torch.bmm(x, sums) + torch.log(trace) * one
    log = torch.where(off < CONVERGED, symmetric(log), torch.full_like(trace, float("nan")))
    return log.reshape(shape)
