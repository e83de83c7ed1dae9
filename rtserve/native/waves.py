r"""Long filters by waves: a tile of samples as a sum of waves, of which a filter changes each by one complex factor.

With :math:`\omega = e^{-i \pi / n}`, n samples give :math:`X_k = \sum_t x_t \omega^{(4k+1) t}` for :math:`k < n / 2`. A
filter :math:`y_t = \sum_j w_j x_{t+j}` is :math:`Y_k = X_k \sum_j w_j \omega^{-(4k+1) j}` where samples behind the tile are
those of its beginning with their sign turned, which the first :math:`n - q + 1` outputs of a filter with q taps do not see.
No wave among these is its own conjugate, so that all of them are alike, and

.. math:: X_k = \sum_{t < n / 2} (x_t - i x_{t + n/2}) \omega^t e^{-2 \pi i k t / (n/2)}

is a complex transform of half the length (Cooley and Tukey, factors 2 to 5). Sums are of orthogonal waves, so that any
length rounds as little as a sum of so many numbers does, where tiles by points have to stay short.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

__all__ = ["LENGTHS", "Wave", "cosines", "operations", "outputs_text", "window_text"]

LENGTHS = (16, 20, 24, 30, 32, 36, 40, 48, 50, 54, 60, 64, 72, 80)
"""Samples of a tile: even, and half of it of factors up to 5."""
DIGITS = 15
"""Of a constant in double precision: the last one differs between libraries."""

Complex = tuple[str, str]


@dataclass(frozen=True)
class Wave:
    """A tile of n samples for a filter of q taps."""

    n: int
    q: int

    @property
    def m(self) -> int:
        """Outputs of a tile."""
        return self.n - self.q + 1

    @property
    def waves(self) -> int:
        """Complex products of a tile."""
        return self.n // 2


def cosines(n: int) -> list[float]:
    """Return cos(pi j / n) for j from 0 to 2 n - 1."""
    return [_cosine(Fraction(j, 2 * n)) for j in range(2 * n)]


def _cosine(turns: Fraction) -> float:
    """Return the cosine of a part of a turn, exact where it is 0, 1/2 or 1 but for its sign."""
    exact = {Fraction(0): 1.0, Fraction(1, 6): 0.5, Fraction(1, 4): 0.0, Fraction(1, 3): -0.5, Fraction(1, 2): -1.0}
    turns %= 1
    turns = min(turns, 1 - turns)
    return exact.get(turns, round(math.cos(2 * math.pi * turns), DIGITS))


class _Code:
    """Statements, each a vector with a name of its own."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, tuple[str, ...]]] = []

    def put(self, text: str, *names: str) -> str:
        """Add a statement: a text with ``{0}``, ``{1}``, ... for the names in it; return its name."""
        name = f"a{len(self.lines)}"
        self.lines.append((name, text.format(*names), names))
        return name

    def added(self, a: Complex, b: Complex) -> Complex:
        """Return a + b."""
        return self.put("{0} + {1}", a[0], b[0]), self.put("{0} + {1}", a[1], b[1])

    def less(self, a: Complex, b: Complex) -> Complex:
        """Return a - b."""
        return self.put("{0} - {1}", a[0], b[0]), self.put("{0} - {1}", a[1], b[1])

    def around(self, a: Complex, b: Complex) -> tuple[Complex, Complex]:
        """Return a + i b and a - i b."""
        more = self.put("{0} - {1}", a[0], b[1]), self.put("{0} + {1}", a[1], b[0])
        return more, (self.put("{0} + {1}", a[0], b[1]), self.put("{0} - {1}", a[1], b[0]))

    def scaled(self, a: Complex, b: Complex, factor: float) -> Complex:
        """Return a + factor b."""
        text = f"{{0}} + {_number(factor)} * {{1}}"
        return self.put(text, a[0], b[0]), self.put(text, a[1], b[1])

    def mixed(self, a: Complex, b: Complex, x: float, y: float) -> Complex:
        """Return x a + y b."""
        text = f"{_number(x)} * {{0}} + {_number(y)} * {{1}}"
        return self.put(text, a[0], b[0]), self.put(text, a[1], b[1])

    def turned(self, a: Complex, turns: Fraction) -> Complex:
        """Return a number turned by a part of a turn."""
        c, s = _cosine(turns), _cosine(turns - Fraction(1, 4))
        if (c, s) == (1.0, 0.0):
            return a
        if (c, s) == (0.0, 1.0):
            return self.put("-{0}", a[1]), a[0]
        if (c, s) == (0.0, -1.0):
            return a[1], self.put("-{0}", a[0])
        return (
            self.put(f"{_number(c)} * {{0}} - {_number(s)} * {{1}}", *a),
            self.put(f"{_number(c)} * {{1}} + {_number(s)} * {{0}}", *a),
        )

    def needed(self, wanted: Sequence[str]) -> list[str]:
        """Return the statements that some names need."""
        needed = set(wanted)
        for name, _, names in reversed(self.lines):
            if name in needed:
                needed.update(names)
        return [f"const rt_vec {name} = {text};" for name, text, _ in self.lines if name in needed]


def _number(value: float) -> str:
    return f"{value!r}f" if value >= 0 else f"({value!r}f)"


def _transformed(code: _Code, values: Sequence[Complex], sign: int) -> list[Complex]:
    """Return the transform of so many values, e to the power of sign 2 pi i k t / n."""
    n = len(values)
    if n == 1:
        return list(values)
    factor = next(f for f in (4, 2, 3, 5) if n % f == 0)
    parts = [_transformed(code, values[r::factor], sign) for r in range(factor)]
    found: list[Complex] = [("", "")] * n
    for k in range(n // factor):
        turned = [code.turned(part[k], sign * Fraction(r * k, n)) for r, part in enumerate(parts)]
        for j, value in enumerate(_SMALL[factor](code, turned, sign)):
            found[k + j * n // factor] = value
    return found


def _two(code: _Code, x: Sequence[Complex], sign: int) -> list[Complex]:
    return [code.added(*x), code.less(*x)]


def _three(code: _Code, x: Sequence[Complex], sign: int) -> list[Complex]:
    total = code.added(x[1], x[2])
    middle, side = code.scaled(x[0], total, -0.5), code.less(x[1], x[2])
    s = sign * _sine(1, 3)
    side = code.put(f"{_number(s)} * {{0}}", side[0]), code.put(f"{_number(s)} * {{0}}", side[1])
    return [code.added(x[0], total), *code.around(middle, side)]


def _four(code: _Code, x: Sequence[Complex], sign: int) -> list[Complex]:
    even, odd = code.added(x[0], x[2]), code.added(x[1], x[3])
    more, less = code.around(code.less(x[0], x[2]), code.less(x[1], x[3]))
    return [
        code.added(even, odd),
        *((more, code.less(even, odd), less) if sign > 0 else (less, code.less(even, odd), more)),
    ]


def _five(code: _Code, x: Sequence[Complex], sign: int) -> list[Complex]:
    near, far = code.added(x[1], x[4]), code.added(x[2], x[3])
    cross, other = code.less(x[1], x[4]), code.less(x[2], x[3])
    c1, c2, s1, s2 = _cosine(Fraction(1, 5)), _cosine(Fraction(2, 5)), sign * _sine(1, 5), sign * _sine(2, 5)
    first = code.scaled(code.scaled(x[0], near, c1), far, c2)
    second = code.scaled(code.scaled(x[0], near, c2), far, c1)
    one, four = code.around(first, code.mixed(cross, other, s1, s2))
    two, three = code.around(second, code.mixed(cross, other, s2, -s1))
    return [code.added(x[0], code.added(near, far)), one, two, three, four]


_SMALL = {2: _two, 3: _three, 4: _four, 5: _five}


def _sine(part: int, whole: int) -> float:
    return _cosine(Fraction(part, whole) - Fraction(1, 4))


@cache
def window_text(n: int) -> tuple[str, ...]:
    """Return statements: n samples at ``p``, a ``step`` apart, to waves at ``v``, each in two parts a ``point`` apart."""
    code, half = _Code(), n // 2
    values = []
    for t in range(half):
        first, second = (code.put(f"rt_load(p + {at} * step)") for at in (t, t + half))
        values.append(code.turned((first, code.put("-{0}", second)), -Fraction(t, 2 * n)))
    found = [part for value in _transformed(code, values, -1) for part in value]
    return (*code.needed(found), *(f"rt_store(v + {p} * point, {name});" for p, name in enumerate(found)))


@cache
def _samples(n: int) -> tuple[_Code, tuple[str, ...]]:
    """Return statements: products at ``v`` to n samples, and what these are called."""
    code, half = _Code(), n // 2
    values = [(code.put(f"rt_load(v + {2 * k} * point)"), code.put(f"rt_load(v + {2 * k + 1} * point)"))
              for k in range(half)]  # fmt: skip
    found = [code.turned(value, Fraction(t, 2 * n)) for t, value in enumerate(_transformed(code, values, 1))]
    return code, (*(re for re, _ in found), *(im for _, im in found))


@cache
def outputs_text(n: int, m: int) -> tuple[str, ...]:
    """Return statements: products at ``v`` to m outputs, each given to ``rt_put`` with the ``offset`` of its channel."""
    code, samples = _samples(n)
    names, half = samples[:m], n // 2
    signs = [" - " if t >= half else " + " for t in range(m)]
    puts = [f"rt_put(q, ldo, {t}, offset{sign}{name}, part, relu, n);"
            for t, (sign, name) in enumerate(zip(signs, names, strict=True))]  # fmt: skip
    return (*code.needed(names), *puts)


@cache
def operations(n: int, m: int) -> tuple[int, int]:
    """Return the vector operations of a tile's window and of its outputs, a multiply-add as one; no reads and writes."""
    texts = window_text(n), outputs_text(n, m)
    return tuple(sum(1 + (line.count(" * ") > 1) for line in text if " = rt_load" not in line and "rt_store" not in line)
                 for text in texts)  # type: ignore[return-value]  # fmt: skip
