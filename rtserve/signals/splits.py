"""Splitting windows into train, valid and test so that a score means something.

Windows of one subject are alike: a split that puts some of them in train and others in test scores how well a network
recognises people (on the real cueing set about 0.86 with no information in the EEG at all). So the default keeps
subjects apart; splitting by run keeps recordings apart and says that the subjects are the same; splitting by window is
refused where subjects or runs are known, unless the caller insists, and then it is marked leaking for good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtserve.errors import InputError
from rtserve.nearest import meant
from rtserve.signals.labels import in_two
from rtserve.signals.stored import fingerprints
from rtserve.signals.subjects import is_guessed, people
from rtserve.signals.windows import WindowSet

__all__ = ["PARTS", "Split", "find_leaks", "folds", "make_split", "split_from_marks"]

PARTS = ("train", "valid", "test")
WAYS = ("subject", "run", "window")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which window belongs to which part.

    Parameters
    ----------
    marks : ndarray of str, (n_windows,)
        ``"train"``, ``"valid"`` or ``"test"``.
    by : str
        What was kept whole: ``"subject"``, ``"run"``, ``"window"``, or ``"file"`` for the file's own marks.
    seed : int
        Of the shuffling.
    leaks : tuple of str
        Why a score on this split cannot be believed; empty for an honest one.
    """

    marks: np.ndarray
    by: str
    seed: int = 0
    leaks: tuple[str, ...] = ()

    def part(self, name: str) -> np.ndarray:
        """Return the indices (n,) of one of `PARTS`."""
        return np.flatnonzero(self.marks == name)

    @property
    def digest(self) -> str:
        """SHA-256 of the marks: the name of exactly this split."""
        return hashlib.sha256("\0".join(self.marks.tolist()).encode()).hexdigest()

    @property
    def label(self) -> str:
        """What a signature says of the split, e.g. ``"subject-3f2a9c01"``; a leaking one says so."""
        return f"{'LEAKING-' if self.leaks else ''}{self.by}-{self.digest[:8]}"


def make_split(
    windows: WindowSet,
    *,
    by: str = "subject",
    fractions: Sequence[float] = (0.64, 0.16, 0.2),
    seed: int = 0,
    allow_leakage: bool = False,
    trust_subjects: bool = False,
) -> Split:
    """Split windows into train, valid and test.

    Parameters
    ----------
    windows : WindowSet
        With ``subject`` or ``run_id`` for what `by` asks.
    by : str
        ``"subject"``, ``"run"`` or ``"window"``.
    fractions : sequence of 3 float
        Shares of the windows; whole subjects or runs are dealt out, so the real shares differ a little.
    seed : int
        Same seed, same split.
    allow_leakage : bool
        Accept a split by window although subjects or runs are known.
    trust_subjects : bool
        Take guessed subjects (one per file, `rtserve.signals.subjects`) for right: the caller knows that they are.

    Raises
    ------
    InputError
        Where the groups are unknown, only guessed or too few, or the split would leak.
    """
    if by not in WAYS:
        raise InputError(f"cannot split by {by!r}", hint=meant(by, WAYS, f"use one of {', '.join(WAYS)}"))
    shares = np.asarray(fractions, float)
    if shares.shape != (3,) or (shares <= 0).any() or not np.isclose(shares.sum(), 1.0):
        raise InputError(f"fractions {list(fractions)} are not three positive shares of 1", hint="e.g. 0.64,0.16,0.2")
    _require_known(windows, by, trust_subjects)
    groups = _groups(windows, by)
    marks = _deal(groups, shares, np.random.default_rng(seed), by)
    return _checked(windows, Split(marks=marks, by=by, seed=seed), allow_leakage=allow_leakage)


def split_from_marks(windows: WindowSet, *, allow_leakage: bool = False) -> Split | None:
    """Return the split that the file carries in its array ``split``, or None where it carries none.

    Raises
    ------
    InputError
        Where a mark is unknown, a part is empty, or the split leaks.
    """
    marks = np.asarray(windows.extra.get("split", np.empty(0, "U1"))).astype("U")
    if marks.shape != (len(windows),):
        return None
    unknown = sorted(set(marks.tolist()) - set(PARTS))
    if unknown:
        raise InputError(f"the file marks windows {unknown[0]!r}", hint=f"marks are {', '.join(PARTS)}")
    empty = [part for part in PARTS if part not in marks]
    if empty:
        raise InputError(f"the file marks no window {empty[0]!r}", hint="split it anew with --split subject")
    return _checked(windows, Split(marks=marks, by="file"), allow_leakage=allow_leakage)


def folds(
    windows: WindowSet, *, by: str = "subject", n_folds: int = 5, valid: float = 0.2, trust_subjects: bool = False
) -> list[Split]:
    """Return a cross-validation: each group is tested once, groups in order of appearance are dealt out contiguously.

    Parameters
    ----------
    windows : WindowSet
        What to split.
    by : str
        ``"subject"`` or ``"run"``.
    n_folds : int
        At most the number of groups.
    valid : float
        Share of the groups not tested that is set aside for early stopping, at least one where there are three or more.
    trust_subjects : bool
        As in `make_split`.

    Raises
    ------
    InputError
        Where there are fewer groups than folds, or subjects are only guessed.
    """
    _require_known(windows, by, trust_subjects)
    groups = _groups(windows, by)
    names = list(dict.fromkeys(groups.tolist()))
    if not 2 <= n_folds <= len(names):
        raise InputError(f"{n_folds} folds over {len(names)} {by}s", hint="at least 2, at most one per group")
    out = []
    for tested in np.array_split(np.arange(len(names)), n_folds):
        rest = [name for i, name in enumerate(names) if i not in tested]
        n_valid = max(1, round(valid * len(rest))) if len(rest) > 1 else 0
        # The groups right after the tested ones, so that every group helps to stop about as often.
        later = [rest[(int(tested[0]) + i) % len(rest)] for i in range(n_valid)]
        marks = np.where(np.isin(groups, [names[i] for i in tested]), "test", "train")
        marks = np.where(np.isin(groups, later), "valid", marks)
        out.append(_checked(windows, Split(marks=marks, by=by), allow_leakage=False))
    return out


def find_leaks(windows: WindowSet, split: Split) -> tuple[str, ...]:
    """Return the reasons why `split` leaks between its parts; empty if it does not.

    Subjects in two parts are a leak except where the split was made by run, which keeps recordings apart knowingly.
    Windows that occur twice, sample for sample, in different parts always are.
    """
    reasons = []
    if split.by != "run":
        reasons += _shared(people(windows), split.marks, "subjects")
    if windows.run_id.size:
        reasons += _shared(_groups(windows, "run"), split.marks, "runs")
    twice = len(in_two(fingerprints(windows.X), split.marks))
    reasons += [f"{twice} identical windows are in more than one part"] if twice else []
    return tuple(reasons)


def _shared(labels: np.ndarray, marks: np.ndarray, what: str) -> list[str]:
    if not labels.size:
        return []
    twice = in_two(labels.astype("U"), marks)
    return [f"{len(twice)} {what} are in more than one part (first: {twice[0]})"] if len(twice) else []


def _checked(windows: WindowSet, split: Split, *, allow_leakage: bool) -> Split:
    leaks = find_leaks(windows, split)
    if leaks and not allow_leakage:
        raise InputError(
            f"the split by {split.by} leaks: {'; '.join(leaks)}; its score would say how well people are recognised",
            hint="split by subject, or by run within subjects; --allow-leakage goes on and marks every figure",
        )
    return Split(marks=split.marks, by=split.by, seed=split.seed, leaks=leaks)


def _require_known(windows: WindowSet, by: str, trust_subjects: bool) -> None:
    """Refuse to keep people apart whom nobody named: recordings of one person would be in several parts."""
    if by != "subject" or trust_subjects or not is_guessed(windows):
        return
    names = list(dict.fromkeys(windows.subject.tolist()))
    raise InputError(
        f"the {len(names)} subjects are only guessed, one per file ({', '.join(names[:3])}{', ...' * (len(names) > 3)}):"
        " if some are one person, a split by subject leaks and its score says how well people are recognised",
        hint="prepare again with --subject PATTERN, or --split run; --trust-subjects says that each file is another"
        " person's",
    )


def _groups(windows: WindowSet, by: str) -> np.ndarray:
    if by == "window":
        return np.arange(len(windows)).astype("U")
    labels = people(windows) if by == "subject" else windows.run_id.astype("U")
    if not labels.size:
        raise InputError(f"the windows do not say their {by}", hint="add it to the file, or split by something known")
    if by == "run" and windows.subject.size:
        return np.char.add(np.char.add(people(windows), "/"), labels)
    return labels


def _deal(groups: np.ndarray, shares: np.ndarray, rng: np.random.Generator, by: str) -> np.ndarray:
    """Deal shuffled groups out to the part that lacks most of its share."""
    names, counts = np.unique(groups, return_counts=True)
    if len(names) < len(PARTS):
        other = {"subject": "split by run", "run": "split by subject"}.get(by, "give more windows")
        raise InputError(
            f"{len(names)} {by}(s) cannot be split into train, valid and test", hint=f"3 or more; or {other}"
        )
    order = rng.permutation(len(names))
    have, wanted = np.zeros(3), shares * counts.sum()
    part_of = np.empty(len(names), int)
    for position, group in enumerate(order):
        left = len(order) - position
        empty = np.flatnonzero(have == 0)
        part = int(empty[0]) if left <= len(empty) else int(np.argmax((wanted - have) / wanted))
        part_of[group] = part
        have[part] += counts[group]
    marks: np.ndarray = np.array(PARTS)[part_of[np.searchsorted(names, groups)]]
    return marks
