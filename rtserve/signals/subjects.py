"""Who is who: subject, session and run of every recording, unique across all that is prepared together.

One id in two data sets is two people, so where several data sets are prepared a subject is called
``DATASET/sub-01``; a window says its data set besides, so that it is the same person whatever was prepared with it.
A recording whose name does not say whose it is counts as a person of its own, and that is *guessed*: several
recordings of one person would be several people then, and a split by subject over them would leak. Guessed subjects
are said to be so, in the window set too (``subject_source``), and `rtserve.signals.splits` refuses to split by them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.derived import described, homes_of, stated_sources
from rtserve.signals.labels import pairs_of
from rtserve.signals.patterns import Pattern, is_pattern, parse_pattern
from rtserve.signals.windows import WindowSet

__all__ = [
    "FIELDS",
    "GUESSED",
    "Named",
    "dataset_root",
    "is_guessed",
    "name_recordings",
    "people",
    "placed",
    "subjects_note",
]

FIELDS = ("subject", "session", "dataset", "run")
"""What ``--subject`` may take out of a file's name or path."""
GUESSED = "guessed"


@dataclass(frozen=True, kw_only=True)
class Named:
    """Whose a recording is.

    Parameters
    ----------
    subject, run_id : str
        Unique across everything prepared together.
    bare : str
        The subject's id within its data set, e.g. ``"sub-01"``.
    session, dataset : str
        Empty where not known.
    source : str
        How the subject is known: ``"bids"`` (the name says it), ``"pattern"`` or ``"named"`` (the user did), or
        `GUESSED`.
    root : Path or None
        Folder of its data set.
    """

    subject: str
    run_id: str
    bare: str
    session: str = ""
    dataset: str = ""
    source: str = "bids"
    root: Path | None = None


def name_recordings(
    found: Sequence[tuple[Path, Path | None]], *, subject: str = ""
) -> tuple[list[Named], tuple[str, ...]]:
    """Say whose each recording is.

    Parameters
    ----------
    found : sequence of (Path, Path or None)
        A recording, and the data set's folder where it came out of one; None for a file that was named itself.
    subject : str
        The user's word about files that were named themselves: one person's name, or a template or regular expression
        (`rtserve.signals.patterns`) over the file's name, or over as many folders above it as it has slashes.

    Returns
    -------
    list of Named
        One per recording.
    tuple of str
        What is worth saying about them.

    Raises
    ------
    InputError
        Where a recording is named twice, or the pattern does not fit a file.
    """
    _require_once([path for path, _ in found])
    pattern = parse_pattern(subject, FIELDS, option="--subject") if is_pattern(subject) else None
    if subject and found and all(root is not None for _, root in found):
        raise InputError(
            f"--subject {subject} is for single files, and every recording here comes from a BIDS folder",
            hint="leave it out: the names of a BIDS folder's files say their subject",
        )
    roots = [root.resolve() if root else (None if subject else dataset_root(path)) for path, root in found]
    homes = homes_of(root for root in roots if root is not None)
    labels = _labels(set(homes.values()))
    several = len(labels) > 1
    named = []
    for (path, folder), root in zip(found, roots, strict=True):
        one = _by_user(path, subject, pattern) if subject and folder is None else _by_name(path)
        named.append(replace(one, dataset=labels[homes[root]], root=root) if root is not None else one)
    if several:
        named = [
            replace(n, subject=f"{n.dataset}/{n.subject}", run_id=f"{n.dataset}/{n.run_id}") if n.dataset else n
            for n in named
        ]
    paths = [path for path, _ in found]
    named = _apart(named, paths, roots)
    notes = _notes(named, paths, names_alone=pattern is not None and not pattern.depth)
    return named, (*notes, *_notes_on_homes(homes, set(roots)))


def _require_once(paths: list[Path]) -> None:
    twice = [path for path, n in Counter(path.resolve() for path in paths).items() if n > 1]
    if twice:
        raise InputError(f"recording {twice[0]} is named twice", hint="name every file and folder once")


def placed(path: Path) -> Path:
    """Return where a path stands, whole and without ``..``: a link's own place, not that of what it leads to.

    Who a recording is of is said by the folders that the user sees; the same file may be stored anywhere.
    """
    parts = path.absolute().parts
    up = max((k for k, part in enumerate(parts) if part == ".."), default=-1)
    return Path(*parts[: up + 1]).resolve().joinpath(*parts[up + 1 :]) if up >= 0 else path.absolute()


def dataset_root(path: Path) -> Path | None:
    """Return the BIDS data set that a file lies in, or None; for a link that lies in none, that of its file."""
    found = _root_above(placed(path)) or _root_above(path.resolve())
    return found.resolve() if found else None


def _root_above(path: Path) -> Path | None:
    folders = list(path.parents)
    described = next((folder for folder in folders if (folder / "dataset_description.json").is_file()), None)
    if described is not None:
        return described
    # sub-01/eeg/FILE or sub-01/ses-02/eeg/FILE in a folder without a description.
    own = next((f for f in folders[:3] if f.name.startswith("sub-") and path.name.startswith(f"{f.name}_")), None)
    return own.parent if own else None


def _labels(roots: set[Path]) -> dict[Path, str]:
    """Return a name for every data set: its description's, else its folder's; with more of its path where two agree."""
    names = {root: _slug(_named(root) or root.name) or "dataset" for root in roots}
    for depth in range(1, 1 + max((len(root.parts) for root in roots), default=0)):
        counts = Counter(names.values())
        if max(counts.values(), default=0) < 2:
            break
        names = {
            root: name if counts[name] < 2 else f"{name.partition('@')[0]}@{_slug('-'.join(root.parts[1:][-depth:]))}"
            for root, name in names.items()
        }
    return names


def _named(root: Path) -> str:
    name = described(root).get("Name", "")
    return name if isinstance(name, str) else ""


def _slug(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.")


def _stem(path: Path) -> str:
    """Return the file's name without its ending."""
    # A name that is not UTF-8, as on old disks, is written with \\x..: text files and HDF5 hold nothing else.
    name = os.fsencode(path.name).decode("utf-8", "backslashreplace").removesuffix(".gz")
    return name[: -len(Path(name).suffix)] if Path(name).suffix else name


def _by_name(path: Path) -> Named:
    stem = _stem(path)
    run_id = re.sub(r"_split-\d+", "", stem).removesuffix("_eeg")  # all parts of a file are one recording
    own = next((f.name for f in list(placed(path).parents)[:3] if f.name.startswith("sub-")), "")
    subject = own if own and stem.startswith(f"{own}_") else ""  # the folder knows, whatever letters the id has
    entity = re.match(rf"({re.escape(subject) or 'sub-[^_]+'})(?:_ses-([^_]+))?(?=_|$)", stem)
    if entity is None:
        return Named(subject=run_id, run_id=run_id, bare=run_id, source=GUESSED)
    return Named(subject=entity[1], run_id=run_id, bare=entity[1], session=entity[2] or "")


def _by_user(path: Path, subject: str, pattern: Pattern | None) -> Named:
    run_id = _stem(path).removesuffix("_eeg")
    if pattern is None:
        session = _by_name(path).session
        return Named(subject=subject, run_id=run_id, bare=subject, session=session, source="named")
    above = placed(path).parts[1:-1][-pattern.depth :] if pattern.depth else ()
    texts = ["/".join((*above, name)) for name in (_stem(path), path.name)]
    fields = next((found for text in texts if (found := pattern.match(text)) is not None), None)
    if fields is None or not fields.get("subject"):
        raise InputError(
            f"--subject {pattern.text!r} does not fit {texts[1]}",
            hint="it must fit every file that is named itself; '{subject}_*' takes what stands before the first _",
        )
    dataset = fields.get("dataset", "")
    whole = f"{dataset}/{fields['subject']}" if dataset else fields["subject"]
    return Named(
        subject=whole, run_id=f"{dataset}/{run_id}" if dataset else run_id, bare=fields["subject"],
        session=fields.get("session", ""), dataset=dataset, source="pattern",
    )  # fmt: skip


def _apart(named: list[Named], paths: list[Path], roots: list[Path | None]) -> list[Named]:
    """Make run ids differ, and tell one BIDS id in two folders that are no data set apart, as a guess."""
    homes: dict[str, set[Path]] = {}
    for one, path, root in zip(named, paths, roots, strict=True):
        if one.source == "bids":
            homes.setdefault(one.subject, set()).add(root or placed(path).parent)
    # Only loose files can share a subject across folders here: data sets carry their name already.
    unsure = {subject for subject, folders in homes.items() if len(folders) > 1}
    named = [
        replace(one, subject=f"{placed(path).parent.name}/{one.subject}", source=GUESSED)
        if one.source == "bids" and one.subject in unsure and root is None
        else one
        for one, path, root in zip(named, paths, roots, strict=True)
    ]
    deepest = max((len(placed(path).parts) for path in paths), default=0)
    for depth in range(2, deepest):
        counts = Counter(one.run_id for one in named)
        if max(counts.values(), default=0) < 2:
            break
        named = [
            one if counts[one.run_id] < 2 else _renamed(one, path, depth)
            for one, path in zip(named, paths, strict=True)
        ]
    return named


def _renamed(one: Named, path: Path, depth: int) -> Named:
    """Return the recording called by more of its path; a guessed subject is its recording."""
    parts = placed(path).parts
    run_id = "/".join((*parts[-depth:-1], _stem(path).removesuffix("_eeg")))
    if run_id == one.run_id:  # two files of one name in one folder, e.g. a.edf and a.bdf
        run_id = "/".join(parts[-depth:])
    alone = one.source == GUESSED and one.bare == one.subject
    return replace(one, run_id=run_id, subject=run_id, bare=run_id) if alone else replace(one, run_id=run_id)


def _notes(named: list[Named], paths: list[Path], *, names_alone: bool) -> tuple[str, ...]:
    """Return what is worth saying; a pattern over files' names alone may join people of several folders."""
    guessed = [one for one in named if one.source == GUESSED]
    out = []
    if guessed and len(named) > 1:
        n_people = len({one.subject for one in guessed})
        out.append(
            f"{len(guessed)} files do not say whose they are: taken for {n_people} people, which is GUESSED"
            f" (first: {guessed[0].subject}); name them with --subject PATTERN, e.g. '{{subject}}_*'"
        )
    folders: dict[str, set[Path]] = {}
    for one, path in zip(named, paths, strict=True):
        if names_alone and one.source == "pattern" and not one.dataset:
            folders.setdefault(one.subject, set()).add(placed(path).parent)
    spread = sorted(subject for subject, places in folders.items() if len(places) > 1)
    if spread:
        out.append(
            f"{len(spread)} subjects are in more than one folder (first: {spread[0]}) and taken for one person each;"
            " {dataset} in --subject keeps folders apart"
        )
    return tuple(out)


def _notes_on_homes(homes: dict[Path, Path], roots: set[Path | None]) -> tuple[str, ...]:
    """Return what is to be said of data sets that are made of others."""
    several = len(set(homes.values())) > 1
    unknown = [(root, said[0]) for root, home in homes.items() if root == home and (said := stated_sources(root))]
    lost = tuple(
        f"{root} is derived from {said}, by its SourceDatasets: if that is one of the other data sets, its people are"
        " taken for others; prepare it alone then"
        for root, said in unknown
        if several
    )
    return lost + tuple(
        f"{root} is derived from {home.name}: its subjects are those of {home.name}"
        + (", and their recordings are here twice" if home in roots else "")
        for root, home in sorted(homes.items())
        if root != home
    )


def is_guessed(windows: WindowSet) -> bool:
    """Whether the subjects of a window set are only guessed: one per file, because nothing says whose it is."""
    return str(windows.extra.get("subject_source", "")) == GUESSED


def subjects_note(windows: WindowSet) -> str:
    """Return what a figure over guessed subjects must say, or ``""``."""
    if not is_guessed(windows) or not windows.subject.size:
        return ""
    n = len(np.unique(windows.subject))
    return (
        f"the {n} subjects are guessed, one per file: if some are one person, intervals are too short and a split leaks"
    )


def people(windows: WindowSet, *, bare: bool = False) -> np.ndarray:
    """Return who each window is of, as ``DATASET/id`` where the data set is known: the same in every set prepared.

    Parameters
    ----------
    windows : WindowSet
        With ``subject``, and perhaps ``dataset``.
    bare : bool
        Leave the data set out.

    Returns
    -------
    ndarray of str, (n_windows,)
        Empty where subjects are not known. ``sub-01`` and ``01`` are one id.
    """
    subject = windows.subject.astype("U")
    if not subject.size:
        return subject
    dataset = np.asarray(windows.extra.get("dataset", np.empty(0, "U1"))).astype("U")
    known = dataset.shape == subject.shape
    pairs, which = pairs_of(subject, dataset if known else np.zeros(len(subject), "U1"))
    names = []
    for whole, home in pairs:
        own = (whole.removeprefix(f"{home}/") if home else whole).strip().removeprefix("sub-")
        names.append(f"{home}/{own}" if home and not bare else own)
    found: np.ndarray = np.array(names, "U")[which]
    return found
