"""Finding recordings: single files and BIDS folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.signals.recordings import SUFFIXES
from rtserve.signals.subjects import name_recordings

__all__ = ["Recording", "Recordings", "find_recordings"]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A file and whose it is.

    Parameters
    ----------
    path : Path
        The file.
    subject, run_id : str
        Of every window cut from it; unique across everything prepared together.
    bare : str
        The subject's id within its data set.
    session, dataset : str
        Empty where not known.
    source : str
        How the subject is known; see `rtserve.signals.subjects.Named`.
    root : Path or None
        Folder of its data set.
    """

    path: Path
    subject: str
    run_id: str
    bare: str = ""
    session: str = ""
    dataset: str = ""
    source: str = "bids"
    root: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """What was found, in order of subject and name, and what is worth saying about whose it is."""

    items: tuple[Recording, ...]
    notes: tuple[str, ...] = ()


def find_recordings(sources: Sequence[str | Path], *, task: str = "", subject: str = "") -> Recordings:
    """Return the recordings that files and BIDS folders hold.

    Parameters
    ----------
    sources : sequence of path
        Files, BIDS folders, or ``eegdash:DATASET`` where EEGDash is installed.
    task : str
        Only this BIDS task.
    subject : str
        Whose files are that were named themselves: a name, or a pattern (`rtserve.signals.subjects.name_recordings`).

    Raises
    ------
    InputError
        Where a source does not exist, a folder holds no recording, one is named twice, or the pattern does not fit.
    EnvironmentMissingError
        Where EEGDash is asked for and not installed.
    """
    found: list[tuple[Path, Path | None]] = []
    for source in sources:
        eegdash = str(source).startswith("eegdash:")
        path = _eegdash(str(source).partition(":")[2]) if eegdash else Path(source)
        if path.is_dir():
            found += [(recording, path) for recording in _in_folder(path, task)]
        elif path.exists():
            found.append((path, None))
        else:
            raise InputError(f"source {path} does not exist", hint="name recordings or a BIDS folder")
    named, notes = name_recordings(found, subject=subject)
    items = [Recording(path=path, **vars(who)) for (path, _), who in zip(found, named, strict=True)]
    return Recordings(items=tuple(sorted(items, key=lambda item: (item.subject, item.run_id))), notes=notes)


def _in_folder(folder: Path, task: str) -> list[Path]:
    pattern = f"sub-*/**/*_task-{task}_*eeg.*" if task else "sub-*/**/*_eeg.*"
    paths = [path for path in sorted(folder.glob(pattern)) if path.name.lower().endswith(SUFFIXES)]
    if not paths:
        tasks = {
            m.group(1) for p in folder.glob("sub-*/**/*_eeg.*") if (m := re.search(r"_task-([A-Za-z0-9]+)", p.name))
        }
        hint = (
            f"it has the tasks {', '.join(sorted(tasks))}"
            if tasks
            else "a BIDS folder has sub-*/eeg/*_eeg.bdf or the like; other files are named one by one, with --subject"
        )
        raise InputError(f"{folder} holds no recording{f' of task {task}' if task else ''}", hint=hint)
    return paths


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
