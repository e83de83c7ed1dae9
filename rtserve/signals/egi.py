"""EGI's .mff: its events with the times they have, and what MNE fills in before its first epoch is no data.

MNE (1.13) has events at their nearest sample and leaves out those outside the samples, which then are in no count; windows
are cut at the same samples here. NetStation's own marks (sync, TREV) are left out as there.
"""

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
from rtserve.signals.marks import is_join
from rtserve.signals.notes import Notes, Remark

__all__ = ["corrected", "unprinted"]

_USUAL = "categories.xml not found"
"""mffpy prints so of every recording that was not cut into epochs."""
_ITS_OWN = ("sync", "TREV")
_MNES_OWN = (SKIP, "BAD_EGI_PSG")


@contextmanager
def unprinted() -> Iterator[None]:
    """Make warnings of what a reader prints: mffpy does, and what a command prints may be JSON."""
    with redirect_stdout(io.StringIO()) as said:
        yield
    for line in dict.fromkeys(said.getvalue().splitlines()):
        if line.strip() and not line.startswith(_USUAL):
            warnings.warn(f"the reader says: {line.strip()}", category=Remark, stacklevel=3)


def corrected(marks: Marks, raw: Any, path: Path, notes: Notes) -> Marks:
    """Return an .mff's events by its own tracks, and what MNE filled in outside its epochs as filler."""
    rate = float(raw.info["sfreq"])
    gaps = [mark for mark in marks if mark[2] in _MNES_OWN]
    # MNE marks what is between epochs, and not what is before the first.
    first = int(raw._raw_extras[0].get("first_samps", [0])[0])
    gaps += [(0.0, first / rate, SKIP)] if first else []
    events = _events(raw, path)
    if events is None:
        events = [(onset, name) for onset, _, name in marks if name not in _MNES_OWN]
    onset = np.array([at for at, *_ in [*events, *gaps]], float)
    return dataclasses.replace(
        marks,
        onset=onset,
        duration=np.array([0.0] * len(events) + [lasts for _, lasts, _ in gaps], float),
        name=np.array([name for _, name in events] + [name for *_, name in gaps], "U"),
        stored=np.rint(onset * rate).astype(int),
        joins=np.array([is_join(name, path) for _, name in events] + [False] * len(gaps), bool),
    )


def _events(raw: Any, path: Path) -> list[tuple[float, str]] | None:
    """Return time in s and code of every event, None without mffpy or a date."""
    try:
        from mffpy.xml_files import XML
    except ImportError:  # MNE before 1.13 reads .mff by itself
        return None
    start = raw.info["meas_date"]
    if start is None:
        return None
    tracks = [XML.from_file(str(file)) for file in sorted(path.glob("Events*.xml"))]
    every = [(event["beginTime"], event["code"]) for track in tracks for event in track.events]
    return [((begin - start).total_seconds(), code) for begin, code in every if code not in _ITS_OWN]
