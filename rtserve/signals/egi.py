"""EGI's .mff: what MNE fills in before its first epoch is no data."""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.signals.clock import SKIP, Marks
from rtserve.signals.notes import Notes, Remark

__all__ = ["corrected", "unprinted"]

_USUAL = "categories.xml not found"
"""mffpy prints so of every recording that was not cut into epochs."""


@contextmanager
def unprinted() -> Iterator[None]:
    """Make warnings of what a reader prints: mffpy does, and what a command prints may be JSON."""
    with redirect_stdout(io.StringIO()) as said:
        yield
    for line in dict.fromkeys(said.getvalue().splitlines()):
        if line.strip() and not line.startswith(_USUAL):
            warnings.warn(f"the reader says: {line.strip()}", category=Remark, stacklevel=3)


def corrected(marks: Marks, raw: Any, path: Path, notes: Notes) -> Marks:
    """Return an .mff's events, and what lies before its first epoch marked as filler, as MNE (1.13) marks it later on."""
    first = raw._raw_extras[0].get("first_samps", [0])
    if not int(first[0]):
        return marks
    stored = None if marks.stored is None else np.append(marks.stored, 0)
    joins = None if marks.joins is None else np.append(marks.joins, False)
    return dataclasses.replace(
        marks,
        onset=np.append(marks.onset, 0.0),
        duration=np.append(marks.duration, int(first[0]) / float(raw.info["sfreq"])),
        name=np.append(marks.name, SKIP),
        stored=stored,
        joins=joins,
    )
