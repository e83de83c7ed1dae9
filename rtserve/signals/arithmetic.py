"""Functions whose every bit is the same on every machine: what the simulator computes with.

numpy's exp, log, sin and power have other last bits with AVX2 than with AVX-512, the C library's change with its
version and with the processor, BLAS adds in an order that depends on the processor and on the number of threads, and an
FFT may fuse a product and a sum. What is built from the following does not, so nothing else decides a stored bit:

1. Elementwise ``+ - * /`` and the square root of IEEE 754 numbers, each in a call of its own: they are correctly
   rounded, whatever the width of the vectors, and two calls are never fused into one operation.
2. ``rint``, ``frexp``, ``ldexp``, comparisons, conversions and sorting: exact, or correctly rounded.
3. Sums over an axis in a written-out order, one elementwise addition after the other.
4. Matrix products of integers whose sums stay below 2^53 (`exact_matmul`): every product and every partial sum is an
   integer that float64 holds exactly, so no order, blocking, fused operation or number of threads can change it.
5. Random integers, and ``Generator.random``, which is an integer times 2^-53 (`rtserve.signals.chance`).

The functions below are made of 1 and 2 alone. They are accurate to about 1e-15, which is all that the simulator needs;
that they are not the correctly rounded ones does not matter, since they are wrong in the same way everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["along", "cosine", "exact_matmul", "exp", "log", "normal_quantile", "sine", "squared_angle", "unit"]

EXACT = 2.0**53
"""Up to here float64 holds every integer."""
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""ln 2 in two parts (fdlibm's); a product of the first with an exponent is exact."""
_EXP = tuple(1.0 / math.factorial(n) for n in range(13, -1, -1))
_LOG = tuple(1.0 / (2 * n + 1) for n in range(11, -1, -1))
_SIN = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(8, -1, -1))
_COS = tuple((-1) ** n / math.factorial(2 * n) for n in range(8, -1, -1))
_ANGLE = (*(32 * 4**n / (n * n * math.comb(2 * n, n)) for n in range(18, 0, -1)), 0.0)


def _polynomial(x: np.ndarray, coefficients: Sequence[float]) -> np.ndarray:
    """Evaluate by Horner's rule, the highest power first."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total


def exp(x: np.ndarray) -> np.ndarray:
    """Return e to the power of float64 `x`, held within 1e-304 and 1e304."""
    x = np.clip(np.asarray(x, np.float64), -700.0, 700.0)
    k = np.rint(x / _LN2_HIGH)
    rest = (x - k * _LN2_HIGH) - k * _LN2_LOW
    return np.asarray(np.ldexp(_polynomial(rest, _EXP), k.astype(np.int32)))


def log(x: np.ndarray) -> np.ndarray:
    """Return the natural logarithm of float64 `x` > 0."""
    m, e = np.frexp(np.asarray(x, np.float64))
    low = m < 0.7071
    m, e = np.where(low, 2.0 * m, m), (e - low).astype(np.float64)
    s = (m - 1.0) / (m + 1.0)
    return np.asarray(e * _LN2_HIGH + (2.0 * s * _polynomial(s * s, _LOG) + e * _LN2_LOW))


def sine(turns: np.ndarray) -> np.ndarray:
    """Return the sine of angles in whole turns (2 pi rad), float64."""
    x = np.asarray(turns, np.float64)
    x = x - np.rint(x)
    quarter = np.rint(4.0 * x)
    angle = 2.0 * math.pi * (x - 0.25 * quarter)
    square = angle * angle
    ours = angle * _polynomial(square, _SIN)
    other = _polynomial(square, _COS)
    turned = np.where(quarter % 2 == 0, ours, other)
    return np.asarray(np.where((quarter == -1) | (np.abs(quarter) == 2), -turned, turned))


def cosine(turns: np.ndarray) -> np.ndarray:
    """Return the cosine of angles in whole turns, float64."""
    return sine(np.asarray(turns, np.float64) + 0.25)


def squared_angle(cosines: np.ndarray) -> np.ndarray:
    r"""Return the square of the angle in rad whose cosine is given, float64.

    With :math:`w = \sin^2(\theta/8)`, from halving the angle thrice,
    :math:`\theta^2 = 32 \sum_n (4w)^n / (n^2 \binom{2n}{n})`.
    """
    w = np.clip(0.5 * (1.0 - np.asarray(cosines, np.float64)), 0.0, 1.0)
    for _ in range(2):
        w = w / (2.0 * (1.0 + np.sqrt(1.0 - w)))
    return _polynomial(w, _ANGLE)


def along(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the scalar products (...) of vectors (..., 3)."""
    total = first[..., 0] * second[..., 0]
    total = total + first[..., 1] * second[..., 1]
    return np.asarray(total + first[..., 2] * second[..., 2])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (..., 3) at length 1."""
    return np.asarray(vectors / np.sqrt(along(vectors, vectors))[..., None])


def exact_matmul(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Multiply matrices of whole numbers without any rounding.

    Parameters
    ----------
    first, second : ndarray, float64, (..., m, k) and (..., k, n)
        Whole numbers.

    Returns
    -------
    ndarray, float64, (..., m, n)

    Raises
    ------
    ArithmeticError
        Where a sum could pass 2^53 or a number is not whole, so that the result could depend on the machine.
    """
    bound = float(np.abs(first).max()) * float(np.abs(second).max()) * first.shape[-1]
    if not bound < EXACT or (np.rint(first) != first).any() or (np.rint(second) != second).any():
        raise ArithmeticError(f"a product of whole numbers up to {bound:.3g} is not exact in float64")
    return np.asarray(np.matmul(first, second))


_NEAR = (
    (2.509080928730122672e3, 3.343057558358812810e4, 6.726577092700870085e4, 4.592195393154987145e4,
     1.373169376550946112e4, 1.971590950306551442e3, 1.331416678917843774e2, 3.387132872796366608e0),
    (5.226495278852854561e3, 2.872908573572194267e4, 3.930789580009271061e4, 2.121379430158659586e4,
     5.394196021424751107e3, 6.871870074920579083e2, 4.231333070160091125e1, 1.0),
)  # fmt: skip
_TAIL = (
    (7.745450142783414076e-4, 2.272384498926918458e-2, 2.417807251774506117e-1, 1.270458252452368382e0,
     3.647848324763204605e0, 5.769497221460691405e0, 4.630337846156545295e0, 1.423437110749683577e0),
    (1.050750071644416843e-9, 5.475938084995344946e-4, 1.519866656361645719e-2, 1.481039764274800745e-1,
     6.897673349851000045e-1, 1.676384830183803849e0, 2.053191626637758821e0, 1.0),
)  # fmt: skip
_FAR = (
    (2.010334399292288132e-7, 2.711555568743487578e-5, 1.242660947388078438e-3, 2.653218952657612309e-2,
     2.965605718285048912e-1, 1.784826539917291335e0, 5.463784911164114369e0, 6.657904643501103777e0),
    (2.044263103389939785e-15, 1.421511758316445888e-7, 1.846318317510054681e-5, 7.868691311456132591e-4,
     1.487536129085061485e-2, 1.369298809227358053e-1, 5.998322065558879376e-1, 1.0),
)  # fmt: skip


def normal_quantile(probability: np.ndarray) -> np.ndarray:
    """Return the standard normal distribution's values at probabilities in (0, 1), float64.

    Wichura's AS 241 (Applied Statistics 37, 1988, 477-484), over `log`.
    """
    p = np.asarray(probability, np.float64)
    q = p - 0.5
    square = 0.180625 - q * q
    near = q * (_polynomial(square, _NEAR[0]) / _polynomial(square, _NEAR[1]))
    r = np.sqrt(-log(np.minimum(p, 1.0 - p)))
    tail = _polynomial(r - 1.6, _TAIL[0]) / _polynomial(r - 1.6, _TAIL[1])
    far = _polynomial(r - 5.0, _FAR[0]) / _polynomial(r - 5.0, _FAR[1])
    outer = np.where(q < 0.0, -1.0, 1.0) * np.where(r <= 5.0, tail, far)
    return np.asarray(np.where(np.abs(q) <= 0.425, near, outer))
