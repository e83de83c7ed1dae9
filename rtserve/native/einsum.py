"""Einsum as products of matrices: letters of both factors and of what comes after are rows of matrices, letters that nobody
needs any more are summed, the others are rows or columns.

Factors are taken in from the left, two at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from rtserve.native.draft import Draft, rewrite
from rtserve.native.flow import Operation

__all__: list[str] = []


@dataclass(frozen=True, kw_only=True)
class _Term:
    """A value and the letter of each of its axes."""

    name: str
    letters: str


@rewrite("Einsum")
def einsum(draft: Draft, operation: Operation) -> bool:
    """Einsum (opset 12) without diagonals: what lies under an ellipsis gets letters of its own."""
    terms, wanted = _terms(draft, operation)
    sizes = {letter: n for term in terms for letter, n in zip(term.letters, draft.shape(term.name), strict=True)}
    for term in terms:
        for letter, n in zip(term.letters, draft.shape(term.name), strict=True):
            if n != sizes[letter]:
                raise operation.refuse(f"with sizes {n} and {sizes[letter]} of one letter")
    total = terms[0]
    for k, term in enumerate(terms[1:], start=1):
        later = wanted + "".join(other.letters for other in terms[k + 1 :])
        total = _product(draft, total, term, later)
    total = _summed(draft, total, wanted)
    draft.transpose(total.name, [total.letters.index(c) for c in wanted], out=operation.outputs[0])
    return True


def _terms(draft: Draft, operation: Operation) -> tuple[list[_Term], str]:
    """Return the factors and the letters of the result."""
    equation = operation.text("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    words = left.split(",")
    free = "".join(c for c in map(chr, range(ord("A"), ord("z") + 1)) if c.isalpha() and c not in equation)
    depth = max(
        len(draft.shape(name)) - len(word.replace("...", ""))
        for word, name in zip(words, operation.inputs, strict=True)
    )
    terms = []
    for word, name in zip(words, operation.inputs, strict=True):
        hidden = len(draft.shape(name)) - len(word.replace("...", ""))
        letters = word.replace("...", free[depth - hidden : depth]) if "..." in word else word
        if len(set(letters)) != len(letters):
            raise operation.refuse("with a diagonal")
        terms.append(_Term(name=name, letters=letters))
    if not arrow:
        every = "".join(term.letters for term in terms)
        right = free[:depth] + "".join(sorted(c for c in set(every) if every.count(c) == 1 and c not in free[:depth]))
    return terms, right.replace("...", free[:depth])


def _summed(draft: Draft, term: _Term, kept: str) -> _Term:
    """Return a term summed over the letters that are not kept."""
    axes = [k for k, c in enumerate(term.letters) if c not in kept]
    if not axes:
        return term
    name = draft.reduce("ReduceSum", term.name, axes, keepdims=False)
    return _Term(name=name, letters="".join(c for c in term.letters if c in kept))


def _product(draft: Draft, left: _Term, right: _Term, later: str) -> _Term:
    """Return the product of two terms, summed over the letters that nobody needs later."""
    left = _summed(draft, left, right.letters + later)
    right = _summed(draft, right, left.letters + later)
    both = [c for c in left.letters if c in right.letters]
    batch, inner = [c for c in both if c in later], [c for c in both if c not in later]
    rows = [c for c in left.letters if c not in both]
    columns = [c for c in right.letters if c not in both]
    sizes = _sizes(draft, left) | _sizes(draft, right)
    a = _laid(draft, left, [batch, rows, inner])
    b = _laid(draft, right, [batch, inner, columns])
    if inner:
        name = draft.put("MatMul", [a, b], (*draft.shape(a)[:-1], draft.shape(b)[-1]))
    else:
        name = draft.pointwise("Mul", a, b)
    letters = [*batch, *rows, *columns]
    return _Term(name=draft.reshape(name, [sizes[c] for c in letters]), letters="".join(letters))


def _sizes(draft: Draft, term: _Term) -> dict[str, int]:
    return dict(zip(term.letters, draft.shape(term.name), strict=True))


def _laid(draft: Draft, term: _Term, groups: Sequence[Sequence[str]]) -> str:
    """Return a term with its letters in groups, each of which is one axis."""
    order = [c for group in groups for c in group]
    name = term.name
    if order != list(term.letters):
        name = draft.transpose(name, [term.letters.index(c) for c in order])
    sizes = _sizes(draft, term)
    return draft.reshape(name, [prod(sizes[c] for c in group) for group in groups])
