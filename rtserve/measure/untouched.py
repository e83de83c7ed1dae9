"""Windows that a search does not touch: what it gained is told on them, and on nothing else.

Folds of a cross-validation share their training people, so the spread between people says too little about what a
choice is worth: an interval from five folds held the true gain of a search in 74 to 87 % (nested standard errors repair
that at ten times the cost: Bates, Hastie and Tibshirani 2023, 10.1080/01621459.2023.2197686). People who had no say at
all give an ordinary paired difference of two fixed answers, with an ordinary interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtserve.measure.predict import as_windows
from rtserve.measure.resampling import Units
from rtserve.measure.signature import FEW
from rtserve.signals.windows import WindowSet

__all__ = ["HOLD_OUT", "Untouched", "set_aside"]

HOLD_OUT = 0.4
"""Share of people that are set aside where the file marks no test windows."""
MIN_PEOPLE = 2 * FEW
"""With fewer either part is too small: no one is set aside, and no interval is printed."""


@dataclass(frozen=True, kw_only=True)
class Untouched:
    """Windows to choose on and windows to tell on.

    Parameters
    ----------
    windows : WindowSet
        Both.
    chosen_on, told_on : ndarray of int
        Their indices; `told_on` is empty where there are too few people for both.
    where : str
        What is told on, in words.
    """

    windows: WindowSet
    chosen_on: np.ndarray
    told_on: np.ndarray
    where: str

    def splits(self, split: str) -> tuple[str, str]:
        """Return what signatures call the windows chosen on and those told on, of what was called `split`."""
        if not len(self.told_on):
            return split, split
        marks = _marks(self.windows)
        if len(marks) == len(self.windows):
            chosen, told = (np.unique(marks[index]) for index in (self.chosen_on, self.told_on))
            if not np.intersect1d(chosen, told).size:
                return (",".join(chosen) if split == "all" else split), ",".join(told)
        return f"{split} (chosen on)", f"{split} (set aside)"

    @property
    def units(self) -> Units:
        """The people that are told on."""
        subject = self.windows.subject
        mine = subject[self.told_on] if len(subject) == len(self.windows) else subject
        return Units.of(mine, len(self.told_on))


def set_aside(
    data: WindowSet,
    *,
    split: str = "all",
    share: float = HOLD_OUT,
    seed: int = 0,
    chose: np.ndarray | None = None,
) -> Untouched:
    """Return the windows that `split` names, parted: the file's test windows, else a share of the people, untouched.

    Parameters
    ----------
    data : WindowSet
        The whole file.
    split : str
        What to choose on. Test windows of the file are told on, unless they are what was asked for or share people
        with it.
    share : float
        Of people, where the file marks no test windows; 0 sets no one aside.
    seed : int
        Of the draw.
    chose : ndarray of bool, (n_windows,), optional
        Windows that chose an epoch of what is chosen from: they may choose again, but nothing is told on them.

    Raises
    ------
    InputError
        Where the file marks no such split.
    """
    chose = chose if chose is not None and len(chose) == len(data) else np.zeros(len(data), bool)
    marked = _by_mark(data, split, chose)
    if marked is not None and share > 0:
        return marked
    windows = as_windows(data, split=split)
    chose = chose if split == "all" else chose[_marks(data) == split]
    units = Units.of(windows.subject, len(windows))
    everyone, nobody = np.arange(len(windows)), np.empty(0, np.int64)
    if share <= 0 or units.count < MIN_PEOPLE:
        return Untouched(windows=windows, chosen_on=everyone, told_on=nobody, where="")
    order = np.random.default_rng(seed).permutation(units.count)
    clean = order[~np.isin(order, units.index[chose])]
    count = min(max(FEW, round(share * units.count)), units.count - FEW, len(clean))
    if count < FEW:
        return Untouched(windows=windows, chosen_on=everyone, told_on=nobody, where="")
    apart = clean[:count]
    told = np.isin(units.index, apart)
    where = f"{count} {units.over} set aside"
    return Untouched(windows=windows, chosen_on=everyone[~told], told_on=everyone[told], where=where)


def _by_mark(data: WindowSet, split: str, chose: np.ndarray) -> Untouched | None:
    """Return the parts by the file's own test marks, or None where they cannot be told on."""
    marks = _marks(data)
    if marks.shape != (len(data),) or split == "test" or "test" not in marks:
        return None
    if split != "all":
        as_windows(data, split=split)
    kept = np.flatnonzero(((marks == "test") & ~chose) | ((marks != "test") & ((marks == split) | (split == "all"))))
    windows, test = data.take(kept), marks[kept] == "test"
    if test.all() or not test.any() or _shared(windows, test) or len(np.unique(windows.subject[test])) < FEW:
        return None
    chosen_on, told_on = np.flatnonzero(~test), np.flatnonzero(test)
    where = f"{len(np.unique(windows.subject[test]))} subjects of the file's test windows"
    return Untouched(windows=windows, chosen_on=chosen_on, told_on=told_on, where=where)


def _marks(data: WindowSet) -> np.ndarray:
    return np.asarray(data.extra.get("split", np.empty(0, "U1"))).astype("U")


def _shared(windows: WindowSet, test: np.ndarray) -> bool:
    """Whether a subject is on both sides, or subjects are not known."""
    if len(windows.subject) != len(windows):
        return True
    return bool(np.intersect1d(windows.subject[test], windows.subject[~test]).size)
