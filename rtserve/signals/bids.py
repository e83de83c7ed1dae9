"""Finding recordings: single files, a BIDS folder, its participants and their targets."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.signals.recordings import SUFFIXES

__all__ = ["Recording", "find_recordings", "read_participants"]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A file and whose it is.

    Parameters
    ----------
    path : Path
        The file.
    subject, run_id : str
        Of every window cut from it.
    """

    path: Path
    subject: str
    run_id: str


def find_recordings(sources: Sequence[str | Path], *, task: str = "", subject: str = "") -> list[Recording]:
    """Return the recordings that files and BIDS folders hold, in order of subject and name.

    Parameters
    ----------
    sources : sequence of path
        Files, BIDS folders, or ``eegdash:DATASET`` where EEGDash is installed.
    task : str
        Only this BIDS task.
    subject : str
        Whose a single file without a BIDS name is.

    Raises
    ------
    InputError
        Where a source does not exist or a folder holds no recording.
    EnvironmentMissingError
        Where EEGDash is asked for and not installed.
    """
    found: list[Recording] = []
    for source in sources:
        if str(source).startswith("eegdash:"):
            found += _in_folder(_eegdash(str(source).partition(":")[2]), task)
            continue
        path = Path(source)
        if path.is_dir():
            found += _in_folder(path, task)
        elif path.exists():
            found.append(_recording(path, subject))
        else:
            raise InputError(f"source {path} does not exist", hint="name recordings or a BIDS folder")
    names = [recording.run_id for recording in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"two recordings are called {twice}", hint="run ids must differ, or windows could not be told apart"
        )
    return sorted(found, key=lambda recording: (recording.subject, recording.run_id))


def _in_folder(folder: Path, task: str) -> list[Recording]:
    pattern = f"sub-*/**/*_task-{task}_*eeg.*" if task else "sub-*/**/*_eeg.*"
    paths = [path for path in sorted(folder.glob(pattern)) if path.name.lower().endswith(SUFFIXES)]
    if not paths:
        tasks = {
            m.group(1) for p in folder.glob("sub-*/**/*_eeg.*") if (m := re.search(r"_task-([A-Za-z0-9]+)", p.name))
        }
        hint = (
            f"it has the tasks {', '.join(sorted(tasks))}"
            if tasks
            else "a BIDS folder has sub-*/eeg/*_eeg.bdf or the like"
        )
        raise InputError(f"{folder} holds no recording{f' of task {task}' if task else ''}", hint=hint)
    return [_recording(path, "") for path in paths]


def _recording(path: Path, subject: str) -> Recording:
    stem = path.name.split(".")[0].removesuffix("_eeg")
    found = re.match(r"(sub-[A-Za-z0-9]+)", stem)
    return Recording(path=path, subject=subject or (found.group(1) if found else stem), run_id=stem)


def _eegdash(dataset: str) -> Path:
    """Let EEGDash fetch a dataset; return its folder."""
    try:
        from eegdash import EEGDashDataset  # type: ignore[import-not-found]
    except ImportError:
        raise EnvironmentMissingError(
            "EEGDash is not installed", hint="pip install eegdash, or give a BIDS folder"
        ) from None
    cache = Path.home() / ".cache" / "eegdash"
    for record in EEGDashDataset(cache_dir=cache, dataset=dataset).datasets:
        record.raw  # noqa: B018 -- reading it is what downloads it
    return cache / dataset


def read_participants(folder: Path, column: str) -> dict[str, float]:
    """Return a subject-level target by subject from a BIDS folder's participants.tsv; subjects without one are absent.

    Raises
    ------
    InputError
        Where the table or the column is missing.
    """
    table = folder / "participants.tsv"
    if not table.exists():
        raise InputError(f"{folder} has no participants.tsv", hint="a subject's target comes from there")
    with open(table, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    if not rows or column not in rows[0] or "participant_id" not in rows[0]:
        columns = ", ".join(map(str, rows[0])) if rows else "nothing"
        raise InputError(f"{table} has no column {column}", hint=f"it has {columns}")
    values = {row["participant_id"]: _number(row[column]) for row in rows}
    return {subject: value for subject, value in values.items() if math.isfinite(value)}


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
