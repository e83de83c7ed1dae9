r"""Fewer products for a filter: tiles of outputs by evaluation at points (Toom and Cook; Winograd).

:math:`m` outputs of a filter with :math:`q` taps, :math:`y_i = \sum_k g_k d_{i+k}`, are
:math:`y = A^T [(G g) \odot (B^T d)]` with :math:`n = m + q - 1` products in place of :math:`m q`. With points
:math:`a_0 \dots a_{n-2}` and infinity, :math:`A^T_{ip} = a_p^i`, :math:`G_{pk} = a_p^k / \prod_{j \ne p} (a_p - a_j)`, row
:math:`p` of :math:`B^T` holds the coefficients of :math:`\prod_{j \ne p} (x - a_j)`; at infinity stand the last output, the
last tap, and those of :math:`\prod_j (x - a_j)`. All three are exact fractions; rows are scaled by powers of two, so that
neither the transformed window nor the transformed filter grows.

S. Winograd, Arithmetic Complexity of Computations (SIAM 1980); the transposed form for filters is that of his F(m, q).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import frexp
from typing import NamedTuple

POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2), Fraction(1, 2), Fraction(-1, 2))
MOST_POINTS = len(POINTS) + 1
"""With more, single precision loses more than it may."""
Rows = tuple[tuple[Fraction, ...], ...]


class Tile(NamedTuple):
    """How `m` outputs of `q` taps are computed by `n` products.

    Parameters
    ----------
    m, q : int
        Outputs and taps.
    window, taps, outputs : tuple of tuple of Fraction
        (n, n), (n, q) and (m, n): B transposed, G, and A transposed. The last point is infinity.
    """

    m: int
    q: int
    window: Rows
    taps: Rows
    outputs: Rows

    @property
    def n(self) -> int:
        """Products of a tile."""
        return self.m + self.q - 1


@cache
def tile_of(m: int, q: int) -> Tile:
    """Return the tile of `m` outputs and `q` taps; `MOST_POINTS` products at most."""
    n = m + q - 1
    points = POINTS[: n - 1]
    window, taps = [], []
    for p, a in enumerate(points):
        others = [b for j, b in enumerate(points) if j != p]
        row = [*_coefficients(others), Fraction(0)]
        over = Fraction(1)
        for b in others:
            over *= a - b
        scale = _scale(row)
        window.append(tuple(value / scale for value in row))
        taps.append(tuple(scale * a**k / over for k in range(q)))
    window.append(tuple(_coefficients(points)))
    taps.append(tuple(Fraction(int(k == q - 1)) for k in range(q)))
    outputs = [[*(a**i for a in points), Fraction(int(i == m - 1))] for i in range(m)]
    return Tile(m=m, q=q, window=tuple(window), taps=tuple(taps), outputs=tuple(tuple(row) for row in outputs))


def _coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Return the coefficients of the product of (x - root), the constant first."""
    found = [Fraction(1)]
    for root in roots:
        found = [a - root * b for a, b in zip([Fraction(0), *found], [*found, Fraction(0)], strict=True)]
    return found


def _scale(row: Sequence[Fraction]) -> Fraction:
    """Return the power of two that brings the largest number of a row to between 1/2 and 1."""
    return Fraction(2) ** frexp(float(max(abs(value) for value in row)))[1]
