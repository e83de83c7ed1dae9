"""Patterns that name parts of a text: ``{subject}_run*`` as a template, or a regular expression with a group.

In a template ``{field}`` takes as little as fits and ``*`` anything, neither past a ``/``; the rest is meant as it
stands, and the whole text must fit. A regular expression may fit anywhere; its groups are named for the fields, or it
has one group, which is the first field.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rtserve.errors import InputError

__all__ = ["NUMBER", "Pattern", "fits", "is_pattern", "listed", "parse_pattern"]


NUMBER = (
    r"(?<!\d)(?<!\d[.,_])[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
    r"(?!_?\d|[.,]\d|[eE][-+]?\d|[xX][0-9a-fA-F])"
)
"""A whole number within a text: no part of 1,5, of 1_000, of 1.2.3 or of 0x10."""


def listed(text: str | None) -> list[str]:
    """Return the names in a list with commas; ``"a,b",c`` are two."""
    rows = csv.reader([text or ""], skipinitialspace=True)
    return [name.strip() for row in rows for name in row if name.strip()]


def fits(name: str, key: str) -> bool:
    """Whether a key means a name: ``*`` stands for anything, every other letter for itself."""
    return name == key or (
        "*" in key and re.fullmatch(".*".join(map(re.escape, key.split("*"))), name, re.S) is not None
    )


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """What takes fields out of a text.

    Parameters
    ----------
    text : str
        As the user wrote it.
    expression : re.Pattern
        With a group for each field that it takes.
    whole : bool
        Whether all of a text must fit.
    depth : int
        Slashes in it: how many folders above a file's name it speaks of.
    only : str
        The field of a group without a name.
    """

    text: str
    expression: re.Pattern[str]
    whole: bool
    depth: int
    only: str = ""

    def match(self, text: str) -> dict[str, str] | None:
        """Return the fields found in `text`, or None where the pattern does not fit it."""
        found = self.expression.fullmatch(text) if self.whole else self.expression.search(text)
        if found is None:
            return None
        fields = {self.only: found[1]} if self.only else found.groupdict()
        return {name: value.strip() for name, value in fields.items() if value is not None}


def is_pattern(text: str) -> bool:
    """Whether `text` is meant to take a field out of others, or is just a name."""
    return any(sign in text for sign in "(){}*")


def parse_pattern(text: str, fields: Sequence[str], *, option: str, what: str = "[^/]+?") -> Pattern:
    """Read a template or a regular expression.

    Parameters
    ----------
    text : str
        What the user wrote.
    fields : sequence of str
        Names it may take; the first must be among those it takes.
    option : str
        What errors call it, e.g. ``"--subject"``.
    what : str
        The regular expression of a template's field.

    Raises
    ------
    InputError
        Where it does not compile, takes an unknown field, or not the one that is needed.
    """
    example = f"for example {option} '{{{fields[0]}}}_*' or {option} '^([A-Z]+)_'"
    template = re.search(r"\{[A-Za-z_]+\}", text) is not None
    try:
        expression = re.compile(_from_template(text, fields, option, what) if template else text)
    except re.error as error:
        raise InputError(f"{option} {text!r} is no pattern: {error}", hint=example) from None
    only = fields[0] if expression.groups == 1 and not expression.groupindex else ""
    unknown = [name for name in expression.groupindex if name not in fields]
    if unknown or not (only or fields[0] in expression.groupindex):
        wrong = f"takes {unknown[0]}" if unknown else f"does not say which part is the {fields[0]}"
        raise InputError(f"{option} {text!r} {wrong}", hint=f"it may take {', '.join(fields)}; {example}")
    return Pattern(text=text, expression=expression, whole=template, depth=text.count("/"), only=only)


def _from_template(text: str, fields: Sequence[str], option: str, what: str) -> str:
    """Return the regular expression of a template."""
    out = []
    for part in re.split(r"(\{[^{}]*\}|\*)", text):
        if part == "*":
            out.append("[^/]*?")
        elif part.startswith("{"):
            if part[1:-1] not in fields:
                raise InputError(f"{option} {text!r} takes {part}", hint=f"it may take {', '.join(fields)}")
            out.append(f"(?P<{part[1:-1]}>{what})")
        else:
            out.append(re.escape(part))
    return "".join(out)
