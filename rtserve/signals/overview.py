"""What a recording holds, as JSON values: channels, rate, gaps, and what is marked in it by which source."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rtserve.signals.reading import read_recording

__all__ = ["describe_recording"]

MOST = 40
"""Event names that are listed of one source."""


def describe_recording(path: Path) -> dict[str, Any]:
    """Return what a recording and the tables beside it say.

    Raises
    ------
    InputError
        Where it cannot be read whole.
    """
    reading = read_recording(path)
    raw, clock = reading.raw, reading.clock
    kinds: dict[str, list[str]] = {}
    for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True):
        kinds.setdefault(kind, []).append(name)
    return {
        "kind": "recording",
        "sfreq": clock.sfreq,
        "duration_s": round(float(clock.duration), 6),
        "channels": {f"{kind} ({len(names)})": ", ".join(names) for kind, names in kinds.items()},
        "bad_channels": list(raw.info["bads"]),
        "units": sorted(set(reading.units.values())),
        "filtered": f"{raw.info['highpass']:g} to {raw.info['lowpass']:g} Hz, says the file",
        "gaps": len(clock.stretches) - 1,
        "events": {marks.source: _counted(marks.name.tolist()) for marks in reading.marks if len(marks.name)},
        "notes": reading.notes.lines(),
    }


def _counted(names: list[str]) -> str:
    counts = Counter(names)
    listed = ", ".join(f"{name} ({n})" for name, n in sorted(counts.items())[:MOST])
    return listed + (f" and {len(counts) - MOST} more" if len(counts) > MOST else "")
