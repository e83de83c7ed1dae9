"""Finding recordings: single files and BIDS folders."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.nearest import file_meant
from rtserve.signals.hbn import LEFT_OUT_BY_THE_KIT
from rtserve.signals.reading import FETCH, SUFFIXES, is_recording
from rtserve.signals.sidecars import entities
from rtserve.signals.subjects import name_recordings

__all__ = ["Recording", "Recordings", "find_recordings", "without_left_out"]


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
    lost: list[Path] = []
    for source in sources:
        eegdash = str(source).startswith("eegdash:")
        path = _eegdash(str(source).partition(":")[2]) if eegdash else Path(source)
        if path.is_dir() and not is_recording(path):
            found += [(recording, path) for recording in _in_folder(path, task)]
            lost += _not_fetched(path, task)
        elif path.exists():
            found.append((path, None))
        else:
            hint = FETCH if path.is_symlink() else file_meant(path, "name recordings or a BIDS folder")
            raise InputError(f"source {path} does not exist", hint=hint)
    found, parts = _first_parts(found)
    named, notes = name_recordings(found, subject=subject)
    if lost:
        notes = (*notes, f"{len(lost)} recordings are links to files that are not there and are left out (first: "
                 f"{lost[0].name}); datalad get or git annex get fetches them")  # fmt: skip
    if parts:
        notes = (*notes, f"{parts} files are later parts of a recording in several files, and read with its first")
    items = [Recording(path=path, **vars(who)) for (path, _), who in zip(found, named, strict=True)]
    return Recordings(items=tuple(sorted(items, key=lambda item: (item.subject, item.run_id))), notes=notes)


def _require_open(folder: Path) -> None:
    """Raise `InputError` where a folder of a subject cannot be listed: what is in it would be left out unsaid."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"folder {error.filename} cannot be read ({error.strerror})",
            hint="check its permissions; without it, recordings would be missing and nobody told",
        )

    for inner in (folder, *filter(Path.is_dir, sorted(folder.glob("sub-*")))):
        for _, below, _ in os.walk(inner, onerror=refuse):
            if inner == folder:
                below.clear()


def _in_folder(folder: Path, task: str) -> list[Path]:
    _require_open(folder)
    every = [
        path
        for path in sorted(folder.glob("sub-*/**/*_eeg.*"))
        if is_recording(path) and not path.name.startswith(".")  # ._sub-01_eeg.edf is what macOS leaves on shared disks
    ]
    paths = [path for path in every if not task or entities(path.name).get("task") == task]
    if not paths and (lost := _not_fetched(folder, task)):
        raise InputError(
            f"all {len(lost)} recordings of {folder} are links to files that are not there (first: {lost[0].name})",
            hint=FETCH,
        )
    if not paths:
        tasks = {entities(path.name).get("task", "") for path in every} - {""}
        hint = (
            f"it has the tasks {', '.join(sorted(tasks))}"
            if tasks
            else "a BIDS folder has sub-*/eeg/*_eeg.bdf or the like; other files are named one by one, with --subject"
        )
        raise InputError(f"{folder} holds no recording{f' of task {task}' if task else ''}", hint=hint)
    stems = Counter(path.with_name(path.name.partition(".")[0]) for path in paths)
    twice = next((stem for stem, n in stems.items() if n > 1), None)
    if twice is not None:
        both = " and ".join(path.name for path in paths if path.name.startswith(f"{twice.name}."))
        raise InputError(
            f"{folder} holds one recording in several formats: {both}",
            hint="keep one of them in the folder, or name the files to use one by one",
        )
    return paths


def _not_fetched(folder: Path, task: str) -> list[Path]:
    """Return the links named like a recording whose files are not there, as git-annex leaves them."""
    links = [path for path in sorted(folder.glob("sub-*/**/*_eeg.*")) if path.is_symlink() and not path.exists()]
    return [
        path
        for path in links
        if path.name.lower().endswith(SUFFIXES) and (not task or entities(path.name).get("task") == task)
    ]


def _first_parts(found: list[tuple[Path, Path | None]]) -> tuple[list[tuple[Path, Path | None]], int]:
    """Leave out later parts of a recording in several files, which MNE reads with the first; return how many.

    Names alone do not say it: x-1.fif may be another recording. A .fif names the file that goes on with it.
    """
    there = {path.resolve(): path for path, _ in found}
    later: set[Path] = set()
    for path, _ in found:
        if path.resolve() not in later and any(_earlier_part(other) & {path} for other in there.values()):
            later |= _parts_of(path) & set(there)
    return [(path, root) for path, root in found if path.resolve() not in later], len(later)


def _parts_of(path: Path) -> set[Path]:
    """Return the files that MNE reads with a .fif as its later parts; none where it cannot be read."""
    if not path.name.lower().endswith((".fif", ".fif.gz")):
        return set()
    import mne

    try:
        raw = mne.io.read_raw_fif(path, preload=False, on_split_missing="ignore", verbose="error")
    except Exception:  # what is wrong with it is said when it is read
        return set()
    return {Path(name).resolve() for name in raw.filenames} - {path.resolve()}


def _earlier_part(path: Path) -> set[Path]:
    """Return the names the part before this one may have: ``split-01`` for ``split-02``, ``x.fif`` for ``x-1.fif``."""
    names = set()
    if match := re.match(r"(.*_split-)(\d+)(.*)$", path.name):
        names.add(f"{match[1]}{int(match[2]) - 1:0{len(match[2])}}{match[3]}")
    if match := re.match(r"(.*)-(\d+)(\.fif(?:\.gz)?)$", path.name):
        names.add(f"{match[1]}-{int(match[2]) - 1}{match[3]}" if int(match[2]) > 1 else f"{match[1]}{match[3]}")
    return {path.with_name(name) for name in names}


def without_left_out(recordings: Sequence[Recording]) -> tuple[list[Recording], Counter[str]]:
    """Leave out the recordings of children that the contest's start kit leaves out, and count them."""
    kept = [r for r in recordings if entities(r.path.name).get("sub", "") not in LEFT_OUT_BY_THE_KIT]
    n = len(recordings) - len(kept)
    return kept, Counter({"recordings of children that the start kit leaves out (--left-out keep)": n} if n else {})


def _eegdash(dataset: str) -> Path:
    """Let EEGDash fetch a dataset; return its folder."""
    try:
        from eegdash import EEGDashDataset
    except ImportError:
        raise EnvironmentMissingError(
            "EEGDash is not installed", hint="pip install eegdash, or give a BIDS folder"
        ) from None
    cache = Path.home() / ".cache" / "eegdash"
    for record in EEGDashDataset(cache_dir=cache, dataset=dataset).datasets:
        record.raw  # noqa: B018 -- reading it is what downloads it
    return cache / dataset
