"""Commas in a column of numbers: decimal ones, or of thousands. A column says which; where it does not, it is asked.

``1,234`` alone may be 1.234 or 1234. ``0,5`` and ``12,75`` can only be decimals, ``1,234.5`` and ``1,234,567`` only
thousands, and whoever writes ``12.5`` in the same column uses the comma for thousands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rtserve.errors import InputError

__all__ = ["Commas", "commas_of", "has_comma"]

_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_DECIMAL = re.compile(r"[-+]?(\d*|\d{1,3}(\.\d{3})+),\d+([eE][-+]?\d+)?|[-+]?\d+,")
_POINT = re.compile(r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Commas:
    """What commas mean in one column.

    Parameters
    ----------
    decimal : bool
        Whether they stand for the point.
    seen : bool
        Whether there are any.
    """

    decimal: bool = False
    seen: bool = False

    def plain(self, field: str) -> str:
        """Return a field as `float` takes it."""
        if self.decimal and "," in field:
            return field.replace(".", "").replace(",", ".")
        return field.replace(",", "") if self.seen and _THOUSANDS.fullmatch(field) else field

    def note(self, column: str) -> str:
        """Say how they were read, where there are any."""
        kind = "decimal ones" if self.decimal else "those of thousands"
        return f"commas in {column} are read as {kind}" if self.seen else ""


def has_comma(field: str) -> bool:
    """Whether a field is a number but for its commas."""
    return (_DECIMAL.fullmatch(field) or _THOUSANDS.fullmatch(field)) is not None


def commas_of(fields: Sequence[str], where: str, *, semicolons: bool) -> Commas:
    """Return what the commas in a column's fields (numbers, and perhaps words) mean.

    Parameters
    ----------
    fields : sequence of str
        All of them.
    where : str
        The column, for the error.
    semicolons : bool
        Whether semicolons part the table's fields, as spreadsheets write them where the comma is the decimal one.

    Raises
    ------
    InputError
        Where the column does not say, or says both.
    """
    thousands = [field for field in fields if _THOUSANDS.fullmatch(field)]
    decimal = [field for field in fields if _DECIMAL.fullmatch(field)]
    if not thousands and not decimal:
        return Commas()
    surely_decimal = [field for field in decimal if not _THOUSANDS.fullmatch(field)]
    surely_thousands = [field for field in thousands if not _DECIMAL.fullmatch(field)]
    points = [field for field in fields if _POINT.fullmatch(field)]
    if surely_decimal and not thousands:  # 0,95 beside 0.97 are both plain; 1.234 beside 0,95 is not
        points = [field for field in points if _THOUSANDS.fullmatch(field.replace(".", ","))]
    against = surely_thousands or points
    if surely_decimal and against:
        raise InputError(
            f"{where} has {surely_decimal[0]!r}, whose comma is a decimal one, and {against[0]!r}, whose is not",
            hint="write all its numbers in one way, with a point and no mark for thousands",
        )
    if surely_decimal or against or semicolons:
        return Commas(seen=True, decimal=not against)
    raise InputError(
        f"{where} has {thousands[0]!r}: whether its comma is a decimal one or one of thousands is not known",
        hint="write its numbers with a point and no mark for thousands",
    )
