"""What is worth saying about recordings: each kind once, with how often it was said.

MNE's warnings are collected here and not silenced; so is everything that rtserve assumed of its own.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator

__all__ = ["Notes", "Remark", "listening"]


class Remark(UserWarning):
    """What is to be said of a recording and is no warning of MNE's."""


class Notes:
    """Sentences by kind: two that differ only in numbers and file names are of one kind; the first is kept."""

    def __init__(self, said: dict[str, tuple[str, int]] | None = None) -> None:
        self._said = {kind: (str(text), int(n)) for kind, (text, n) in (said or {}).items()}

    def add(self, text: str, n: int = 1) -> None:
        """Say something `n` times."""
        text = " ".join(text.split())
        kind = re.sub(
            r"\d+(\.\d+)?", "#", re.sub(r"\S*[/\\]\S+|\b\S+\.(tsv|json|edf|bdf|set|fif|vhdr|vmrk)\b", "@", text)
        )
        first, count = self._said.get(kind, (text, 0))
        self._said[kind] = (first, count + n)

    def merge(self, other: Notes) -> None:
        """Take over what another recording said."""
        for text, n in other._said.values():
            self.add(text, n)

    def to_dict(self) -> dict[str, tuple[str, int]]:
        """Return the notes as JSON values; `Notes` takes them back."""
        return dict(self._said)

    def lines(self) -> list[str]:
        """Return one line per kind."""
        return [text + (f" (said {n} times)" if n > 1 else "") for text, n in self._said.values()]


@contextlib.contextmanager
def listening(notes: Notes) -> Iterator[None]:
    """Collect what Python's warnings say within the block, MNE's among them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                if issubclass(warning.category, Remark):
                    notes.add(str(warning.message))
                elif not issubclass(warning.category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning)):
                    notes.add(f"MNE: {warning.message}")
