"""Tables that belong to a recording, found as BIDS says: the nearest folder upwards whose file names no other entity.

The inheritance principle: a file ``[sub-x_][task-y_]..._events.tsv`` in the recording's folder or above it, up to the data
set's root, applies to every recording whose name has all of its entities; the nearest and most specific one wins.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rtserve.signals.subjects import dataset_root, placed

__all__ = ["Sidecars", "entities", "find_sidecars"]

_ENTITY = re.compile(r"^([a-z]+)-([^_]+)$")


@dataclass(frozen=True, kw_only=True)
class Sidecars:
    """Files beside a recording, None where there is none."""

    events: Path | None = None
    channels: Path | None = None


def entities(name: str) -> dict[str, str]:
    """Return the entities of a BIDS file name: ``sub-01_task-x_eeg.bdf`` has sub and task."""
    pairs = (_ENTITY.match(part) for part in name.split(".")[0].split("_"))
    return {match[1]: match[2] for match in pairs if match}


def find_sidecars(path: Path) -> Sidecars:
    """Return the events.tsv and channels.tsv of a recording.

    Outside BIDS, ``NAME_events.tsv`` or ``NAME.events.tsv`` beside the recording ``NAME.edf``.
    """
    own = entities(path.name)
    if "sub" in own:
        return Sidecars(events=_inherited(path, own, "events"), channels=_inherited(path, own, "channels"))
    stem = re.sub(r"(_eeg)?(\.fif\.gz|\.[^.]+)$", "", path.name)
    beside = {
        suffix: next(
            (
                p
                for p in (path.with_name(f"{stem}_{suffix}.tsv"), path.with_name(f"{stem}.{suffix}.tsv"))
                if os.path.exists(p)
            ),
            None,
        )
        for suffix in ("events", "channels")
    }
    return Sidecars(**beside)


def _inherited(path: Path, own: dict[str, str], suffix: str) -> Path | None:
    """Return the table that applies, by the folders above the recording as it is named, and as it is stored if a link."""
    root = dataset_root(path)
    own = {key: value for key, value in own.items() if key != "split"}
    for start in dict.fromkeys((placed(path).parent, path.resolve().parent)):
        for folder in (start, *start.parents):
            found = _fitting(folder, own, suffix)
            if found is not None:
                return path.parent / found.name if folder == placed(path).parent else found
            if root is None or folder.resolve() == root:
                break
    return None


def _fitting(folder: Path, own: dict[str, str], suffix: str) -> Path | None:
    """Return the most specific table of a folder whose entities are all the recording's own."""
    fitting = [
        (len(theirs), candidate)
        for candidate in sorted(folder.glob(f"*{suffix}.tsv"))
        if candidate.name == f"{suffix}.tsv" or candidate.name.endswith(f"_{suffix}.tsv")
        if not candidate.name.startswith(".")  # what macOS leaves on shared disks
        for theirs in [entities(candidate.name)]
        if all(own.get(key) == value for key, value in theirs.items())
    ]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None
